//! Small steps for scripts: one JSON object per line.

use std::io::BufRead as _;
use std::process::ExitCode;

use arcp::ARCPClient;
use arcp::messages::{AuthScheme, Capabilities, ClientIdentity, Credentials};
use arcp::transport::websocket::WebSocketTransport;
use serde_json::{Value, json};

use crate::wire::Wire;

/// Invokes a tool with its client: the job, then the result.
pub async fn invoke(url: &str, token: &str, tool: &str, input: &str) {
    let transport = WebSocketTransport::dial(url).await.expect("a connection");
    let session = ARCPClient::new(transport)
        .open()
        .expect("a session")
        .authenticate(
            Credentials { scheme: AuthScheme::Bearer, token: Some(token.into()) },
            identity(),
            Capabilities::default(),
        )
        .await
        .expect("accepted");
    let job = session.invoke(tool, serde_json::from_str(input).expect("JSON")).await.expect("accepted");
    println!("{}", json!({"job": job.job_id.to_string()}));
    let result = job.join().await.expect("a result");
    println!("{}", json!({"result": result}));
}

pub fn identity() -> ClientIdentity {
    ClientIdentity { kind: "their-rust".into(), version: "2.0.0".into(), fingerprint: None, principal: None }
}

/// Watches a job from its beginning: every frame, as its decoder read it.
pub async fn watch(url: &str, token: &str, job: &str) {
    let wire = Wire::open(url, token).await;
    wire.send("job.subscribe", json!({"job_id": job, "history": true, "from_event_seq": 0})).await;
    while let Some(frame) = wire.next().await {
        println!("{frame}");
        if matches!(frame["type"].as_str(), Some("job.completed" | "job.failed" | "job.cancelled" | "nack")) {
            return;
        }
    }
}

/// Watches jobs one after another over one connection, from their beginning to their end, and then
/// runs `echo` over it: the types of the frames of each, then the result.
pub async fn holds(url: &str, token: &str, jobs: &[&str]) {
    let wire = Wire::open(url, token).await;
    for job in jobs {
        wire.send("job.subscribe", json!({"job_id": job, "history": true, "from_event_seq": 0})).await;
        let frames = wire.until(&["job.completed", "job.failed", "job.cancelled", "nack"]).await;
        let types: Vec<&Value> = frames.iter().map(|frame| &frame["type"]).collect();
        println!("{}", json!({"job": job, "types": types}));
    }
    let frames = wire.run(json!({"tool": "echo", "arguments": "still here"})).await;
    println!("{}", json!({"result": frames.last().expect("an end")["payload"]["value"]}));
}

/// Decodes each line of stdin, `{"was": frame, "now": frame}`: what it took it
/// must take again.
pub fn decode() -> ExitCode {
    let (mut read, mut passed, mut refused) = (0, 0, 0);
    for line in std::io::stdin().lock().lines() {
        let line: Value = serde_json::from_str(&line.expect("text")).expect("JSON");
        let again = serde_json::from_value::<arcp::Envelope>(line["now"].clone());
        match (serde_json::from_value::<arcp::Envelope>(line["was"].clone()), again) {
            (Err(_), _) => passed += 1,
            (Ok(_), Ok(_)) => read += 1,
            (Ok(_), Err(error)) => {
                refused += 1;
                println!("its decoder refuses now: {error}: {line}");
            }
        }
    }
    println!("{read} frames decoded again, {refused} refused; {passed} it never took");
    if refused == 0 && read > passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
