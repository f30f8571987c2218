//! The commands of `docs/operating.md`, run as a reader pastes them: in order, in one shell. Only the port, the state
//! directory, the files that the page calls FILE and TO, and paths in system folders are replaced.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use arcp_tests::kept::Folder;
use arcp_tests::ports;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");
const PAGE: &str = include_str!("../../docs/operating.md");
const PORT: &str = "7777";

/// A command as it is run here. What needs a second machine is only checked, and the job
/// that goes there is one of `handoff.rs`.
fn here(step: &str) -> Option<String> {
    if step.starts_with("arcp handoff ") {
        return None;
    }
    let elsewhere = step.contains("--handoff-to");
    let step = step.replace("/srv/agents", "agents").replace("/etc/arcp/east.token", "east.token");
    Some(if elsewhere { format!("{step} --check") } else { step })
}

/// The blocks of the page in this language.
fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    let fence = format!("```{language}\n");
    let starts: Vec<usize> = PAGE.match_indices(&fence).map(|(at, _)| at + fence.len()).collect();
    starts.into_iter().filter_map(|start| PAGE[start..].split("```").next())
}

#[test]
fn what_the_page_says_can_be_pasted() {
    let folder = Folder::new("operating-page");
    let port = ports::free().port().to_string();
    let words = |step: &str, file: &str, to: &str| {
        let word = |word: &str| match word {
            "FILE" => file.to_string(),
            "TO" => to.to_string(),
            word => word.replace(PORT, &port),
        };
        step.split(' ').map(word).collect::<Vec<String>>().join(" ")
    };
    let config: Vec<&str> = blocks("toml").collect();
    assert_eq!(config.len(), 1, "the file of the page");
    fs::write(folder.0.join("arcp.toml"), config[0].replace(PORT, &port)).expect("written");
    fs::create_dir(folder.0.join("agents")).expect("a folder");
    fs::write(folder.0.join("east.token"), "t0ken\n").expect("written");
    fs::set_permissions(folder.0.join("east.token"), Permissions::from_mode(0o600)).expect("for its owner");
    let lines = blocks("console").flat_map(str::lines).filter_map(|line| line.strip_prefix("$ "));
    let steps: Vec<String> = lines.filter_map(here).collect();
    assert!(steps.len() >= 17, "the blocks are found: {steps:?}");
    let mut script = String::from("trap 'arcp stop > stopped 2>&1' EXIT\n");
    for (n, step) in steps.iter().enumerate() {
        let step = words(step, &format!("state/store-{port}.db"), "copy.db");
        script.push_str(&format!("{step}\nstatus=$?; echo \"step {n} $status\"\n"));
    }
    let path =
        format!("{}:{}", Path::new(ARCP).parent().expect("a folder").display(), std::env::var("PATH").expect("set"));
    let mut shell = Command::new("bash");
    shell.args(["-c", "exec bash -s 2>&1"]).env_clear().env("PATH", path).env("HOME", &folder.0);
    shell.current_dir(&folder.0).env("ARCP_LISTEN", format!("127.0.0.1:{port}"));
    shell.env("ARCP_STATE_DIR", folder.0.join("state"));
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    shell.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("written");
    let output = shell.wait_with_output().expect("it ends");
    let all = String::from_utf8_lossy(&output.stdout);
    for (n, step) in steps.iter().enumerate() {
        assert!(all.lines().any(|line| line == format!("step {n} 0")), "`{step}` does not work:\n{all}");
    }
    for shown in [
        "arcp: this can be served",
        "# TYPE arcp_sessions_opened_total counter",
        "arcp: spans are sent to http://localhost:4318",
    ] {
        let said = all.contains(shown) || logs(&folder.0).contains(shown);
        assert!(said, "`{shown}` is not shown:\n{all}");
    }
    assert!(folder.0.join("copy.db").exists(), "the copy:\n{all}");
}

/// The logs of runtimes in the background.
fn logs(folder: &Path) -> String {
    let files = fs::read_dir(folder.join("state/logs")).expect("a folder").filter_map(|entry| Some(entry.ok()?.path()));
    let logs = files.filter(|file| file.extension().is_some_and(|extension| extension == "log"));
    logs.map(|log| fs::read_to_string(log).unwrap_or_default()).collect()
}
