//! Every example runs without a failed assertion, and the index names each.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[path = "../../arcp-blocking/examples/ack_and_back_pressure.rs"]
mod ack_and_back_pressure;
#[path = "../../arcp-blocking/examples/agent_versions.rs"]
mod agent_versions;
#[path = "../../arcp-blocking/examples/artifacts.rs"]
mod artifacts;
#[path = "../../arcp-blocking/examples/budget.rs"]
mod budget;
#[path = "../../arcp-blocking/examples/cancel.rs"]
mod cancel;
#[path = "../../arcp-blocking/examples/checkpoints.rs"]
mod checkpoints;
#[path = "../../arcp-blocking/examples/credentials.rs"]
mod credentials;
#[path = "../../arcp-blocking/examples/custom_authenticator.rs"]
mod custom_authenticator;
#[path = "../../arcp-blocking/examples/delegation.rs"]
mod delegation;
#[path = "../../arcp-blocking/examples/filter_subscription.rs"]
mod filter_subscription;
#[path = "../../arcp-blocking/examples/handoff.rs"]
mod handoff;
#[path = "../../arcp-blocking/examples/heartbeat.rs"]
mod heartbeat;
#[path = "../../arcp-blocking/examples/idempotent_retry.rs"]
mod idempotent_retry;
#[path = "../../arcp-blocking/examples/interrupts.rs"]
mod interrupts;
#[path = "../../arcp-blocking/examples/job_tokens.rs"]
mod job_tokens;
#[path = "../../arcp-blocking/examples/leases.rs"]
mod leases;
#[path = "../../arcp-blocking/examples/list_jobs.rs"]
mod list_jobs;
#[path = "../../arcp-blocking/examples/minimal_session.rs"]
mod minimal_session;
#[path = "../../arcp-blocking/examples/permissions.rs"]
mod permissions;
#[path = "../../arcp-blocking/examples/progress.rs"]
mod progress;
#[path = "../../arcp-blocking/examples/questions.rs"]
mod questions;
#[path = "../../arcp-blocking/examples/redacted_thoughts.rs"]
mod redacted_thoughts;
#[path = "../../arcp-blocking/examples/result_in_pieces.rs"]
mod result_in_pieces;
#[path = "../../arcp-blocking/examples/resume.rs"]
mod resume;
#[path = "../../arcp-blocking/examples/schedules.rs"]
mod schedules;
#[path = "../../arcp-blocking/examples/sidecars.rs"]
mod sidecars;
#[path = "../../arcp-blocking/examples/stream_resume.rs"]
mod stream_resume;
#[path = "../../arcp-blocking/examples/streams.rs"]
mod streams;
#[path = "../../arcp-blocking/examples/submit_and_stream.rs"]
mod submit_and_stream;
#[path = "../../arcp-blocking/examples/tool_invocation.rs"]
mod tool_invocation;
#[path = "../../arcp-blocking/examples/vendor_extensions.rs"]
mod vendor_extensions;
#[path = "../../arcp-blocking/examples/watch.rs"]
mod watch;
#[path = "../../arcp-blocking/examples/workflow.rs"]
mod workflow;

fn here(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    std::fs::read_to_string(root.join(path)).expect("a file")
}

/// The names of the examples in the folder.
fn examples() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../arcp-blocking/examples");
    let names = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    names.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
}

#[test]
fn every_example_in_the_folder_is_run() {
    let tests = here("tests/tests/examples.rs");
    // These two have a way of their own to be run.
    let apart = BTreeSet::from(["event_loop".to_string(), "stdio".to_string()]);
    assert!(here("tests/tests/event_loop.rs").contains("arcp-blocking/examples/event_loop.rs"));
    assert!(tests.contains(r#"env!("CARGO_BIN_EXE_example-stdio")"#));
    assert!(examples().is_superset(&apart));
    for name in examples().difference(&apart) {
        assert!(tests.contains(&format!("    {name}::main().expect(")), "{name}.rs is not run");
    }
}

#[test]
fn every_example_is_in_the_index_with_its_sections() {
    let index = here("docs/examples.md");
    for name in examples() {
        let link = format!("](../arcp-blocking/examples/{name}.rs)");
        let row = index.lines().find(|line| line.contains(&link)).unwrap_or_else(|| panic!("{name}.rs is not there"));
        assert!(row.contains('§') || name == "event_loop", "no section: {row}");
    }
    // Programs, and what says how they are hosted.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/agents");
    let entries = std::fs::read_dir(root).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    for name in entries.map(|name| name.to_string_lossy().into_owned()) {
        let is_program = Path::new(&name).extension().is_some_and(|extension| extension == "sh" || extension == "py");
        assert!(!is_program || index.contains(&format!("](../examples/agents/{name})")), "{name} is not there");
    }
    for link in index.split("](../").skip(1).filter_map(|rest| rest.split(')').next()) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        assert!(root.join(link).exists(), "there is no {link}");
    }
}

#[test]
fn stdio_runs() {
    let ran = Command::new(env!("CARGO_BIN_EXE_example-stdio")).status().expect("started");
    assert!(ran.success(), "{ran}");
}

#[test]
fn ack_and_back_pressure_runs() {
    ack_and_back_pressure::main().expect("it ends well");
}

#[test]
fn agent_versions_runs() {
    agent_versions::main().expect("it ends well");
}

#[test]
fn budget_runs() {
    budget::main().expect("it ends well");
}

#[test]
fn cancel_runs() {
    cancel::main().expect("it ends well");
}

#[test]
fn credentials_runs() {
    credentials::main().expect("it ends well");
}

#[test]
fn custom_authenticator_runs() {
    custom_authenticator::main().expect("it ends well");
}

#[test]
fn delegation_runs() {
    delegation::main().expect("it ends well");
}

#[test]
fn filter_subscription_runs() {
    filter_subscription::main().expect("it ends well");
}

#[test]
fn handoff_runs() {
    handoff::main().expect("it ends well");
}

#[test]
fn heartbeat_runs() {
    heartbeat::main().expect("it ends well");
}

#[test]
fn idempotent_retry_runs() {
    idempotent_retry::main().expect("it ends well");
}

#[test]
fn leases_runs() {
    leases::main().expect("it ends well");
}

#[test]
fn streams_runs() {
    streams::main().expect("it ends well");
}

#[test]
fn artifacts_runs() {
    artifacts::main().expect("it ends well");
}

#[test]
fn list_jobs_runs() {
    list_jobs::main().expect("it ends well");
}

#[test]
fn minimal_session_runs() {
    minimal_session::main().expect("it ends well");
}

#[test]
fn permissions_runs() {
    permissions::main().expect("it ends well");
}

#[test]
fn progress_runs() {
    progress::main().expect("it ends well");
}

#[test]
fn questions_runs() {
    questions::main().expect("it ends well");
}

#[test]
fn result_in_pieces_runs() {
    result_in_pieces::main().expect("it ends well");
}

#[test]
fn resume_runs() {
    resume::main().expect("it ends well");
}

#[test]
fn schedules_runs() {
    schedules::main().expect("it ends well");
}

#[test]
fn submit_and_stream_runs() {
    submit_and_stream::main().expect("it ends well");
}

#[test]
fn tool_invocation_runs() {
    tool_invocation::main().expect("it ends well");
}

#[test]
fn vendor_extensions_runs() {
    vendor_extensions::main().expect("it ends well");
}

#[test]
fn watch_runs() {
    watch::main().expect("it ends well");
}

#[test]
fn workflow_runs() {
    workflow::main().expect("it ends well");
}

#[test]
fn interrupts_runs() {
    interrupts::main().expect("it ends well");
}

#[test]
fn checkpoints_runs() {
    checkpoints::main().expect("it ends well");
}

#[test]
fn redacted_thoughts_runs() {
    redacted_thoughts::main().expect("it ends well");
}

#[test]
fn sidecars_runs() {
    sidecars::main().expect("it ends well");
}

#[test]
fn job_tokens_runs() {
    job_tokens::main().expect("it ends well");
}

#[test]
fn stream_resume_runs() {
    stream_resume::main().expect("it ends well");
}
