//! Checkpoints, as a user asks for them and a crash finds them.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::kept::Folder;
use serde_json::Value;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

fn lines(output: &Output) -> Vec<Value> {
    assert_eq!(code(output), 0, "{}", stderr(output));
    stdout(output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn as_alice(home: &Home, url: &str, args: &[&str]) -> Output {
    home.run(&[args, &["--url", url, "--token", "tok-a"]].concat())
}

#[test]
fn a_shell_script_is_asked_for_a_checkpoint_and_a_kill_leaves_it_to_another_job() {
    let mut home = Home::new(ARCP);
    std::fs::create_dir_all(&home.dir).expect("a folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/agents/saves.sh");
    let agent = format!("saves={}", script.display());
    let store = home.dir.join("jobs.db").to_str().expect("text").to_string();
    let serve = |home: &mut Home| {
        let args = ["--samples", "--store", &store, "--token", "tok-a=alice", "--token", "tok-b=bob"];
        home.serve(&[&args[..], &["--agent", &agent, "--checkpoints", "saves"]].concat())
    };
    let url = serve(&mut home);
    let submit = ["submit", "saves", "--input", "600", "--detach"];
    let job = stdout(&as_alice(&home, &url, &submit)).trim().to_string();
    // Perhaps it has not started yet.
    let create = ["checkpoint", "create", &job, "--label", "here", "-o", "jsonl"];
    let made = arcp_tests::until::until("it is made", || {
        let made = as_alice(&home, &url, &create);
        (code(&made) == 0).then(|| lines(&made).remove(0))
    });
    assert_eq!(
        (&made["label"], &made["asked_for"], &made["job_id"]),
        (&"here".into(), &true.into(), &job.as_str().into())
    );
    home.signal("KILL");
    let url = serve(&mut home);
    let listed = lines(&as_alice(&home, &url, &["checkpoint", "list", &job, "-o", "jsonl"]));
    assert_eq!(listed, std::slice::from_ref(&made), "what was printed is kept");
    let checkpoint = made["checkpoint_id"].as_str().expect("an id");
    let restore = ["checkpoint", "restore", checkpoint, "--key", "once", "--detach"];
    let new = stdout(&as_alice(&home, &url, &restore));
    assert!(new.starts_with("job_") && new.trim() != job, "{new}");
    assert_eq!(stdout(&as_alice(&home, &url, &restore)), new, "the same key, the same job");
    home.signal("KILL");
    let url = serve(&mut home);
    assert_eq!(stdout(&as_alice(&home, &url, &restore)), new, "after a kill as well");
    let shown = lines(&as_alice(&home, &url, &["ls", "-o", "jsonl"]));
    let from = shown.iter().find(|shown| shown["job_id"] == new.trim()).expect("it is listed");
    assert_eq!(from["parent_job_id"], job.as_str(), "{from}");
    // To somebody else there is none.
    let other = home.run(&["checkpoint", "restore", checkpoint, "--url", &url, "--token", "tok-b"]);
    assert!(code(&other) != 0 && stderr(&other).contains("no such checkpoint"), "{}", stderr(&other));
    home.signal("KILL");
}

#[test]
fn what_cannot_be_done_is_said_with_what_was_given() {
    let mut home = Home::new(ARCP);
    let url = home.serve(&["--samples", "--token", "tok-a=alice"]);
    let job = stdout(&as_alice(&home, &url, &["submit", "slow", "--input", "{\"ms\":60000}", "--detach"]));
    let job = job.trim();
    for (args, exit, said) in [
        (&["create", job][..], 1, "cannot go on from a checkpoint"),
        (&["create", job, "--label", ""], 2, "a label has 1 to 256 bytes"),
        (&["create", "job_none"], 1, "job_none"),
        (&["restore", "chk_none"], 1, "`arcp checkpoint list JOB` shows those that are kept"),
    ] {
        let output = as_alice(&home, &url, &[&["checkpoint"], args].concat());
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
        assert_eq!(code(&output), exit, "{args:?}: {}", stderr(&output));
    }
    let none = as_alice(&home, &url, &["checkpoint", "list", job]);
    assert_eq!((code(&none), stdout(&none).as_str()), (0, ""));
}

#[test]
fn what_the_page_says_can_be_pasted() {
    let page = include_str!("../../docs/checkpoints.md");
    let blocks = page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("$ "));
    let commands: String = lines.map(|line| format!("{line}\n")).collect();
    assert!(commands.lines().count() > 5, "{commands}");
    let folder = Folder::new("checkpoints-page");
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let programs = Path::new(ARCP).parent().expect("a folder").display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").expect("set"));
    let mut shell = Command::new("bash");
    shell.args(["-c", "exec bash -es 2>&1"]).env_clear().env("PATH", path).env("HOME", &folder.0);
    shell.env("ARCP_LISTEN", format!("127.0.0.1:{port}"));
    let mut shell = shell.current_dir(&folder.0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    let script = format!("trap 'arcp stop > stopped 2>&1' EXIT\n{commands}echo all of it\n");
    shell.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("written");
    let output = shell.wait_with_output().expect("it ends");
    let all = String::from_utf8_lossy(&output.stdout);
    assert!(all.lines().any(|line| line == "all of it"), "{all}");
}
