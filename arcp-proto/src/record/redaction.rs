//! Replaces values of credentials in a recording.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use crate::entropy::Seeds;
use crate::id::{JobId, OpId};
use crate::model::credential::{Issuance, Revocation, check_value};
use crate::runtime::{AgentCall, Input, Output};
use crate::secret::Secret;

/// For how many jobs, the latest ones, revoked values are still replaced.
const REVOKED: usize = 1024;
/// The number of bytes by which a value is looked up. Each usable value has at least as many.
const BEGINNING: usize = 8;

/// The characters of replacements, all of which may occur in a value.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The values of credentials that a runtime was given, and their replacements. It has all values
/// that may be valid.
pub(super) struct Redaction {
    /// The key from which replacements are made.
    key: [u8; 32],
    /// Values by their first bytes.
    known: BTreeMap<[u8; BEGINNING], Vec<Known>>,
    given: u64,
    /// Operations about credentials that the host has not answered, and the job of each.
    asked: BTreeMap<OpId, JobId>,
    /// The values of each job.
    of_jobs: BTreeMap<JobId, Vec<String>>,
    /// Values of jobs whose credentials are revoked, oldest first.
    revoked: VecDeque<Vec<String>>,
}

struct Known {
    value: String,
    instead: String,
    /// How often it was issued without being forgotten.
    issued: usize,
}

impl core::fmt::Debug for Redaction {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Redaction").field("given", &self.given).finish_non_exhaustive()
    }
}

impl Redaction {
    pub(super) fn new(seeds: &Seeds) -> Redaction {
        let key = Sha256::new().chain_update(b"arcp recording").chain_update(seeds.secret).finalize().into();
        let (known, asked, of_jobs, revoked) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        Redaction { key, known, given: 0, asked, of_jobs, revoked }
    }

    /// Notes the job of an operation that the host is asked to do.
    pub(super) fn note(&mut self, output: &Output) {
        if let Output::IssueCredentials { op, order } = output {
            self.asked.insert(*op, order.job);
        }
        if let Output::RevokeCredentials { op, job, what: Revocation::All } = output {
            self.asked.insert(*op, *job);
        }
    }

    /// Adds the values in an input. Returns the input to be recorded in its place, if it has values
    /// that cannot be used: the runtime refuses them as it does an empty value.
    pub(super) fn learn(&mut self, input: &Input) -> Option<Input> {
        if let Input::CredentialsRevoked { op, done } = input {
            let job = self.asked.remove(op).filter(|_| *done);
            let values = job.and_then(|job| self.of_jobs.remove(&job));
            values.into_iter().for_each(|values| self.retire(values));
        }
        if let Input::Agent { job, call } = input {
            return self.learn_wish(*job, call).map(|call| Input::Agent { job: *job, call });
        }
        if let Input::AgentAsked { job, id, call } = input {
            return self.learn_wish(*job, call).map(|call| Input::AgentAsked { job: *job, id: *id, call });
        }
        if let Input::AgentSays { job, calls } = input {
            return self.learn_wishes(*job, calls).map(|calls| Input::AgentSays { job: *job, calls });
        }
        let Input::CredentialsIssued { op, issuance } = input else {
            return None;
        };
        let job = self.asked.remove(op);
        let Issuance::Issued(issued) = issuance else {
            return None;
        };
        let mut recorded = issued.clone();
        let mut values = Vec::new();
        for credential in &mut recorded {
            match check_value(&credential.value) {
                Ok(()) => values.extend(self.add(credential.value.expose())),
                Err(_) => credential.value = Secret::new(String::new()),
            }
        }
        match job {
            Some(job) => self.of_jobs.entry(job).or_default().extend(values),
            // Nobody asked for them, so no job has them.
            None => self.retire(values),
        }
        let is_usable = recorded == *issued;
        (!is_usable).then_some(Input::CredentialsIssued { op: *op, issuance: Issuance::Issued(recorded) })
    }

    /// Adds the value that an agent wants for a credential, if the call has one. Returns the call
    /// to be recorded in its place, if the value cannot be used.
    fn learn_wish(&mut self, job: JobId, call: &AgentCall) -> Option<AgentCall> {
        let AgentCall::RenewCredential { id, value: Some(value) } = call else {
            return None;
        };
        if check_value(value).is_ok() {
            let values: Vec<String> = self.add(value.expose()).into_iter().collect();
            match self.of_jobs.get_mut(&job) {
                Some(of_job) => of_job.extend(values),
                None => self.retire(values),
            }
            return None;
        }
        // Of the same length, for counts in bytes, and as unusable.
        let instead = Secret::new(" ".repeat(value.expose().len()));
        Some(AgentCall::RenewCredential { id: id.clone(), value: Some(instead) })
    }

    /// The same, for several calls.
    fn learn_wishes(&mut self, job: JobId, calls: &[AgentCall]) -> Option<Vec<AgentCall>> {
        let mut recorded: Option<Vec<AgentCall>> = None;
        for (at, call) in calls.iter().enumerate() {
            if let Some(instead) = self.learn_wish(job, call) {
                recorded.get_or_insert_with(|| calls.to_vec())[at] = instead;
            }
        }
        recorded
    }

    /// Adds a value; returns it.
    fn add(&mut self, value: &str) -> Option<String> {
        let of_beginning = self.known.entry(*value.as_bytes().first_chunk()?).or_default();
        if let Some(known) = of_beginning.iter_mut().find(|known| known.value == value) {
            known.issued += 1;
            return Some(value.into());
        }
        self.given += 1;
        let instead = stand_in(&self.key, self.given, value.len());
        of_beginning.push(Known { value: value.into(), instead, issued: 1 });
        // The longest first, because one value may begin with another.
        of_beginning.sort_by_key(|known| core::cmp::Reverse(known.value.len()));
        Some(value.into())
    }

    /// Notes that values are revoked. They may still occur for a while.
    fn retire(&mut self, values: Vec<String>) {
        self.revoked.push_back(values);
        while self.revoked.len() > REVOKED {
            self.revoked.pop_front().into_iter().flatten().for_each(|value| self.forget(&value));
        }
    }

    fn forget(&mut self, value: &str) {
        let Some(beginning) = value.as_bytes().first_chunk() else {
            return; // None is so short.
        };
        let Some(of_beginning) = self.known.get_mut(beginning) else {
            return; // It is looked for no longer.
        };
        of_beginning.iter_mut().filter(|known| known.value == value).for_each(|known| known.issued -= 1);
        of_beginning.retain(|known| known.issued > 0);
        if of_beginning.is_empty() {
            self.known.remove(beginning);
        }
    }

    /// A line with its values replaced. None of their characters is escaped in JSON, so they are
    /// found as they are, at any depth.
    pub(super) fn redacted(&self, line: String) -> String {
        if self.known.is_empty() {
            return line;
        }
        let (mut out, mut copied, mut at) = (String::new(), 0, 0);
        while let Some(beginning) = line.as_bytes().get(at..).and_then(|rest| rest.first_chunk()) {
            let found = self.known.get(beginning).and_then(|of_beginning| {
                of_beginning.iter().find(|known| line.as_bytes()[at..].starts_with(known.value.as_bytes()))
            });
            let Some(Known { value, instead, .. }) = found else {
                at += 1;
                continue;
            };
            out.push_str(&line[copied..at]);
            out.push_str(instead);
            at += value.len();
            copied = at;
        }
        if copied == 0 { line } else { out + &line[copied..] }
    }
}

/// A replacement of the same length, so that counts in bytes stay the same. It cannot be foreseen:
/// if a client sent it, a replay would mask it, and the run did not.
fn stand_in(key: &[u8; 32], given: u64, length: usize) -> String {
    let mut instead = String::with_capacity(length);
    let mut block = 0_u64;
    while instead.len() < length {
        let numbers = [given, block].map(u64::to_be_bytes);
        let digest = Sha256::new().chain_update(key).chain_update(numbers.concat()).finalize();
        let letters = digest.iter().map(|byte| char::from(LETTERS[usize::from(byte % 64)]));
        instead.extend(letters.take(length - instead.len()));
        block += 1;
    }
    instead
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use ulid::Ulid;

    use crate::entropy::Seeds;
    use crate::id::{JobId, OpId, Principal};
    use crate::json::Json;
    use crate::model::agent::AgentRef;
    use crate::model::credential::{CredentialOrder, Issuance, ProvisionedCredential, Revocation};
    use crate::record::Recorder;
    use crate::runtime::{AgentCall, Config, Input, Output};
    use crate::secret::Secret;
    use crate::time::Now;

    fn issued(recorder: &mut Recorder, n: u64, value: &str) {
        let (op, job) = (OpId(n), JobId::from_ulid(Ulid::from_parts(n, 0)));
        let principal = Principal::new("alice").expect("a name");
        let (agent, lease) = (AgentRef::parse("echo").expect("an agent"), Json::empty_object());
        let order = CredentialOrder { job, principal, agent, lease, expires_at: None, renews: None };
        recorder.output(&Output::IssueCredentials { op, order: order.into() });
        let [id, scheme, endpoint] = ["c", "bearer", "http://models.test"].map(String::from);
        let value = Secret::new(value.into());
        let credential = ProvisionedCredential { id, scheme, value, endpoint, profile: None, constraints: None };
        recorder
            .input(Now::default(), &Input::CredentialsIssued { op, issuance: Issuance::Issued([credential].into()) });
    }

    fn revoked(recorder: &mut Recorder, n: u64) {
        let (op, job) = (OpId(10_000 + n), JobId::from_ulid(Ulid::from_parts(n, 0)));
        recorder.output(&Output::RevokeCredentials { op, job, what: Revocation::All });
        recorder.input(Now::default(), &Input::CredentialsRevoked { op, done: true });
    }

    /// The recorded form of this text.
    fn recorded(recorder: &mut Recorder, text: &str) -> String {
        recorder.take();
        let issuance = Issuance::Failed { reason: text.into(), is_exhausted: false };
        recorder.input(Now::default(), &Input::CredentialsIssued { op: OpId(0), issuance });
        recorder.take()
    }

    #[test]
    fn a_value_that_counts_is_recorded_nowhere_however_many_came_after_it() {
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let mut recorder = Recorder::new(&Config::new("test", "1"), &seeds, Now::default());
        issued(&mut recorder, 1, "sk-longest-living");
        issued(&mut recorder, 2, "sk-longest-living-2");
        for n in 3..3000 {
            issued(&mut recorder, n, &alloc::format!("sk-short-{n}"));
            revoked(&mut recorder, n);
        }
        let line = recorded(&mut recorder, "a sk-longest-living-2, sk-longest-living. sk-short-2999");
        assert!(!line.contains("sk-"), "{line}");
        assert_eq!(line.len(), recorded(&mut recorder, &"x".repeat(55)).len(), "what is counted in bytes stays");
        // Revoked values are replaced only for a while.
        assert!(recorded(&mut recorder, "sk-short-3").contains("sk-short-3"));
        // Two jobs may have one value.
        issued(&mut recorder, 5000, "sk-longest-living");
        for n in 5000..6100 {
            issued(&mut recorder, n, &alloc::format!("sk-short-{n}"));
            revoked(&mut recorder, n);
        }
        assert!(!recorded(&mut recorder, "sk-longest-living").contains("sk-"));
        revoked(&mut recorder, 1);
        assert!(!recorded(&mut recorder, "sk-longest-living").contains("sk-"), "it may be said late");
    }

    #[test]
    fn what_stands_for_a_value_is_known_to_whoever_knows_the_seeds() {
        let told = |secret: u8| {
            let seeds = Seeds { public: [1; 32], secret: [secret; 32] };
            let mut recorder = Recorder::new(&Config::new("test", "1"), &seeds, Now::default());
            issued(&mut recorder, 1, "12345678");
            issued(&mut recorder, 2, &"x".repeat(100));
            [recorded(&mut recorder, "12345678"), recorded(&mut recorder, &"x".repeat(100))]
        };
        let (one, other) = (told(2), told(3));
        assert_eq!(one, told(2));
        assert!(one[0] != other[0] && one[1] != other[1], "{one:?} {other:?}");
        assert!(one.iter().all(|line| !line.contains("12345678") && !line.contains("xxx")), "{one:?}");
    }

    #[test]
    fn a_value_that_an_agent_wants_among_other_things_is_recorded_nowhere() {
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let mut recorder = Recorder::new(&Config::new("test", "1"), &seeds, Now::default());
        let job = JobId::from_ulid(Ulid::from_parts(1, 0));
        issued(&mut recorder, 1, "sk-the-first-value");
        recorder.take();
        let wants = |value: &str| AgentCall::RenewCredential { id: "c".into(), value: Some(Secret::new(value.into())) };
        let calls = [AgentCall::Heartbeat, wants("sk-the-next-value"), wants("sk-\"unusable\"")].into();
        recorder.input(Now::default(), &Input::AgentSays { job, calls });
        let line = recorder.take();
        assert!(line.contains("Heartbeat") && !line.contains("next-value") && !line.contains("unusable"), "{line}");
        assert!(!recorded(&mut recorder, "a sk-the-next-value").contains("sk-"));
    }
}
