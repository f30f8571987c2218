//! The provisioner of a world, and which credentials are valid.

use std::collections::BTreeMap;

use arcp_proto::id::{JobId, OpId};
use arcp_proto::model::credential::{CredentialOrder, Issuance, ProvisionedCredential, Revocation};
use arcp_proto::runtime::Input;
use arcp_proto::secret::Secret;

use super::{Event, World};
use crate::canaries::CANARY;

/// The provisioner: its orders, and how it behaves.
#[derive(Debug)]
pub struct Provisioner {
    /// How many credentials it issues for each job.
    pub issues: usize,
    /// The error with which it fails, if it does. The last credential is issued all the same, as if the answer was
    /// lost.
    pub fails: Option<String>,
    /// Whether it is too busy to begin anything.
    pub busy: bool,
    /// The suffix of its values.
    pub suffix: String,
    /// Whether it does not answer what it has issued.
    pub silent: bool,
    /// How many further revocations fail.
    pub cannot_revoke: usize,
    /// Whether it does not answer revocations.
    pub mute: bool,
    /// The orders, in order.
    pub ordered: Vec<CredentialOrder>,
    /// How often it was asked to revoke credentials, by job.
    pub revocations: BTreeMap<JobId, usize>,
    /// The valid values, by job and value, with the ids of their credentials.
    pub counting: BTreeMap<(JobId, String), String>,
    /// How many values it has issued to replace others.
    pub renewed: usize,
    /// Withheld answers, which [`World::say_issued`] sends late.
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
    /// Whether a credential of a job is valid.
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
        // A provisioner that fails may have issued all the same.
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

    /// Sends the withheld answers.
    pub fn say_issued(&mut self) {
        for said in std::mem::take(&mut self.provisioner.unsaid) {
            self.later(Event::ToRuntime(said));
        }
    }
}
