//! A well-behaved client that is served while others attack.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arcp_blocking::{Client, ClientError, JobUpdate, Target};
use arcp_proto::client::ClientConfig;
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::Credential;
use arcp_proto::secret::Secret;

use crate::server::{PATIENCE, submit};

/// The pause between two of its jobs, so that what it leaves behind does not affect measurements.
const PAUSE: Duration = Duration::from_millis(20);

/// Connects, submits a job, waits for its result and leaves, again and again, until it is dropped.
pub struct Witness {
    stop: Option<Sender<()>>,
    served: Receiver<()>,
    latencies: Arc<Mutex<Vec<Duration>>>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// Starts with the URL of a server that hosts the samples, and a token.
    pub fn start(url: &str, token: &str) -> Witness {
        let target: Target = url.parse().expect("a URL");
        let credential = Credential::Bearer(Secret::new(token.to_string()));
        let latencies = Arc::new(Mutex::new(Vec::new()));
        let (tell, served) = channel();
        let (stop, stopped) = channel();
        let taken = latencies.clone();
        let thread = std::thread::spawn(move || {
            // Until the other end is dropped.
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                let begun = Instant::now();
                serve(&target, credential.clone()).expect("served");
                taken.lock().unwrap_or_else(PoisonError::into_inner).push(begun.elapsed());
                let _ = tell.send(());
            }
        });
        Witness { stop: Some(stop), served, latencies, thread: Some(thread) }
    }

    /// Waits until it was served so many times, counted from this call.
    pub fn is_served(&self, times: usize) {
        while self.served.try_recv().is_ok() {}
        // The present job began before the call.
        for _ in 0..=times {
            self.served.recv_timeout(PATIENCE).expect("served while the attack goes on");
        }
    }
}

impl Drop for Witness {
    #[allow(clippy::print_stderr, reason = "a figure for whoever reads the output of the tests")]
    fn drop(&mut self) {
        drop(self.stop.take());
        let fine = self.thread.take().is_none_or(|thread| thread.join().is_ok());
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.sort_unstable();
        let p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default();
        eprintln!("served {} times, p99 {p99:?}", latencies.len());
        assert!(fine || std::thread::panicking(), "the witness was not served");
    }
}

/// One job of a new client, from its connection to its result.
fn serve(target: &Target, credential: Credential) -> Result<(), ClientError> {
    let client = Client::connect(target.clone(), ClientConfig::new("witness", "1", credential))?;
    let job = client.submit(submit("echo", r#"{"n":1}"#))?;
    loop {
        match job.next_update_in(PATIENCE).expect("the job goes on") {
            JobUpdate::Ended { terminal, .. } => {
                assert_eq!(terminal.status, FinalStatus::Success);
                return Ok(());
            }
            JobUpdate::Event { .. } | JobUpdate::Reconnecting { .. } | JobUpdate::Reconnected { .. } => {}
            lost @ (JobUpdate::Missed { .. } | JobUpdate::Gone(_) | JobUpdate::Lost(_)) => panic!("{lost:?}"),
        }
    }
}
