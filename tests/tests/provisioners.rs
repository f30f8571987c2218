//! Provisioners that are late or fail: a host tells the core the outcome of every call, and shows what is not revoked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arcp_host::provisioner::{InMemoryProvisioner, ProvisionError, Provisioner};
use arcp_host::store::MemoryStore;
use arcp_proto::id::JobId;
use arcp_proto::model::credential::{CredentialOrder, ProvisionedCredential, Revocation};
use arcp_tests::raw::credentials_payload;
use arcp_tests::server::{self, Running};
use arcp_tests::until::until;
use serde_json::json;

/// One that issues when it is told to, and cannot revoke for some time.
struct Faulty {
    samples: InMemoryProvisioner,
    issue: Mutex<Option<Receiver<()>>>,
    cannot_revoke: AtomicUsize,
    revoked: Sender<()>,
}

impl Provisioner for Faulty {
    fn issue(&self, order: &CredentialOrder) -> Result<Vec<ProvisionedCredential>, ProvisionError> {
        if let Some(told) = self.issue.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = told.recv();
        }
        self.samples.issue(order)
    }

    fn revoke(&self, job: JobId, what: &Revocation) -> Result<(), ProvisionError> {
        let left = self.cannot_revoke.load(Ordering::SeqCst);
        if left > 0 {
            self.cannot_revoke.store(left - 1, Ordering::SeqCst);
            return Err(ProvisionError::new("it is away"));
        }
        self.samples.revoke(job, what)?;
        let _ = self.revoked.send(());
        Ok(())
    }
}

fn faulty(cannot_revoke: usize, issue: Option<Receiver<()>>) -> (Arc<Faulty>, Receiver<()>) {
    let (revoked, revocations) = channel();
    let (issue, cannot_revoke) = (Mutex::new(issue), AtomicUsize::new(cannot_revoke));
    (Arc::new(Faulty { samples: InMemoryProvisioner::default(), issue, cannot_revoke, revoked }), revocations)
}

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn what_a_provisioner_issues_too_late_is_revoked_until_that_is_done() {
    let (tell, told) = channel();
    let (provisioner, revocations) = faulty(1, Some(told));
    let host = Running::host(Box::<MemoryStore>::default(), &[], |config| {
        config.timing.provision_timeout = Duration::from_millis(100);
    });
    let server = Running::serve(host.with_provisioner(provisioner.clone()));
    let mut socket = server.websocket();
    server::send(&mut socket, "h", "session.hello", credentials_payload("tok-b"));
    server::expect(&mut socket, "session.welcome");
    server::send(&mut socket, "s", "job.submit", json!({"agent": "creds", "lease_request": {"model.use": ["*"]}}));
    let error = server::expect(&mut socket, "session.error").to_string();
    assert!(error.contains("not issued in time"), "{error}");
    let health = server.http("GET /healthz HTTP/1.1\r\nHost: localhost");
    assert!(health.contains("unrevoked credentials: of 1 job(s)"), "{health}");
    tell.send(()).expect("it waits");
    revocations.recv_timeout(PATIENCE).expect("it is tried again");
    assert!(provisioner.samples.counting().is_empty());
}

#[test]
fn health_shows_for_how_long_something_was_not_revoked() {
    let (provisioner, _) = faulty(usize::MAX, None);
    let host = Running::host(Box::<MemoryStore>::default(), &[], |_| {});
    let server = Running::serve(host.with_provisioner(provisioner));
    let mut socket = server.websocket();
    server::send(&mut socket, "h", "session.hello", credentials_payload("tok-b"));
    server::expect(&mut socket, "session.welcome");
    server::send(&mut socket, "s", "job.submit", json!({"agent": "creds", "lease_request": {"model.use": ["*"]}}));
    server::expect(&mut socket, "job.result");
    until("a second has passed", || {
        let health = server.http("GET /healthz HTTP/1.1\r\nHost: localhost");
        let seconds = health.rsplit_once("the first for ")?.1.split_once(' ')?.0.parse::<u64>();
        (seconds.expect("a number") > 0).then_some(())
    });
}

#[test]
fn health_shows_how_many_jobs_have_credentials_that_are_not_revoked() {
    let (provisioner, revocations) = faulty(3, None);
    let host = Running::host(Box::<MemoryStore>::default(), &[], |_| {});
    let server = Running::serve(host.with_provisioner(provisioner));
    let mut socket = server.websocket();
    server::send(&mut socket, "h", "session.hello", credentials_payload("tok-b"));
    server::expect(&mut socket, "session.welcome");
    let health = || server.http("GET /healthz HTTP/1.1\r\nHost: localhost");
    assert!(health().trim_end().ends_with("\r\n\r\nok"), "{}", health());
    server::send(&mut socket, "s", "job.submit", json!({"agent": "creds", "lease_request": {"model.use": ["*"]}}));
    server::expect(&mut socket, "job.result");
    let shown = health();
    assert!(shown.starts_with("HTTP/1.1 200 ") && shown.contains("of 1 job(s), the first for "), "{shown}");
    assert!(!shown.contains("sk-sample"), "{shown}");
    revocations.recv_timeout(PATIENCE).expect("it is tried again");
}
