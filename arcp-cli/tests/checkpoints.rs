//! Checkpoints, as a user requests them and after a crash.

use std::path::Path;
use std::process::Output;

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::kept::Folder;
use arcp_tests::pages;
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
    let commands = pages::commands(include_str!("../../docs/checkpoints.md"));
    assert!(commands.lines().count() > 5, "{commands}");
    pages::paste(ARCP, &Folder::new("checkpoints-page"), &commands);
}

#[test]
fn what_the_page_of_samples_says_can_be_pasted() {
    let commands = pages::commands(include_str!("../../docs/samples.md"));
    assert!(commands.lines().count() > 2, "{commands}");
    let said = pages::paste(ARCP, &Folder::new("samples-page"), &commands);
    assert!(said.lines().any(|line| line == "red"), "nobody chose, and the default counts: {said}");
}
