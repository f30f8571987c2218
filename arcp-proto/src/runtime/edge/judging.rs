//! Credentials that are being judged, of peers with a session and without.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::wrong_credentials::{Source, WrongCredentials};
use crate::error::{BoundOf, Violation};
use crate::id::{ConnId, OpId};
use crate::model::request::Credential;
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::Output;
use crate::secret::SecretDigest;

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
        let digest = digest_of(&credential);
        self.wrong.check((&ctx.config, ctx.now.mono), &sources, digest)?;
        let op = ctx.next_op();
        self.asked.insert(op, Asked { conn, sources, credential: digest });
        ctx.output(Output::Authenticate { op, conn, credential, challenge });
        Ok(op)
    }

    /// For which connection a credential is judged.
    pub(in crate::runtime) fn conn(&self, op: OpId) -> Option<ConnId> {
        self.asked.get(&op).map(|asked| asked.conn)
    }

    /// A credential was judged, and counts or does not.
    pub(in crate::runtime) fn settle(&mut self, ctx: &Context, op: OpId, counts: bool) {
        let Some(Asked { conn: _, sources, credential }) = self.asked.remove(&op).expected("it is being judged") else {
            return;
        };
        if counts {
            self.wrong.note_right(&ctx.config, credential);
        } else {
            self.wrong.note_wrong((&ctx.config, ctx.now.mono), &sources);
        }
    }
}

fn digest_of(credential: &Credential) -> SecretDigest {
    match credential {
        Credential::Bearer(token) | Credential::Other { scheme: _, token } => token.digest(),
        Credential::Anonymous => SecretDigest([0; 32]),
    }
}
