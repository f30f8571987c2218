//! Who issues credentials in a world, and what counts of them.

use std::collections::BTreeMap;

use arcp_proto::id::{JobId, OpId};
use arcp_proto::model::credential::{CredentialOrder, Issuance, ProvisionedCredential, Revocation};
use arcp_proto::runtime::Input;
use arcp_proto::secret::Secret;

use super::{Event, World};
use crate::canaries::CANARY;

/// What it was asked to do, and what becomes of that.
#[derive(Debug)]
pub struct Provisioner {
    /// Credentials that it issues for each job.
    pub issues: usize,
    /// Why it issues none, if it does not: the last of them counts all the same, as of
    /// an answer that was lost.
    pub fails: Option<String>,
    /// Whether it is at too much already, and begins with nothing.
    pub busy: bool,
    /// What its values end with.
    pub suffix: String,
    /// Whether it does not say what it has issued.
    pub silent: bool,
    /// How often it cannot revoke from now on.
    pub cannot_revoke: usize,
    /// Whether it does not say that it has revoked.
    pub mute: bool,
    /// What was ordered, in order.
    pub ordered: Vec<CredentialOrder>,
    /// How often it was asked to revoke, by job.
    pub revocations: BTreeMap<JobId, usize>,
    /// Values that count, by job, with the ids of their credentials.
    pub counting: BTreeMap<(JobId, String), String>,
    /// How many values it has given to credentials that had one.
    pub renewed: usize,
    /// What it has not said, to be [said](World::say_issued) late.
    unsaid: Vec<Input>,
}

impl Default for Provisioner {
    fn default() -> Provisioner {
        Provisioner {
            issues: 1,
            fails: None,
            busy: false,
            suffix: String::new(),
            silent: false,
            cannot_revoke: 0,
            mute: false,
            ordered: Vec::new(),
            revocations: BTreeMap::new(),
            counting: BTreeMap::new(),
            renewed: 0,
            unsaid: Vec::new(),
        }
    }
}

impl Provisioner {
    /// Whether a credential of a job counts.
    pub fn counts(&self, job: JobId) -> bool {
        self.counting.keys().any(|(of, _)| *of == job)
    }

    fn issue(&mut self, order: &CredentialOrder, n: usize) -> ProvisionedCredential {
        let (id, value) = match order.renews.as_deref() {
            None => (format!("cred-{n}"), format!("{CANARY}{}-{n}{}", order.job, self.suffix)),
            Some(renewal) => {
                self.renewed += 1;
                let own = || format!("{CANARY}{}-r{}{}", order.job, self.renewed, self.suffix);
                (renewal.id.clone(), renewal.value.as_ref().map_or_else(own, |value| value.expose().into()))
            }
        };
        self.counting.insert((order.job, value.clone()), id.clone());
        ProvisionedCredential {
            id,
            scheme: "bearer".into(),
            value: Secret::new(value),
            endpoint: "http://models.test/v1".into(),
            profile: Some("generic".into()),
            constraints: Some(order.constraints()),
        }
    }
}

impl World {
    pub(super) fn issue_credentials(&mut self, op: OpId, order: CredentialOrder) {
        let provisioner = &mut self.provisioner;
        if provisioner.busy {
            let issuance = Issuance::Busy;
            return self.later(Event::ToRuntime(Input::CredentialsIssued { op, issuance }));
        }
        // One that fails may have issued all the same.
        let issued = (1..=provisioner.issues).map(|n| provisioner.issue(&order, n)).collect();
        provisioner.ordered.push(order);
        let issuance = match provisioner.fails.clone() {
            Some(reason) => Issuance::Failed { is_exhausted: reason.contains("budget"), reason },
            None => Issuance::Issued(issued),
        };
        let said = Input::CredentialsIssued { op, issuance };
        match provisioner.silent {
            true => provisioner.unsaid.push(said),
            false => self.later(Event::ToRuntime(said)),
        }
    }

    pub(super) fn revoke_credentials(&mut self, op: OpId, job: JobId, what: &Revocation) {
        let provisioner = &mut self.provisioner;
        *provisioner.revocations.entry(job).or_default() += 1;
        let done = provisioner.cannot_revoke == 0;
        provisioner.cannot_revoke = provisioner.cannot_revoke.saturating_sub(1);
        if done {
            provisioner.counting.retain(|(of, value), id| match what {
                _ if *of != job => true,
                Revocation::All => false,
                Revocation::Some(ids) => !ids.contains(id),
                Revocation::Value { value: old, .. } => old.expose() != value,
            });
        }
        if !provisioner.mute {
            self.later(Event::ToRuntime(Input::CredentialsRevoked { op, done }));
        }
    }

    /// What was issued in silence is said.
    pub fn say_issued(&mut self) {
        for said in std::mem::take(&mut self.provisioner.unsaid) {
            self.later(Event::ToRuntime(said));
        }
    }
}
