//! Artifacts, as a user stores and fetches files.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use arcp_blocking::{Client, artifacts};
use arcp_proto::client::ClientConfig;
use arcp_proto::model::artifact::BlobDigest;
use arcp_proto::model::request::Credential;
use arcp_proto::model::upload::ArtifactPart;
use arcp_proto::secret::Secret;
use arcp_tests::cut::{Carried, Carrier};
use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::until::until;
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
    let url = home.serve(&["--samples", "--token", "tok-a=alice", "--artifacts-max", "1MiB"]);
    let none = home.serve(&["--samples", "--token", "tok-a=alice", "--keep-artifacts", "0s"]);
    fs::create_dir_all(&home.dir).expect("a folder");
    let large = home.dir.join("large.bin");
    fs::write(&large, vec![0; (1 << 20) + 1]).expect("written");
    let large = large.to_str().expect("text").to_string();
    for (args, url, exit, said) in [
        (&["put", "/nowhere"][..], &url, 2, "/nowhere: No such file"),
        (&["put", &large], &url, 1, "large.bin: the bytes of artifacts of everybody have reached"),
        (&["put", &large, "--type", "text"], &url, 2, "a media type"),
        (&["put", &large], &none, 1, "keeps no artifacts"),
        (&["get", "art_nobody"], &url, 1, "no such artifact of yours"),
    ] {
        let output = home.run(&[&["artifact"], args, &["--url", url, "--token", "tok-a"]].concat());
        assert!(code(&output) == exit && stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn a_file_larger_than_a_frame_is_left_in_parts_fetched_on_from_where_it_was_and_listed() {
    let mut home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    let (file, copy) = (home.dir.join("large.bin"), home.dir.join("copy.bin"));
    let partial = home.dir.join("copy.bin.partial");
    let bytes: Vec<u8> = (0..400_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&file, &bytes).expect("written");
    let url = home.serve(&["--samples", "--token", "tok-a=alice", "--token", "tok-b=bob"]);
    let run = |args: &[&str], token: &str| home.run(&[args, &["--url", &url, "--token", token]].concat());
    let file = file.to_str().expect("text");
    let kept = json(&run(&["artifact", "put", file, "--id", "large", "-o", "jsonl"], "tok-a"));
    assert_eq!((&kept["artifact_id"], &kept["size"]), (&"large".into(), &1_600_000.into()), "{kept}");
    let again = json(&run(&["artifact", "put", file, "--id", "large", "-o", "jsonl"], "tok-a"));
    assert_eq!(again, kept, "the same once more is the same");
    let streamed = run(&["artifact", "get", "large"], "tok-a");
    assert!(code(&streamed) == 0 && streamed.stdout == bytes, "{}", stderr(&streamed));
    // What came before is not fetched again; what is something else is.
    let copy_name = copy.to_str().expect("text");
    for there in [&bytes[..700_000], b"something else", &[0; 2_000_000]] {
        fs::write(&partial, there).expect("written");
        let fetched = run(&["artifact", "get", "large", "--out", copy_name], "tok-a");
        assert_eq!(code(&fetched), 0, "{}", stderr(&fetched));
        assert!(fs::read(&copy).expect("written") == bytes && !partial.exists());
    }
    let gone = run(&["artifact", "get", "gone", "--out", copy_name], "tok-a");
    assert!(code(&gone) == 1 && !partial.exists(), "{}", stderr(&gone));
    assert!(fs::read(&copy).expect("it stays") == bytes);
    let artist = run(&["submit", "artist", "--input", r#"{"bytes": 30}"#], "tok-a");
    let made: Value = serde_json::from_str(stdout(&artist).lines().last().expect("a result")).expect("JSON");
    let id = made["artifact_id"].as_str().expect("an id");
    assert!(stderr(&artist).contains(id) || stdout(&artist).contains(id), "{}", stderr(&artist));
    let listed = stdout(&run(&["artifacts", "-o", "jsonl"], "tok-a"));
    let of = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
    let mut ids: Vec<String> =
        listed.lines().map(|line| of(line)["artifact_id"].as_str().expect("an id").into()).collect();
    ids.sort();
    assert_eq!(ids, [id, "large"]);
    let job = listed.lines().find_map(|line| of(line)["job_id"].as_str().map(str::to_string)).expect("a job");
    let of_job = json(&run(&["artifact", "ls", "--job", &job, "-o", "jsonl"], "tok-a"));
    assert_eq!(of_job["artifact_id"], id);
    assert_eq!(stdout(&run(&["artifacts", "-o", "jsonl"], "tok-b")), "", "another principal has none");
    let denied = run(&["artifacts", "--job", &job], "tok-b");
    assert_ne!(code(&denied), 0, "{}", stdout(&denied));
}

#[test]
fn a_result_that_is_an_artifact_goes_where_results_go_also_after_a_crash() {
    let mut home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    let store = home.dir.join("jobs.db").to_str().expect("text").to_string();
    let args = ["--samples", "--store", &store, "--token", "tok-a=alice", "--token", "tok-b=bob"];
    let url = home.serve(&args);
    let run = |home: &Home, url: &str, args: &[&str]| home.run(&[args, &["--url", url, "--token", "tok-a"]].concat());
    let letters = "abcdefghijklmnopqrstuvwxyzabcd";
    let submit = ["submit", "artist", "--input", r#"{"bytes": 30, "as_result": true}"#];
    for family in ["hello", "open"] {
        let made = run(&home, &url, &[&submit[..], &["--family", family]].concat());
        assert_eq!((code(&made), stdout(&made).as_str()), (0, letters), "{}", stderr(&made));
    }
    let (copy, later) = (home.dir.join("copy.txt"), home.dir.join("later.txt"));
    let told = run(&home, &url, &[&submit[..], &["-o", "jsonl", "--save", copy.to_str().expect("text")]].concat());
    let ended: Value = serde_json::from_str(stdout(&told).lines().last().expect("an end")).expect("JSON");
    assert_eq!(fs::read_to_string(&copy).expect("written"), letters);
    let (id, size) = (&ended["result_ref"]["artifact_id"], &ended["result_ref"]["size"]);
    let id = id.as_str().expect("an id").to_string();
    assert_eq!(*size, 30, "{ended}");
    let accepted: Value = serde_json::from_str(stdout(&told).lines().next().expect("a line")).expect("JSON");
    let job = accepted["job_id"].as_str().expect("an id").to_string();
    home.signal("KILL");
    let url = home.serve(&args);
    let again = run(&home, &url, &["result", &job]);
    assert_eq!((code(&again), stdout(&again).as_str()), (0, letters), "{}", stderr(&again));
    let watched = run(&home, &url, &["watch", &job, "--save", later.to_str().expect("text")]);
    assert_eq!((code(&watched), stdout(&watched).as_str()), (0, ""), "{}", stderr(&watched));
    assert_eq!(fs::read_to_string(&later).expect("written"), letters);
    let shown = stdout(&run(&home, &url, &["show", &job]));
    assert!(shown.contains(&id) && shown.contains("arcp artifact get"), "{shown}");
    // Any other result is saved as it would be printed.
    let echoed = run(&home, &url, &["submit", "echo", "--input", r#""hi""#, "--save", copy.to_str().expect("text")]);
    assert_eq!((code(&echoed), stdout(&echoed).as_str()), (0, ""), "{}", stderr(&echoed));
    assert_eq!(fs::read_to_string(&copy).expect("written"), "hi\n");
    assert_eq!(code(&run(&home, &url, &["artifact", "rm", &id])), 0);
    let gone = run(&home, &url, &["result", &job]);
    assert!(code(&gone) == 1 && stderr(&gone).contains(&id) && stderr(&gone).contains("not kept"), "{}", stderr(&gone));
    for (args, exit, said) in [
        (&["submit", "echo", "--detach", "--save", "x"][..], 2, "--save"),
        (&["submit", "echo", "--save", "/nowhere/x"], 1, "/nowhere/x"),
    ] {
        let output = run(&home, &url, args);
        assert!(code(&output) == exit && stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    }
    home.signal("TERM");
}

#[test]
fn what_a_kill_leaves_of_a_file_that_was_half_put_is_gone_at_the_next_start() {
    let mut home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    let store = home.dir.join("jobs.db").to_str().expect("text").to_string();
    let args = ["--samples", "--store", &store, "--token", "tok-a=alice"];
    let url = home.serve(&args);
    let folder = home.dir.join("jobs.db.artifacts");
    let whole = vec![7; 1000];
    let half = || ArtifactPart { digest: BlobDigest::of(&whole), size: 1000, offset: 0, data: whole[..500].to_vec() };
    let connect = |url: &str| {
        let credential = Credential::Bearer(Secret::new("tok-a".into()));
        Client::connect(url.parse().expect("a URL"), ClientConfig::new("test", "1", credential)).expect("a session")
    };
    let client = connect(&url);
    assert_eq!(artifacts::send_part(&client, half()).expect("taken"), 500);
    assert_eq!(files(&folder), ["part-1"]);
    home.signal("KILL");
    drop(client);
    let url = home.serve(&args);
    let client = connect(&url);
    let ask = ArtifactPart { data: Vec::new(), ..half() };
    assert_eq!(artifacts::send_part(&client, ask).expect("answered"), 0, "and its client is told");
    assert_eq!(files(&folder), [""; 0], "nothing is left of it");
    let media_type = "a/b".parse().expect("a media type");
    let mut source = std::io::Cursor::new(&whole);
    let terms = artifacts::terms_of(media_type, &mut source).expect("readable");
    let kept = artifacts::upload(&client, terms, &mut source).expect("kept");
    assert_eq!(files(&folder), [kept.digest.to_string()]);
    drop(client);
    home.signal("TERM");
}

#[test]
fn a_kill_of_the_runtime_in_the_middle_of_a_put_begins_it_again() {
    let mut home = Home::new(ARCP);
    fs::create_dir_all(&home.dir).expect("a folder");
    let store = home.dir.join("jobs.db").to_str().expect("text").to_string();
    let args = ["--samples", "--store", &store, "--token", "tok-a=alice"];
    let address = |url: &str| {
        let address = url.trim_start_matches("ws://").trim_end_matches("/arcp");
        address.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
    };
    let file = home.dir.join("large.bin");
    let bytes: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&file, &bytes).expect("written");
    let carrier = Carrier::to(address(&home.serve(&args)));
    // Some parts have come, and one is on its way.
    carrier.cut_after(Carried { up: 2_300_000, down: u64::MAX });
    let mut put = home.arcp(&["artifact", "put", file.to_str().expect("text"), "--id", "large", "-o", "jsonl"]);
    put.args(["--url", &carrier.url(), "--token", "tok-a"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let put = put.spawn().expect("it runs");
    until("the cut", || carrier.is_cut().then_some(()));
    home.signal("KILL");
    let url = home.serve(&args);
    carrier.mend(address(&url));
    let kept = json(&put.wait_with_output().expect("it ends"));
    assert_eq!((&kept["artifact_id"], &kept["size"]), (&"large".into(), &4_000_000.into()), "{kept}");
    assert!(carrier.carried().up > 2_300_000 + 4_000_000, "all of it was sent again: {:?}", carrier.carried());
    let fetched = home.run(&["artifact", "get", "large", "--url", &url, "--token", "tok-a"]);
    assert!(fetched.stdout == bytes, "{}", stderr(&fetched));
    assert_eq!(files(&home.dir.join("jobs.db.artifacts")), [kept["sha256"].as_str().expect("a digest")]);
    home.signal("TERM");
}
