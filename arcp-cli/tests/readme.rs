//! The blocks of the README, run as a reader pastes them: in order, in one shell, without a pause.
//!
//! Only the port and the home directory are replaced, and commands that build are left out: the program was built for
//! this test. Python blocks run if `ARCP_PYTHON` names an interpreter with the published SDK; Rust blocks run as
//! doctests.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");
const README: &str = include_str!("../../README.md");
/// What the README writes for what is different on each machine.
const PORT: &str = "7777";
const HOME: &str = "/home/me";

/// A command as it is pasted, and what it shows, in the same or a later line.
struct Step {
    command: String,
    shown: Vec<String>,
}

fn steps() -> Vec<Step> {
    let blocks = README.split("```console\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().expect("a block").lines());
    let mut steps: Vec<Step> = Vec::new();
    for line in lines {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push(Step { command: command.to_string(), shown: Vec::new() }),
            None => steps.last_mut().expect("a command comes first").shown.push(line.to_string()),
        }
    }
    steps.retain(|step| !step.command.starts_with("cargo "));
    steps
}

/// The program in Python, and how it is run once the runtime listens.
fn python(home: &Path, port: &str, here: &dyn Fn(&str) -> String) -> Option<Step> {
    let interpreter = std::env::var("ARCP_PYTHON").ok()?;
    let block = README.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let program = home.join("readme.py");
    fs::write(&program, here(block)).expect("written");
    let listens = format!("until (: < /dev/tcp/127.0.0.1/{port}) 2> /dev/null; do :; done");
    let command = format!("{listens}; {interpreter} {}", program.display());
    Some(Step { command, shown: vec!["{'done': True, 'ticks': 5}".to_string()] })
}

/// Ids are new each time.
fn without_ids(text: &str) -> String {
    let mut parts = text.split("job_");
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |all, part| all + "job_" + part.get(26..).unwrap_or_default())
}

#[test]
fn what_the_readme_says_can_be_pasted() {
    let home = std::env::temp_dir().join(format!("arcp-readme-{}", std::process::id()));
    fs::create_dir_all(&home).expect("a folder");
    let port = arcp_tests::ports::free().port().to_string();
    let here = |text: &str| text.replace(PORT, &port).replace(HOME, home.to_str().expect("text"));
    let mut steps = steps();
    assert!(steps.len() >= 7, "the blocks are found");
    steps.extend(python(&home, &port, &here));
    // Again and again: a child that the shell has just forked perhaps forgets a signal.
    let mut script = String::from("trap 'while kill $(jobs -p) 2> /dev/null; do sleep 0.1; done' EXIT\n");
    for (n, step) in steps.iter().enumerate() {
        script.push_str(&format!("{}\nstatus=$?; echo \"step {n} $status\"\n", here(&step.command)));
    }
    let path =
        format!("{}:{}", Path::new(ARCP).parent().expect("a folder").display(), std::env::var("PATH").expect("set"));
    let mut shell = Command::new("bash");
    shell.args(["-c", "exec bash -s 2>&1"]).env_clear().env("PATH", path).env("HOME", &home).current_dir(&home);
    shell.env("ARCP_LISTEN", format!("127.0.0.1:{port}"));
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    shell.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("written");
    let output = shell.wait_with_output().expect("it ends");
    let all = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<String> = all.lines().map(without_ids).collect();
    for (n, step) in steps.iter().enumerate() {
        assert!(lines.contains(&format!("step {n} 0")), "`{}` does not work:\n{all}", step.command);
        for shown in &step.shown {
            let expected = without_ids(&here(shown));
            assert!(lines.contains(&expected), "`{}` does not show `{expected}`:\n{all}", step.command);
        }
    }
    let _ = fs::remove_dir_all(home);
}
