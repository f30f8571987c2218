//! Job tokens, as a user makes and uses them.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use arcp_tests::home::{Home, code, stderr, stdout};

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

fn as_alice(home: &Home, url: &str, args: &[&str]) -> Output {
    home.run(&[args, &["--url", url, "--token", "tok-a"]].concat())
}

#[test]
fn a_token_of_a_job_outlives_a_killed_runtime_on_the_command_line() {
    let mut home = Home::new(ARCP);
    std::fs::create_dir_all(&home.dir).expect("a folder");
    let dir = home.dir.clone();
    let path = |name: &str| dir.join(name).to_str().expect("text").to_string();
    let (store, file) = (path("jobs.db"), path("job.token"));
    let serve = |home: &mut Home| {
        home.serve(&["--samples", "--store", &store, "--token", "tok-a=alice", "--token", "tok-b=bob"])
    };
    let url = serve(&mut home);
    let submit = ["submit", "echo", "--input", r#""kept""#, "--detach"];
    let job = stdout(&as_alice(&home, &url, &submit)).trim().to_string();
    let made = as_alice(&home, &url, &["job-token", &job, "--file", &file]);
    assert_eq!((code(&made), stdout(&made)), (0, String::new()), "{}", stderr(&made));
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else reads it");
    home.signal("KILL");
    let url = serve(&mut home);
    for family in ["hello", "open"] {
        let watched = as_alice(&home, &url, &["watch", "--job-token", &file, "--family", family]);
        assert_eq!(code(&watched), 0, "{}", stderr(&watched));
        assert!(stdout(&watched).contains("kept"), "{family}: {}", stdout(&watched));
    }
    // To somebody else it is nobody's, and what is no token is said with the file.
    let other = home.run(&["watch", "--job-token", &file, "--url", &url, "--token", "tok-b"]);
    assert!(code(&other) != 0 && stderr(&other).contains("for you"), "{}", stderr(&other));
    let none = path("none");
    std::fs::write(&none, "jtk_x\n").expect("a file");
    let wrong = as_alice(&home, &url, &["watch", "--job-token", &none]);
    assert!(code(&wrong) != 0 && stderr(&wrong).contains("has no token of a job"), "{}", stderr(&wrong));
    // One of the two is asked for.
    let neither = as_alice(&home, &url, &["watch"]);
    assert!(code(&neither) != 0 && stderr(&neither).contains("<JOB>"), "{}", stderr(&neither));
    home.signal("KILL");
}
