//! Handoffs from one principal to another with the program.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::until::until;
use serde_json::Value;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

/// Starts a command, and waits until its stderr says this.
fn start(home: &Home, args: &[&str], says: &str) -> Child {
    let mut child = home.arcp(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    assert!(line.contains(says), "{args:?}: {line}");
    // Somebody has to read on.
    std::thread::spawn(move || lines.lines().map_while(Result::ok).for_each(drop));
    child
}

/// How a command that was started ended, and what it printed.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), stdout(&output))
}

#[test]
fn a_job_is_handed_to_who_waits_for_one_and_is_that_ones_alone() {
    let mut home = Home::new(ARCP);
    std::fs::create_dir_all(&home.dir).expect("a folder");
    let (store, go) = (home.dir.join("jobs.db"), home.dir.join("go"));
    let agent = format!("slow=read -r x; echo begun; while [ ! -e {} ]; do sleep 0.05; done; echo done", go.display());
    let store = store.display().to_string();
    home.serve(&["--agent", &agent, "--store", &store, "--token", "t=alice", "--token", "u=bob"]);
    for family in ["hello", "open"] {
        let of =
            |whose: &'static str| move |args: &[&'static str]| [args, &["--family", family, "--token", whose]].concat();
        let (alice, bob) = (of("t"), of("u"));
        let run = |args: &[&str], job: &str| home.run(&[&args[..1], &[job], &args[1..]].concat());
        let job = stdout(&home.run(&alice(&["submit", "slow", "--detach"]))).trim().to_string();
        // Nobody is given a job who does not wait for one.
        let refused = run(&alice(&["handoff", "--to", "bob"]), &job);
        assert_eq!(code(&refused), 1, "{family}: {}", stderr(&refused));
        assert!(["takes jobs", "arcp take"].iter().all(|word| stderr(&refused).contains(word)), "{}", stderr(&refused));
        let watched = home.arcp(&[&["watch", &job][..], &alice(&[])].concat());
        let mut watched = { watched }.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
        let mut told = BufReader::new(watched.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        // From here on it watches.
        assert!(told.any(|line| line.contains("begun")), "it shows the first line of the agent");
        let taking = start(&home, &bob(&["take", "--detach"]), "waiting for a job");
        let given = run(&alice(&["handoff", "--to", "bob", "--reason", "my shift is over"]), &job);
        assert_eq!((code(&given), stderr(&given).contains("is handed over to bob")), (0, true), "{}", stderr(&given));
        assert_eq!(end(taking), (Some(0), format!("{job}\n")));
        // Whoever watched it is told, and sees no more of it.
        let told = told.collect::<Vec<String>>().join("\n");
        assert_eq!(watched.wait().expect("it ends").code(), Some(1));
        assert!(told.contains("was handed over to bob"), "{told}");
        for args in [["cancel"], ["watch"], ["result"]] {
            let refused = run(&alice(&args), &job);
            assert_eq!(code(&refused), 1, "{args:?}: {}", stderr(&refused));
        }
        let again = run(&alice(&["handoff", "--to", "bob"]), &job);
        assert_eq!(code(&again), 0, "it is done: {}", stderr(&again));
        let again = run(&alice(&["handoff", "--to", "carol"]), &job);
        assert_eq!(code(&again), 1, "{}", stderr(&again));
        assert!(stdout(&home.run(&bob(&["ls", "-o", "id"]))).contains(&job));
        let cancelled = run(&bob(&["cancel"]), &job);
        assert_eq!(code(&cancelled), 0, "{}", stderr(&cancelled));
        assert_eq!(code(&run(&bob(&["wait"]), &job)), 3);
        // Whoever takes one and stays is shown how it ends.
        let job = stdout(&home.run(&alice(&["submit", "slow", "--detach"]))).trim().to_string();
        let taking = start(&home, &bob(&["take"]), "waiting for a job");
        assert_eq!(code(&run(&alice(&["handoff", "--to", "bob"]), &job)), 0);
        std::fs::write(&go, "").expect("written");
        assert_eq!(end(taking), (Some(0), "begun\ndone\n".to_string()));
        assert_eq!(stdout(&run(&bob(&["result"]), &job)), "begun\ndone\n");
        std::fs::remove_file(&go).expect("removed");
        assert_eq!(code(&home.run(&bob(&["take", "--timeout", "1s"]))), 4, "nobody hands one over");
    }
    let entry: Value = until("the trail", || {
        let trail = stdout(&home.run(&["audit", "--store", &store, "-o", "json"]));
        let trail: Value = serde_json::from_str(&trail).expect("JSON");
        let handed = |entry: &&Value| entry["act"] == "hand_over" && entry["outcome"] == "done";
        trail.as_array()?.iter().find(handed).cloned()
    });
    assert_eq!(
        (&entry["principal"], &entry["to"], &entry["reason"]),
        (&"alice".into(), &"bob".into(), &"my shift is over".into())
    );
    assert!(stdout(&home.run(&["audit", "--store", &store])).contains("to bob: my shift is over"));
}
