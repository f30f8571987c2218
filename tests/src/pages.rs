//! Runs the commands of documentation pages as a reader would paste them: in order, in one shell, until the first one
//! that fails.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::kept::Folder;
use crate::ports;

/// The port in pages that name one; commands without a port are given it by a variable.
const PORT: &str = "7777";
/// Is printed when every command has worked.
const ALL_OF_IT: &str = "all of it";

/// The commands of a page, one per line.
pub fn commands(page: &str) -> String {
    of_blocks(page).filter_map(|line| line.strip_prefix("$ ")).map(|line| format!("{line}\n")).collect()
}

/// The commands, each with the lines that follow it without a prompt, as its stdin.
pub fn script(page: &str) -> String {
    of_blocks(page).map(|line| format!("{}\n", line.strip_prefix("$ ").unwrap_or(line))).collect()
}

fn of_blocks(page: &str) -> impl Iterator<Item = &str> {
    let blocks = page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines)
}

/// Runs commands in a folder, which is their home, with this program as `arcp`, on a free port. Returns their output.
/// Runtimes that they start end with them.
pub fn paste(program: &str, folder: &Folder, commands: &str) -> String {
    let port = ports::free().port().to_string();
    let programs = Path::new(program).parent().expect("a folder").display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").expect("set"));
    let mut shell = Command::new("bash");
    shell.args(["-c", "exec bash -es 2>&1"]).env_clear().env("PATH", path).env("HOME", &folder.0);
    if !commands.contains(PORT) {
        shell.env("ARCP_LISTEN", format!("127.0.0.1:{port}"));
    }
    let commands = commands.replace(PORT, &port);
    shell.current_dir(&folder.0).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().expect("a shell");
    let script = format!("trap 'arcp stop --all > stopped 2>&1' EXIT\n{commands}echo {ALL_OF_IT}\n");
    shell.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("written");
    let output = shell.wait_with_output().expect("it ends");
    let all = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(all.lines().any(|line| line == ALL_OF_IT), "not every command works:\n{all}");
    all
}
