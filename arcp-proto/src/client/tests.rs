//! The behaviour of a client, frame by frame.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::*;
use crate::model::agent::AgentRef;
use crate::model::request::{Credential, Watch};
use crate::time::UtcMs;

/// A client whose session has acknowledgements and watches.
struct Peer(Client);

impl Peer {
    fn new() -> Peer {
        let now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
        let config = ClientConfig::new("it", "1", Credential::Anonymous);
        let client = Client::new(config, Seeds { public: [1; 32], secret: [2; 32] }, now).expect("it works");
        let mut peer = Peer(client);
        peer.put(ClientInput::Tick);
        peer.put(ClientInput::Connected);
        peer.hear(
            r#""type":"session.welcome","payload":{"session_id":"s","resume_token":"t","resume_window_sec":600,
            "runtime":{"name":"r","version":"1"},"capabilities":{"features":["ack","subscribe"]}}"#,
        );
        peer
    }

    /// Hands an input over. Returns the frames sent and the events for the application.
    fn put(&mut self, input: ClientInput) -> (Vec<String>, Vec<ClientEvent>) {
        self.0.handle(self.0.now, input);
        let (mut sent, mut told) = (Vec::new(), Vec::new());
        while let Some(output) = self.0.poll_output() {
            match output {
                ClientOutput::Send { frame } => sent.push(frame.to_string()),
                ClientOutput::Event(event) => told.push(event),
                ClientOutput::Connect | ClientOutput::Disconnect | ClientOutput::SendSidecar { .. } => {}
            }
        }
        (sent, told)
    }

    fn hear(&mut self, rest: &str) -> (Vec<String>, Vec<ClientEvent>) {
        let frame = format!(r#"{{"arcp":"1.1","id":"x","session_id":"s",{rest}}}"#);
        self.put(ClientInput::Received { frame: frame.into_bytes() })
    }

    fn say(&mut self, job: &str, seq: u64) {
        self.hear(&format!(
            r#""type":"job.event","job_id":"{job}","event_seq":{seq},"payload":{{"kind":"log",
            "ts":"2026-01-01T00:00:00Z","body":{{"level":"info","message":"m"}}}}"#
        ));
    }

    fn show(&mut self, job: &str) -> Vec<ClientEvent> {
        let shown = format!(
            r#""type":"job.subscribed","payload":{{"job_id":"{job}","current_status":"running","agent":"it",
            "subscribed_from":1,"replayed":false}}"#
        );
        self.hear(&shown).1
    }

    /// Advances the clock to the next deadline. Returns the acknowledgements.
    fn wait(&mut self) -> Vec<String> {
        self.0.now.mono = self.0.next_deadline().expect("a deadline").0;
        let (sent, _) = self.put(ClientInput::Tick);
        sent.into_iter().filter(|frame| frame.contains("session.ack")).collect()
    }

    fn session(&mut self) -> Session<'_> {
        self.0.session().expect("it is open")
    }
}

fn id(text: &str) -> WireId {
    WireId::new(text).expect("an id")
}

fn watch(job: &str) -> Watch {
    Watch { job: id(job), after: None, history: None }
}

#[test]
fn what_was_acknowledged_is_not_acknowledged_once_more() {
    let mut peer = Peer::new();
    let it = AgentRef::parse("it").expect("a name");
    peer.session().submit(Submit::new(it)).expect("it is given");
    peer.session().watch(watch("job_2")).expect("it is given");
    peer.put(ClientInput::Tick);
    peer.show("job_2");
    peer.say("job_2", 1);
    assert_eq!(peer.wait().len(), 1);
    // The first event waits for the acceptance of its job, so neither it nor a later one is acknowledged.
    peer.say("job_1", 2);
    peer.say("job_2", 3);
    assert_eq!(peer.wait(), Vec::<String>::new());
}

#[test]
fn a_job_that_is_shown_answers_who_has_asked_to_watch_that_one_and_nobody_else() {
    let mut peer = Peer::new();
    let handle = peer.session().watch(watch("job_2")).expect("it is given");
    peer.session().cancel(id("job_1"), None).expect("it is given");
    peer.put(ClientInput::Tick);
    assert!(peer.show("job_1").is_empty(), "nobody watches it");
    let told = peer.show("job_2");
    assert!(matches!(told.as_slice(), [ClientEvent::Watching { handle: of, .. }] if *of == handle), "{told:?}");
}

#[test]
fn without_its_feature_a_session_steers_no_stream() {
    let mut peer = Peer::new();
    let refused = ApiMisuse::NotNegotiated(Feature::OpenSurfaces);
    assert_eq!(streams::pace(&mut peer.session(), id("st_1"), None), Err(refused.clone()));
    assert_eq!(streams::cancel(&mut peer.session(), id("st_1"), None), Err(refused));
    assert_eq!(peer.put(ClientInput::Tick).0, Vec::<String>::new());
}
