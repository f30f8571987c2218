//! Credentials that are being judged, of peers with a session and without.

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
    /// Has a credential judged, also where its peer leaves meanwhile.
    ///
    /// # Errors
    ///
    /// If too many are, or too many of its sources were wrong.
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

    /// Peers that leave before they are judged are connections no more: how many
    /// there are of their network, or user, still bounds them.
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

    /// For which connection a credential is judged.
    pub(in crate::runtime) fn conn(&self, op: OpId) -> Option<ConnId> {
        self.asked.get(&op).map(|asked| asked.conn)
    }

    /// From which network a credential came, if it came from one.
    pub(in crate::runtime) fn network(&self, op: OpId) -> Option<Network> {
        let mut sources = self.asked.get(&op)?.sources.iter();
        sources.find_map(|source| if let Source::Network(network) = source { Some(*network) } else { None })
    }

    /// A credential was judged, and counts or does not.
    pub(in crate::runtime) fn settle(&mut self, ctx: &Context, op: OpId, counts: bool) {
        let Some(Asked { conn: _, sources, credential }) = self.asked.remove(&op).expected("it is being judged") else {
            return;
        };
        self.note(ctx, &sources, credential, counts);
    }

    /// Nobody could judge a credential: that says nothing of whoever sent it.
    pub(in crate::runtime) fn give_up(&mut self, op: OpId) {
        self.asked.remove(&op);
    }

    /// Whether a credential would be judged that came from an address.
    ///
    /// # Errors
    ///
    /// If too many that came from there were wrong.
    pub(in crate::runtime) fn check(
        &self,
        (config, now): (&Config, Timestamp),
        address: IpAddr,
        credential: SecretDigest,
    ) -> Result<(), Violation> {
        self.wrong.check((config, now), &[Source::of(address)], credential)
    }

    /// A credential of these sources was judged.
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
