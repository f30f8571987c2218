//! Checks that values of issued credentials are shown only to their owner.

use std::collections::{BTreeMap, BTreeSet};

use arcp_proto::id::{ConnId, JobId};
use arcp_proto::model::credential::Revocation;
use arcp_proto::runtime::Output;

/// The prefix of every issued value; the id of its job follows.
pub const CANARY: &str = "sk-canary-";

/// The owners of jobs with credentials, by token.
#[derive(Debug, Default)]
pub struct Canaries {
    owners: BTreeMap<String, String>,
    /// Jobs whose values are revoked, and single revoked values, as they are written in JSON.
    over: BTreeSet<String>,
}

impl Canaries {
    /// Watches an output; `tokens`: the token of each connection.
    ///
    /// # Panics
    ///
    /// If the output shows a value to anybody but the owner and the host that needs it, or shows a value that the host
    /// was asked to revoke before.
    pub fn output(&mut self, output: &Output, tokens: &BTreeMap<ConnId, String>) {
        if let Output::IssueCredentials { order, .. } = output {
            self.owners.insert(order.job.to_string(), format!("tok-{}", order.principal));
        }
        // No credential was issued yet.
        if self.owners.is_empty() {
            return;
        }
        if let Output::Send { conn, frame } = output {
            for job in owners_of(frame) {
                let owner = self.owners.get(&job.to_string());
                assert!(!self.over.contains(&job.to_string()), "a value of {job}, which is revoked: {frame}");
                assert!(owner.is_some(), "a value of {job}, which has none: {frame}");
                assert_eq!(tokens.get(conn), owner, "a value of {job} on the connection of somebody else: {frame}");
            }
            assert!(
                !self.over.iter().any(|value| value.starts_with('"') && frame.contains(value)),
                "it is revoked: {frame}"
            );
            return;
        }
        if let Output::RevokeCredentials { job, what, .. } = output {
            self.over.extend(match what {
                Revocation::All => Some(job.to_string()),
                Revocation::Value { value, .. } => Some(format!("\"{}\"", value.expose())),
                Revocation::Some(_) => None,
            });
        }
        // The host may need values in these outputs; but their debug text may be logged, and must not contain any.
        let shown = format!("{output:?}");
        assert!(!shown.contains(CANARY), "a value in a log: {shown}");
        if let Output::Persist(batch) = output {
            let text = serde_json::to_string(batch).expect("JSON");
            assert!(!text.contains(CANARY), "a value in the store: {text}");
        }
    }
}

/// The jobs whose values a text contains.
fn owners_of(text: &str) -> Vec<JobId> {
    let after = text.split(CANARY).skip(1);
    after.map(|rest| JobId::parse(rest.get(..30).unwrap_or_default()).expect("a value names its job")).collect()
}
