//! Credentials that are being judged, of peers with and without a session.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::wrong_credentials::{Source, WrongCredentials};
use crate::error::{BoundOf, Violation};
use crate::id::{ConnId, OpId};
use crate::model::request::Credential;
use crate::principal::Network;
use crate::runtime::config::Config;
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::Output;
use crate::secret::SecretDigest;
use crate::time::Timestamp;

#[derive(Debug, Default)]
pub(in crate::runtime) struct Judging {
    asked: BTreeMap<OpId, Asked>,
    wrong: WrongCredentials,
}

#[derive(Debug)]
struct Asked {
    conn: ConnId,
    sources: Vec<Source>,
    credential: SecretDigest,
}

impl Judging {
    /// Has a credential judged; the verdict counts even if its peer leaves meanwhile.
    ///
    /// # Errors
    ///
    /// If too many are being judged, or too many of its sources were wrong.
    pub(in crate::runtime) fn ask(
        &mut self,
        ctx: &mut Context,
        conn: ConnId,
        (credential, challenge): (Credential, Option<String>),
        sources: Vec<Source>,
    ) -> Result<OpId, Violation> {
        let most = ctx.config.limits.connection.handshaking_connections;
        if self.asked.len() >= most {
            let full = "too many credentials are being judged: try again later";
            return Err(Violation::exhausted("handshaking_connections", BoundOf::Runtime, most as u64, full));
        }
        self.admit(ctx, &sources)?;
        let digest = credential.digest();
        self.wrong.check((&ctx.config, ctx.now.mono), &sources, digest)?;
        let op = ctx.next_op();
        self.asked.insert(op, Asked { conn, sources, credential: digest });
        ctx.output(Output::Authenticate { op, conn, credential, challenge });
        Ok(op)
    }

    /// Bounds how many credentials of a network, or user, are judged at once. Peers that left
    /// before their verdict count, although their connections do not.
    fn admit(&self, ctx: &Context, sources: &[Source]) -> Result<(), Violation> {
        let most = ctx.config.limits.connection.handshaking_connections_per_network;
        let shared = sources.iter().filter(|source| matches!(source, Source::Network(_) | Source::User(_)));
        let of = |source: &Source| self.asked.values().filter(|asked| asked.sources.contains(source)).count();
        if shared.map(of).all(|judged| judged < most) {
            return Ok(());
        }
        let full = "too many credentials that came from your network are being judged: try again later";
        Err(Violation::exhausted("handshaking_connections_per_network", BoundOf::Network, most as u64, full))
    }

    /// The connection for which a credential is judged.
    pub(in crate::runtime) fn conn(&self, op: OpId) -> Option<ConnId> {
        self.asked.get(&op).map(|asked| asked.conn)
    }

    /// The network from which a credential came, if any.
    pub(in crate::runtime) fn network(&self, op: OpId) -> Option<Network> {
        let mut sources = self.asked.get(&op)?.sources.iter();
        sources.find_map(|source| if let Source::Network(network) = source { Some(*network) } else { None })
    }

    /// Notes the verdict on a credential.
    pub(in crate::runtime) fn settle(&mut self, ctx: &Context, op: OpId, counts: bool) {
        let Some(Asked { conn: _, sources, credential }) = self.asked.remove(&op).expected("it is being judged") else {
            return;
        };
        self.note(ctx, &sources, credential, counts);
    }

    /// Notes that a credential could not be judged, which does not count against its sources.
    pub(in crate::runtime) fn give_up(&mut self, op: OpId) {
        self.asked.remove(&op);
    }

    /// Whether a credential from this address would be judged.
    ///
    /// # Errors
    ///
    /// If too many from there were wrong.
    pub(in crate::runtime) fn check(
        &self,
        (config, now): (&Config, Timestamp),
        address: IpAddr,
        credential: SecretDigest,
    ) -> Result<(), Violation> {
        self.wrong.check((config, now), &[Source::of(address)], credential)
    }

    /// Notes the verdict on a credential of these sources.
    pub(in crate::runtime) fn note(
        &mut self,
        ctx: &Context,
        sources: &[Source],
        credential: SecretDigest,
        counts: bool,
    ) {
        if counts {
            self.wrong.note_right(&ctx.config, credential);
        } else {
            self.wrong.note_wrong((&ctx.config, ctx.now.mono), sources, credential);
        }
    }
}
