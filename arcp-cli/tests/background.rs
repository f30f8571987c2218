//! A runtime without a service manager: `arcp serve --background`, `arcp stop`.

use std::fs::{self, File};

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::until::until;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

/// A home whose runtimes end with the test, however that ends.
struct Stopped(Home);

impl Stopped {
    fn home() -> Stopped {
        Stopped(Home::new(ARCP))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.run(&["stop", "--all", "--now"]);
    }
}

impl std::ops::Deref for Stopped {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.0
    }
}

/// Starts a runtime in the background; its address, process and log.
fn start(home: &Home, args: &[&str]) -> (String, String, String) {
    let started = home.run(&[&["serve", "--background", "--listen", "127.0.0.1:0"], args].concat());
    let said = stderr(&started);
    assert_eq!(code(&started), 0, "{said}");
    let word = |before: &str| {
        let rest = said.split(before).nth(1).unwrap_or_else(|| panic!("no {before:?} in {said}"));
        rest.split([';', '\n']).next().expect("a word").to_string()
    };
    (stdout(&started).trim().to_string(), word("as process "), word("its log is "))
}

#[test]
fn a_runtime_goes_on_in_the_background_and_is_stopped() {
    let home = Stopped::home();
    let (url, pid, log) = start(&home, &["--samples"]);
    assert_eq!(stdout(&home.run(&["submit", "echo", "--input", "7"])), "7\n");
    assert!(fs::read_to_string(&log).expect("a log").contains(&format!("READY {url}")));
    // It is in no session of ours: nobody's terminal takes it along.
    let session = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    assert_eq!(session.rsplit(") ").next().expect("fields").split(' ').nth(3), Some(pid.as_str()));
    assert!(stdout(&home.run(&["show", &pid])).contains(&log));
    let stopped = home.run(&["stop"]);
    assert_eq!(code(&stopped), 0, "{}", stderr(&stopped));
    assert!(stderr(&stopped).contains(&format!("{url} has ended")), "{}", stderr(&stopped));
    assert_eq!(stdout(&home.run(&["runtimes", "-o", "id"])), "");
    let nothing = home.run(&["stop"]);
    assert!(code(&nothing) == 1 && stderr(&nothing).contains("nothing to stop"), "{}", stderr(&nothing));
}

#[test]
fn of_several_runtimes_the_one_that_is_named_is_stopped() {
    let home = Stopped::home();
    let (first, first_pid, _) = start(&home, &["--samples"]);
    let (second, _, _) = start(&home, &["--samples"]);
    let which = home.run(&["stop"]);
    assert!(
        code(&which) == 2 && stderr(&which).contains(&first) && stderr(&which).contains("--all"),
        "{}",
        stderr(&which)
    );
    for unknown in [":1", "1"] {
        let unknown = home.run(&["stop", unknown]);
        assert!(code(&unknown) == 1 && stderr(&unknown).contains("1`: see `arcp runtimes`"), "{}", stderr(&unknown));
    }
    assert_eq!(code(&home.run(&["stop", &first_pid])), 0);
    assert_eq!(stdout(&home.run(&["runtimes", "-o", "id"])), format!("{second}\n"));
    // What runs there is not waited for.
    assert_eq!(code(&home.run(&["submit", "slow", "--input", r#"{"ms":600000}"#, "--detach"])), 0);
    assert_eq!(code(&home.run(&["stop", "--all", "--now"])), 0);
    assert_eq!(stdout(&home.run(&["runtimes", "-o", "id"])), "");
}

#[test]
fn a_runtime_is_named_by_its_port_whatever_its_path() {
    let home = Stopped::home();
    for (path, bare) in [("/arcp", true), ("/arcp", false), ("/elsewhere", true), ("/elsewhere", false)] {
        let (url, ..) = start(&home, &["--samples", "--path", path]);
        let port = url.trim_end_matches(path).rsplit(':').next().expect("a port");
        let named = if bare { port.to_string() } else { format!(":{port}") };
        assert!(stdout(&home.run(&["show", &named])).contains(&url), "{named}");
        let stopped = home.run(&["stop", &named]);
        assert_eq!(code(&stopped), 0, "{named}: {}", stderr(&stopped));
        assert!(stderr(&stopped).contains(&format!("{url} has ended")), "{}", stderr(&stopped));
    }
}

#[test]
fn a_long_log_is_put_aside_when_a_runtime_starts() {
    let home = Stopped::home();
    let (_, pid, log) = start(&home, &["--samples"]);
    assert_eq!(code(&home.run(&["stop", &pid])), 0);
    let length = |name: &str| fs::metadata(name).expect("it is there").len();
    let (begun, old) = (length(&log), log.replace(".log", ".old.log"));
    let (_, pid, _) = start(&home, &["--samples"]);
    // What is said at a start is written beside it.
    until("a short one goes on", || (length(&log) > begun).then_some(()));
    assert_eq!(code(&home.run(&["stop", &pid])), 0);
    let many: u64 = 10 << 20;
    File::options().append(true).open(&log).and_then(|log| log.set_len(many)).expect("it grows");
    start(&home, &["--samples"]);
    assert!(length(&old) == many && length(&log) < many, "it begins anew, and the one before is kept");
}

#[test]
fn a_runtime_that_cannot_start_in_the_background_says_why() {
    let home = Stopped::home();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let refused = home.run(&["serve", "--background", "--samples", "--listen", &address]);
    assert_eq!((code(&refused), stdout(&refused).as_str()), (1, ""));
    assert!(stderr(&refused).starts_with(&format!("arcp: cannot listen on {address}")), "{}", stderr(&refused));
    let mistaken = home.run(&["serve", "--background", "--listen", "127.0.0.1:0"]);
    assert!(code(&mistaken) == 2 && stderr(&mistaken).contains("nothing to host"), "{}", stderr(&mistaken));
}
