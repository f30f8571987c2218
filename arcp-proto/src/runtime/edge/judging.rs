//! Credentials that are being judged, of peers with a session and without.

use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::error::{BoundOf, Violation};
use crate::id::{ConnId, OpId};
use crate::model::request::Credential;
use crate::runtime::context::Context;
use crate::runtime::io::Output;

#[derive(Debug, Default)]
pub(in crate::runtime) struct Judging(BTreeMap<OpId, ConnId>);

impl Judging {
    /// Has a credential judged, also where its peer leaves meanwhile.
    ///
    /// # Errors
    ///
    /// If too many are.
    pub(in crate::runtime) fn ask(
        &mut self,
        ctx: &mut Context,
        conn: ConnId,
        credential: Credential,
        challenge: Option<String>,
    ) -> Result<OpId, Violation> {
        let most = ctx.config.limits.connection.handshaking_connections;
        if self.0.len() >= most {
            let full = "too many credentials are being judged: try again later";
            return Err(Violation::exhausted("handshaking_connections", BoundOf::Runtime, most as u64, full));
        }
        let op = ctx.next_op();
        self.0.insert(op, conn);
        ctx.output(Output::Authenticate { op, conn, credential, challenge });
        Ok(op)
    }

    /// A credential was judged; gives for which connection.
    pub(in crate::runtime) fn take(&mut self, op: OpId) -> Option<ConnId> {
        self.0.remove(&op)
    }
}
