//! Schedules, as a user makes them and after a crash.

use std::process::Output;
use std::time::{Duration, Instant};

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::kept::Folder;
use arcp_tests::pages;
use arcp_tests::until::until;
use serde_json::Value;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

fn lines(output: &Output) -> Vec<Value> {
    assert_eq!(code(output), 0, "{}", stderr(output));
    stdout(output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn as_alice(home: &Home, url: &str, args: &[&str]) -> Output {
    home.run(&[args, &["--url", url, "--token", "tok-a"]].concat())
}

fn jobs(home: &Home, url: &str) -> usize {
    lines(&as_alice(home, url, &["ls", "-o", "jsonl"])).len()
}

#[test]
fn a_schedule_that_came_due_while_its_runtime_was_dead_fires_once_whatever_crashes_then() {
    let mut home = Home::new(ARCP);
    std::fs::create_dir_all(&home.dir).expect("a folder");
    let store = home.dir.join("jobs.db").to_str().expect("text").to_string();
    let serve = |home: &mut Home| home.serve(&["--samples", "--store", &store, "--token", "tok-a=alice"]);
    let url = serve(&mut home);
    let due = Instant::now() + Duration::from_secs(2);
    let once = as_alice(&home, &url, &["schedule", "add", "echo", "--after", "2s", "--id", "once", "-o", "jsonl"]);
    assert_eq!(lines(&once)[0]["schedule_id"], "once");
    home.signal("KILL");
    until("it is due", || (Instant::now() > due).then_some(()));
    for _ in 0..2 {
        let url = serve(&mut home);
        until("it has fired", || (jobs(&home, &url) == 1).then_some(()));
        let left = lines(&as_alice(&home, &url, &["schedule", "list", "-o", "jsonl"]));
        assert_eq!(left, Vec::<Value>::new(), "its only time is over");
        home.signal("KILL");
    }
    let url = serve(&mut home);
    assert_eq!(jobs(&home, &url), 1);
}

#[test]
fn a_schedule_is_added_listed_paused_resumed_and_removed() {
    let mut home = Home::new(ARCP);
    home.variables.push(("TZ", "EST5"));
    let url = home.serve(&["--samples", "--token", "tok-a=alice"]);
    let rule = "DTSTART;TZID=Europe/Berlin:20300101T083000 FREQ=DAILY";
    let add =
        ["schedule", "add", "echo", "--every", rule, "--id", "daily", "--input", "{\"n\":1}", "--overlap", "queue"];
    let added = as_alice(&home, &url, &add);
    assert_eq!(code(&added), 0, "{}", stderr(&added));
    assert!(stdout(&added).contains("daily"), "{}", stdout(&added));
    let listed = || lines(&as_alice(&home, &url, &["schedule", "list", "-o", "jsonl"]));
    let shown = listed();
    assert_eq!((&shown[0]["schedule_id"], &shown[0]["overlap"]), (&"daily".into(), &"queue".into()), "{shown:?}");
    assert_eq!(shown[0]["next"][0], "2030-01-01T07:30:00.000Z");
    let next = as_alice(&home, &url, &["schedule", "next", "daily", "-n", "2"]);
    assert_eq!(stdout(&next), "2030-01-01 02:30:00\n2030-01-02 02:30:00\n", "as `add` and `ls` print times");
    let table = as_alice(&home, &url, &["schedule", "ls"]);
    assert!(stdout(&table).contains("2030-01-01 02:30:00"), "{}", stdout(&table));
    assert_eq!(code(&as_alice(&home, &url, &["schedule", "pause", "daily"])), 0);
    assert!(listed()[0]["paused"].is_string());
    let none = as_alice(&home, &url, &["schedule", "next", "daily"]);
    assert_eq!((code(&none), stdout(&none).as_str()), (0, ""));
    assert!(stderr(&none).contains("is paused") && stderr(&none).contains("resume daily"), "{}", stderr(&none));
    assert_eq!(code(&as_alice(&home, &url, &["schedule", "resume", "daily"])), 0);
    assert!(listed()[0]["paused"].is_null());
    assert_eq!(code(&as_alice(&home, &url, &["schedule", "remove", "daily"])), 0);
    let gone = as_alice(&home, &url, &["schedule", "remove", "daily"]);
    assert!(code(&gone) == 1 && stderr(&gone).contains("no such schedule of yours"), "{}", stderr(&gone));
    // A rule alone needs no runtime.
    let next = home.run(&["schedule", "next", "--every", rule, "-n", "1"]);
    assert_eq!(stdout(&next), "2030-01-01 02:30:00\n", "{}", stderr(&next));
    let past = home.run(&["schedule", "next", "--every", "DTSTART:20200101T000000Z FREQ=DAILY;UNTIL=20200102"]);
    assert_eq!((code(&past), stdout(&past).as_str()), (0, ""));
    assert!(stderr(&past).contains("no time to come"), "{}", stderr(&past));
}

#[test]
fn what_cannot_be_scheduled_is_said_with_what_was_given() {
    let mut home = Home::new(ARCP);
    let url = home.serve(&["--samples", "--token", "tok-a=alice"]);
    for (args, exit, said) in [
        (&["add", "echo"][..], 2, "--every"),
        (&["add", "echo", "--every", "FREQ=SOMETIMES"], 2, "SOMETIMES"),
        (&["add", "echo", "--every", "DTSTART;TZID=Mars/Base:20300101T000000 FREQ=DAILY"], 2, "Mars/Base"),
        (&["add", "echo", "--every", "0 9 * * *"], 2, "such as FREQ=DAILY;BYHOUR=9 (cron is not read)"),
        (&["add", "echo", "--every", "SOMETIMES"], 2, "`SOMETIMES`: expected FREQ=YEARLY|MONTHLY"),
        (&["add", "echo", "--at", "2001-01-01T00:00:00Z"], 1, "--at: 2001-01-01T00:00:00.000Z is over"),
        (&["add", "echo", "--at", "tomorrow"], 2, "such as 2030-01-31T12:00:00Z"),
        (&["add", "echo", "--after", "1h", "--missed", "some"], 2, "`all`"),
        (&["add", "nobody", "--after", "1h"], 1, "nobody"),
        (&["pause", "nothing"], 1, "no such schedule of yours"),
        (&["next", "nothing"], 1, "no such schedule of yours"),
    ] {
        let output = as_alice(&home, &url, &[&["schedule"], args].concat());
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
        assert_eq!(code(&output), exit, "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn what_the_page_says_can_be_pasted() {
    let commands = pages::commands(include_str!("../../docs/schedules.md"));
    assert!(commands.lines().count() > 5, "{commands}");
    pages::paste(ARCP, &Folder::new("schedules-page"), &commands);
}
