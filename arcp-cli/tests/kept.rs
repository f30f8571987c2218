//! Ended jobs are kept for as long as `--keep` says, and not here after that.

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
