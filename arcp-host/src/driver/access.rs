//! Which credentials are accepted, who is operator or auditor, and how both change while a runtime
//! runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arcp_proto::id::Principal;
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::{Config, Input, Operator, Verdict};
use arcp_proto::time::UtcMs;

use super::inbox::Mailbox;
use super::judges::Judges;
use crate::agent::Inbox as _;
use crate::auth::{Authenticator, CredentialSource, Roles};

/// The interval between two looks at the sources of credentials.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Access {
    authenticator: Arc<dyn Authenticator>,
    overseers: BTreeSet<Principal>,
    /// The threads for authenticators that take time.
    pub(super) judges: Judges,
}

impl Access {
    pub(super) fn new(authenticator: Arc<dyn Authenticator>, config: &Config) -> Access {
        let overseers = config.operators.union(&config.auditors).cloned().collect();
        Access { authenticator, overseers, judges: Judges::new(&config.limits.connection) }
    }

    /// Takes over new operators and auditors.
    pub(super) fn takes(&mut self, input: &Input) {
        if let Input::Operator(Operator::Overseers { operators, auditors }) = input {
            self.overseers = operators.union(auditors).cloned().collect();
        }
    }

    /// The verdict on a credential; `None` if the authenticator has to wait for it.
    pub(super) fn judge(&self, credential: &Credential) -> Option<Option<Verdict>> {
        self.authenticator.is_instant().then(|| self.authenticator.verify(credential))
    }

    /// The authenticator, for use on another thread.
    pub(super) fn authenticator(&self) -> Arc<dyn Authenticator> {
        self.authenticator.clone()
    }

    /// Whether a verdict makes its principal an operator or auditor without restrictions: the
    /// credential has not expired and has no bounds, such as those of a delegation token.
    pub(super) fn oversees(&self, verdict: &Verdict, now: UtcMs) -> bool {
        // This credential is bound to a channel, and the channel of this request is not known.
        verdict.binding.is_none()
            && verdict.ceiling.is_none()
            && verdict.features.is_none()
            && verdict.expires_at.is_none_or(|at| now < at)
            && self.overseers.contains(&verdict.principal)
    }
}

/// Checks each second which credentials were withdrawn and which roles have changed, until the
/// driver is dropped. `base` holds the roles that do not depend on the sources.
pub(super) fn follow(mut sources: Vec<Box<dyn CredentialSource>>, base: &Roles, mailbox: &Weak<Mailbox>) {
    let mut told = roles_of(&sources, base);
    loop {
        std::thread::sleep(LOOK);
        let Some(mailbox) = mailbox.upgrade() else {
            return;
        };
        for source in &mut sources {
            for principal in source.changed().into_iter().flatten() {
                mailbox.put(Input::Operator(Operator::Revoke { principal }));
            }
        }
        let roles = roles_of(&sources, base);
        if roles != told {
            told = roles;
            let Roles { operators, auditors } = told.clone();
            mailbox.put(Input::Operator(Operator::Overseers { operators, auditors }));
        }
    }
}

/// The roles that the sources assign, added to `base`.
pub(super) fn roles_of(sources: &[Box<dyn CredentialSource>], base: &Roles) -> Roles {
    let mut all = base.clone();
    for Roles { operators, auditors } in sources.iter().map(|source| source.roles()) {
        all.operators.extend(operators);
        all.auditors.extend(auditors);
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

    use arcp_proto::lease::{Ceiling, Lease};
    use arcp_proto::model::feature::Features;

    use super::*;
    use crate::auth::BearerTokens;

    /// A source with the given roles and withdrawn principals.
    struct Source(Arc<Mutex<(Roles, BTreeSet<Principal>)>>, Sender<()>);

    impl CredentialSource for Source {
        fn roles(&self) -> Roles {
            let roles = self.0.lock().expect("nobody panics").0.clone();
            let _ = self.1.send(());
            roles
        }

        fn changed(&mut self) -> Option<BTreeSet<Principal>> {
            Some(std::mem::take(&mut self.0.lock().expect("nobody panics").1))
        }
    }

    #[test]
    fn what_becomes_of_credentials_is_told_and_nothing_else() {
        let name = |name: &str| Principal::new(name).expect("a name");
        let said = Arc::new(Mutex::new((Roles::default(), BTreeSet::new())));
        let base = Roles { operators: [name("op")].into(), ..Roles::default() };
        let (wake, woken) = channel();
        let mailbox = Arc::new(Mailbox::new(move || _ = wake.send(())));
        let (look, looked) = channel();
        let (weak, source) = (Arc::downgrade(&mailbox), Source(said.clone(), look));
        let follows = std::thread::spawn(move || follow(vec![Box::new(source)], &base, &weak));
        looked.recv_timeout(Duration::from_secs(60)).expect("it begins");
        let mut told = VecDeque::new();
        for (roles, gone, expected) in [
            (Roles { auditors: [name("a")].into(), ..Roles::default() }, None, 1),
            (Roles { auditors: [name("a")].into(), ..Roles::default() }, Some(name("b")), 2),
            (Roles { operators: [name("c")].into(), ..Roles::default() }, None, 3),
        ] {
            *said.lock().expect("nobody panics") = (roles, gone.into_iter().collect());
            while told.len() < expected {
                let mut fresh = VecDeque::new();
                mailbox.take(&mut fresh);
                told.append(&mut fresh);
                if told.len() < expected && mailbox.may_sleep() {
                    woken.recv_timeout(Duration::from_secs(60)).expect("it is told");
                }
            }
        }
        let told: Vec<String> = told.into_iter().map(|message| format!("{:?}", message.input)).collect();
        let oversee = |operators: &[&str], auditors: &[&str]| {
            let all = |names: &[&str]| names.iter().map(|one| name(one)).collect();
            format!("{:?}", Input::Operator(Operator::Overseers { operators: all(operators), auditors: all(auditors) }))
        };
        let gone = format!("{:?}", Input::Operator(Operator::Revoke { principal: name("b") }));
        assert_eq!(told, [oversee(&["op"], &["a"]), gone, oversee(&["c", "op"], &[])]);
        drop(mailbox);
        follows.join().expect("it ends with its driver");
    }

    #[test]
    fn nobody_oversees_by_a_credential_that_is_bounded_or_over() {
        let alice = Principal::new("alice").expect("a name");
        let mut config = Config::new("t", "1");
        config.operators = [alice.clone()].into();
        let whole = Verdict::from(alice);
        let ceiling = Some(Box::new(Ceiling::new(Lease::default())));
        for (verdict, oversees) in [
            (whole.clone(), true),
            (Verdict { expires_at: Some(UtcMs(9)), ..whole.clone() }, true),
            (Verdict { expires_at: Some(UtcMs(8)), ..whole.clone() }, false),
            (Verdict { binding: Some("sha256:1".into()), ..whole.clone() }, false),
            (Verdict { ceiling, ..whole.clone() }, false),
            (Verdict { features: Some(Features::default()), ..whole }, false),
        ] {
            let access = Access::new(Arc::new(BearerTokens::default()), &config);
            assert_eq!(access.oversees(&verdict, UtcMs(8)), oversees, "{verdict:?}");
        }
    }
}
