//! Files that are left with a runtime, as a user leaves and fetches them.

use std::fs;
use std::path::Path;
use std::process::Output;

use arcp_tests::home::{Home, code, stderr, stdout};
use serde_json::Value;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

fn json(output: &Output) -> Value {
    assert_eq!(code(output), 0, "{}", stderr(output));
    serde_json::from_str(&stdout(output)).expect("JSON")
}

/// What lies beside the store.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_file_that_was_left_is_fetched_after_a_crash_by_whoever_left_it_until_it_is_let_go() {
    let mut home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    let (file, store) = (home.dir.join("report.bin"), home.dir.join("jobs.db"));
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&file, &bytes).expect("written");
    let serve = |home: &mut Home| {
        let store = store.to_str().expect("text").to_string();
        home.serve(&["--samples", "--store", &store, "--token", "tok-a=alice", "--token", "tok-b=bob"])
    };
    let url = serve(&mut home);
    let name = file.to_str().expect("text").to_string();
    let as_alice = |home: &Home, url: &str, args: &[&str]| {
        home.run(&[&["artifact"], args, &["--url", url, "--token", "tok-a"]].concat())
    };
    let kept = json(&as_alice(&home, &url, &["put", &name, "--type", "application/x-report", "-o", "jsonl"]));
    let id = kept["artifact_id"].as_str().expect("an id").to_string();
    assert_eq!((&kept["media_type"], &kept["size"]), (&"application/x-report".into(), &400_000.into()), "{kept}");
    home.signal("KILL");
    let url = serve(&mut home);
    let fetched = as_alice(&home, &url, &["get", &id]);
    assert_eq!((code(&fetched), fetched.stdout == bytes), (0, true), "{}", stderr(&fetched));
    let copy = home.dir.join("copy.bin");
    as_alice(&home, &url, &["get", &id, "--file", copy.to_str().expect("text")]);
    assert!(fs::read(&copy).expect("written") == bytes);
    let of_bob = home.run(&["artifact", "get", &id, "--url", &url, "--token", "tok-b"]);
    assert_eq!(code(&of_bob), 1, "{}", stderr(&of_bob));
    assert!(of_bob.stdout.is_empty() && stderr(&of_bob).contains("no such artifact of yours"), "{}", stderr(&of_bob));
    let folder = home.dir.join("jobs.db.artifacts");
    assert_eq!(files(&folder), [kept["sha256"].as_str().expect("a digest")]);
    assert_eq!(code(&as_alice(&home, &url, &["rm", &id])), 0);
    assert_eq!(code(&as_alice(&home, &url, &["get", &id])), 1);
    assert_eq!(home.signal("TERM").code(), Some(0));
    assert_eq!(files(&folder), [""; 0], "its bytes went with it");
}

#[test]
fn what_cannot_be_left_is_said_before_anything_is_sent_and_after() {
    let mut home = Home::new(ARCP);
    let url = home.serve(&["--samples", "--token", "tok-a=alice"]);
    let none = home.serve(&["--samples", "--token", "tok-a=alice", "--keep-artifacts", "0s"]);
    fs::create_dir_all(&home.dir).expect("a folder");
    let large = home.dir.join("large.bin");
    fs::write(&large, vec![0; (1 << 20) + 1]).expect("written");
    let large = large.to_str().expect("text").to_string();
    for (args, url, exit, said) in [
        (&["put", "/nowhere"][..], &url, 2, "/nowhere: No such file"),
        (&["put", &large], &url, 1, "at most 1048576 bytes"),
        (&["put", &large, "--type", "text"], &url, 2, "a media type"),
        (&["put", &large], &none, 1, "keeps no artifacts"),
        (&["get", "art_nobody"], &url, 1, "no such artifact of yours"),
    ] {
        let output = home.run(&[&["artifact"], args, &["--url", url, "--token", "tok-a"]].concat());
        assert!(code(&output) == exit && stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    }
}
