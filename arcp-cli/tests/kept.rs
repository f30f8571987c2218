//! Ended jobs are kept for as long as `--keep` says and while `--store-max` has room, and are gone after that.

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::until::until;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

#[test]
fn a_job_that_is_no_longer_kept_is_not_here_and_it_is_said_for_how_long_it_was() {
    let mut home = Home::new(ARCP);
    std::fs::create_dir_all(&home.dir).expect("a folder");
    let store = home.dir.join("kept.db");
    let store = store.to_str().expect("text");
    home.serve(&["--agent", "quick=echo done", "--store", store, "--keep", "1s", "--resume-window", "1s"]);
    let submitted = home.run(&["submit", "quick", "--detach"]);
    let job = stdout(&submitted).trim().to_string();
    assert_eq!(code(&submitted), 0, "{}", stderr(&submitted));
    until("the job is forgotten", || {
        let listed = home.run(&["ls", "--output", "id"]);
        assert_eq!(code(&listed), 0, "{}", stderr(&listed));
        (!stdout(&listed).contains(&job)).then_some(())
    });
    for command in ["watch", "show", "result", "logs", "wait"] {
        let refused = home.run(&[command, &job]);
        let said = format!("arcp: {job} is not here: ended jobs are kept for 1 second\n");
        assert_eq!((code(&refused), stderr(&refused)), (1, said), "{command}");
    }
    let begun = home.run(&["show", "job_00"]);
    let said = "arcp: no job is called `job_00` there, or begins like it: see `arcp ls`; \
                ended jobs are kept for 1 second\n";
    assert_eq!((code(&begun), stderr(&begun).as_str()), (1, said));
}

#[test]
fn the_jobs_that_ended_first_go_when_a_store_holds_as_much_as_it_may() {
    let mut home = Home::new(ARCP);
    std::fs::create_dir_all(&home.dir).expect("a folder");
    let store = home.dir.join("full.db");
    let large = "large=head -c 400000 /dev/zero | tr '\\0' x";
    let serve = ["--agent", large, "--store", store.to_str().expect("text"), "--store-max", "1MiB"];
    home.serve(&serve);
    // Each is its line and, once more, its result.
    let jobs: Vec<String> = (0..3)
        .map(|_| {
            let job = stdout(&home.run(&["submit", "large", "--detach"])).trim().to_string();
            let ended = home.run(&["wait", &job]);
            assert_eq!(code(&ended), 0, "{}", stderr(&ended));
            job
        })
        .collect();
    let newest = &jobs[2];
    let listed = home.run(&["ls", "-o", "id"]);
    assert_eq!(stdout(&listed), format!("{newest}\n"), "{}", stderr(&listed));
    assert_eq!(stdout(&home.run(&["result", newest])).len(), 400_001);
    let gone = home.run(&["result", &jobs[0]]);
    assert!(code(&gone) == 1 && stderr(&gone).contains(&format!("{} is not here", jobs[0])), "{}", stderr(&gone));
    // Nor does a restart bring it back.
    assert!(home.signal("TERM").success());
    home.serve(&serve);
    assert_eq!(stdout(&home.run(&["ls", "-o", "id"])), format!("{newest}\n"));
}
