//! TLS, as operators and users have it: a certificate is made, served, trusted and replaced.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use arcp_tests::certificates::{Authority, Pair};
use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::kept::Folder;
use arcp_tests::until::until;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

/// Makes a pair in a folder of the state directory; gives its two files.
fn pair(home: &Home, folder: &str, more: &[&str]) -> (String, String) {
    let out = home.dir.join(folder);
    let made = home.run(&[&["tls", "self-signed", "--out", out.to_str().expect("text")], more].concat());
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let said = stdout(&made);
    let (certificate, key) = said.trim().split_once('\n').expect("two files");
    (certificate.to_string(), key.to_string())
}

/// A runtime whose stderr is read line by line; it ends with the value.
struct Serve {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Serve {
    fn start(home: &Home, args: &[&str]) -> Serve {
        let mut command = home.arcp(&[&["serve", "--listen", "127.0.0.1:0", "--samples"], args].concat());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
        let said = BufReader::new(child.stderr.take().expect("a pipe"));
        Serve { child, said }
    }

    fn said(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(self.said.read_line(&mut line).expect("text"), 0, "it ended without saying `{text}`");
        }
        line
    }

    fn hang_up(&self) {
        let kill = Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status();
        assert!(kill.expect("kill").success());
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_pair_is_for_its_user_alone_and_is_never_written_over_unasked() {
    let home = Home::new(ARCP);
    let (certificate, key) = pair(&home, "pair", &["--host", "arcp.example", "--host", "10.0.0.1"]);
    let mode = |file: &str| fs::metadata(file).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&key), mode(&certificate) & 0o022), (0o600, 0));
    let before = fs::read(&key).expect("it is there");
    let out = home.dir.join("pair");
    let again = ["tls", "self-signed", "--out", out.to_str().expect("text")];
    let refused = home.run(&again);
    let said = stderr(&refused);
    assert!(code(&refused) == 1 && said.contains("arcp-cert.pem is there already") && said.contains("--overwrite"));
    assert_eq!(fs::read(&key).expect("it is there"), before);
    assert_eq!(code(&home.run(&[&again[..], &["--overwrite"]].concat())), 0);
    assert_ne!(fs::read(&key).expect("it is there"), before);
    assert_eq!(mode(&key), 0o600);
}

#[test]
fn a_pair_is_served_and_trusted_by_its_file_and_by_the_user_who_serves_it() {
    for adapter in [&[][..], &["--tokio"]] {
        let mut home = Home::new(ARCP);
        // Not this machine's name: its own user's commands need none.
        let (certificate, key) = pair(&home, "pair", &["--host", "arcp.example"]);
        let tls = ["--samples", "--tls-cert", &certificate, "--tls-key", &key];
        let url = home.serve(&[&tls[..], adapter].concat());
        assert!(url.starts_with("wss://127.0.0.1:"), "{url}");
        for command in [&["submit", "echo", "--input", "1"][..], &["ls"], &["agents"]] {
            let output = home.run(command);
            assert_eq!(code(&output), 0, "{command:?}: {}", stderr(&output));
        }
        // What it counts comes over TLS as well.
        let mut top = home.on_terminal(&["top", "--every", "50ms"]);
        until("the counts", || String::from_utf8_lossy(&top.shown()).contains("connected)").then_some(()));
        top.type_keys("q");
        top.wait();

        let stranger = Home::new(ARCP);
        let ask = ["ls", "--url", &url, "--token", "t", "--give-up-after", "1h"];
        let refused = stranger.run(&ask);
        let said = stderr(&refused);
        assert!(code(&refused) == 7 && said.contains("nobody who is trusted") && said.contains("--ca FILE"), "{said}");
        let refused = stranger.run(&[&ask[..], &["--ca", &certificate]].concat());
        let said = stderr(&refused);
        assert!(code(&refused) == 7 && said.contains("for another name"), "{said}");

        let (certificate, key) = pair(&home, "named", &[]);
        let url = home.serve(
            &[&["--samples", "--tls-cert", &certificate, "--tls-key", &key, "--token", "t=me"], adapter].concat(),
        );
        let listed = stranger.run(&["ls", "--url", &url, "--token", "t", "--ca", &certificate]);
        assert_eq!(code(&listed), 0, "{}", stderr(&listed));
    }
}

#[test]
fn a_runtime_is_known_by_the_key_that_it_showed_first_until_that_is_forgotten() {
    let (mut home, stranger) = (Home::new(ARCP), Home::new(ARCP));
    let (certificate, key) = pair(&home, "pair", &[]);
    let url = home.serve(&["--samples", "--tls-cert", &certificate, "--tls-key", &key, "--token", "t=me"]);
    let list = || stranger.run(&["ls", "--url", &url, "--token", "t", "--ca", &certificate]);
    assert_eq!(code(&list()), 0, "{}", stderr(&list()));
    let known = stranger.dir.join("known_runtimes");
    let first = fs::read_to_string(&known).expect("it is kept");
    assert_eq!(first.lines().count(), 1, "{first}");
    assert_eq!(fs::metadata(&known).expect("it is there").permissions().mode() & 0o777, 0o600);
    assert!(!home.dir.join("known_runtimes").exists(), "whose own it is knows it by its file");

    pair(&home, "pair", &["--overwrite"]);
    home.signal("TERM");
    let port = url.split(':').nth(2).and_then(|rest| rest.split('/').next()).expect("a port");
    home.serve_at(
        &format!("127.0.0.1:{port}"),
        &["--samples", "--tls-cert", &certificate, "--tls-key", &key, "--token", "t=me"],
    );
    let refused = list();
    let said = stderr(&refused);
    let line = format!("{}:1", known.display());
    let fingerprint = first.trim().split(' ').nth(1).expect("a fingerprint");
    assert!(code(&refused) == 7 && said.contains(fingerprint) && said.contains(&line), "{said}");
    assert!(said.matches("sha256:").count() == 2 && !said.contains("--ca"), "{said}");
    let named =
        said.split("`arcp runtimes forget ").nth(1).and_then(|rest| rest.split('`').next()).expect("what to do");
    let forgotten = stranger.run(&["runtimes", "forget", named]);
    assert_eq!(code(&forgotten), 0, "{}", stderr(&forgotten));
    assert_eq!((code(&list()), code(&stranger.run(&["runtimes", "forget", "wss://elsewhere"]))), (0, 1));
}

#[test]
fn a_sighup_has_the_certificate_read_again_and_ends_nothing() {
    let home = Home::new(ARCP);
    let (certificate, key) = pair(&home, "pair", &[]);
    let mut serve = Serve::start(&home, &["--tls-cert", &certificate, "--tls-key", &key]);
    let ready = serve.said("READY");
    let url = ready.trim().strip_prefix("READY ").expect("a URL");
    serve.said("jobs and sessions are");
    let mut submit = home.arcp(&["submit", "slow", "--input", r#"{"ms":1500}"#]);
    let mut running = submit.stderr(Stdio::piped()).spawn().expect("it runs");
    let mut followed = BufReader::new(running.stderr.take().expect("a pipe")).lines();
    assert!(followed.next().expect("a line").expect("text").starts_with("job_"));
    let following = std::thread::spawn(move || followed.for_each(drop));
    let old = home.dir.join("old.pem");
    fs::copy(&certificate, &old).expect("copied");
    let lists = |ca: &str| code(&home.run(&["ls", "--url", url, "--ca", ca]));
    pair(&home, "pair", &["--overwrite"]);
    serve.hang_up();
    serve.said("the certificate was read again");
    assert_eq!((lists(&certificate), lists(old.to_str().expect("text"))), (0, 7));
    fs::write(&key, "no key").expect("written");
    serve.hang_up();
    let said = serve.said("the certificate stays as it was");
    assert!(said.contains("arcp-key.pem"), "{said}");
    assert_eq!(lists(&certificate), 0);
    following.join().expect("no panic");
    assert!(running.wait().expect("it ends").success(), "its session went on");
}

#[test]
fn a_client_that_shows_a_certificate_needs_no_token() {
    let mut home = Home::new(ARCP);
    let (certificate, key) = pair(&home, "server", &[]);
    let folder = home.dir.clone();
    let file = |name: &str| folder.join(name).to_str().expect("text").to_string();
    let authority = {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        fs::write(file("ca"), params.self_signed(&key).expect("a certificate").pem()).expect("written");
        Issuer::new(params, key)
    };
    let issue = |name: &str| {
        let params = CertificateParams::new(vec![format!("{name}.example")]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let issued = params.signed_by(&key, &authority).expect("a certificate");
        fs::write(file(name), issued.pem()).expect("written");
        fs::write(file(&format!("{name}-key")), key.serialize_pem()).expect("written");
        [file(name), file(&format!("{name}-key"))]
    };
    let ([alice, alice_key], [bob, bob_key]) = (issue("alice"), issue("bob"));
    let [mallory, mallory_key] = issue("mallory");
    fs::write(file("names"), "dns:alice.example alice roles=lead,of-nothing\ndns:bob.example bob\n").expect("written");
    let names = file("names");
    fs::set_permissions(&names, fs::Permissions::from_mode(0o600)).expect("set");
    let (ca, given) = (file("ca"), ["--tls-cert", &certificate, "--tls-key", &key, "--samples", "--operator", "alice"]);
    let url = home.serve(&[&given[..], &["--tls-client-ca", &ca, "--tls-client-names", &names]].concat());
    fs::write(file("policy"), "[[rule]]\nname = \"leads\"\nroles = [\"lead\"]\nagents = [\"echo\"]\n")
        .expect("written");
    let policy = file("policy");
    let bound = [&given[..5], &["--policy", &policy, "--tls-client-ca", &ca, "--tls-client-names", &names]];
    let under = home.serve(&bound.concat());
    let on = |args: &[&str], shown: &[&str]| home.run(&[args, &["--url", &url, "--ca", &certificate], shown].concat());
    let own = ["--cert", &alice, "--cert-key", &alice_key];
    let job = on(&["submit", "echo", "--input", "1"], &own);
    assert_eq!((code(&job), stdout(&job).trim()), (0, "1"), "{}", stderr(&job));
    let all = on(&["sessions", "list", "-o", "json"], &own);
    assert!(code(&all) == 0 && stdout(&all).contains(r#""principal":"alice""#), "{}", stderr(&all));
    let (mallory, mallory_key) = (&mallory, &mallory_key);
    let unknown = on(&["ls"], &["--cert", mallory, "--cert-key", mallory_key]);
    assert_eq!(code(&unknown), 8, "{}", stderr(&unknown));
    let none = on(&["ls"], &[]);
    assert_eq!(code(&none), 8, "{}", stderr(&none));
    // By the roles that the file says a policy lets them do what these may.
    let of_bob = ["--cert", &bob, "--cert-key", &bob_key];
    assert_eq!(code(&on(&["submit", "echo", "--input", "1"], &of_bob)), 0);
    let submits = |shown: &[&str; 4], agent: &str| {
        let submit = ["submit", agent, "--input", "1", "--url", &under, "--ca", &certificate];
        code(&home.run(&[&submit[..], shown].concat()))
    };
    assert_eq!((submits(&own, "echo"), submits(&own, "chatty"), submits(&of_bob, "echo")), (0, 1, 1));
    let half = on(&["ls"], &["--cert", &alice]);
    assert!(code(&half) == 2 && stderr(&half).contains("--cert-key"), "{}", stderr(&half));
    let without = home.run(&["serve", "--samples", "--tls-client-ca", &ca]);
    assert!(code(&without) == 2 && stderr(&without).contains("--tls-cert"), "{}", stderr(&without));
}

/// Runs a script as it is pasted, in a folder of its own; everything that it shows.
fn pasted(folder: &Folder, script: &str) -> String {
    let path =
        format!("{}:{}", Path::new(ARCP).parent().expect("a folder").display(), std::env::var("PATH").expect("set"));
    let mut shell = Command::new("bash");
    shell.args(["-c", "exec bash -s 2>&1"]).env_clear().env("PATH", path).env("HOME", &folder.0);
    let mut shell = shell.current_dir(&folder.0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    // Again and again: a child that the shell has just forked perhaps forgets a signal.
    let ends = "trap 'while kill $(jobs -p) 2> /dev/null; do sleep 0.1; done' EXIT\n";
    shell.stdin.take().expect("a pipe").write_all(format!("{ends}{script}").as_bytes()).expect("written");
    stdout(&shell.wait_with_output().expect("it ends"))
}

/// Steps that each say what became of them; one that serves goes on behind the others.
fn steps(commands: &[String]) -> String {
    let step = |(n, command): (usize, &String)| {
        if command.starts_with("arcp serve") {
            let ready = "until [ -n \"$(arcp runtimes --no-header 2> /dev/null)\" ]; do :; done";
            format!("{command} &\n{ready}; echo \"step {n} 0\"\n")
        } else {
            format!("{command}\nstatus=$?; echo \"step {n} $status\"\n")
        }
    };
    commands.iter().enumerate().map(step).collect()
}

fn all_work(commands: &[String], shown: &str) {
    for (n, command) in commands.iter().enumerate() {
        assert!(shown.lines().any(|line| line == format!("step {n} 0")), "`{command}` does not work:\n{shown}");
    }
}

fn free_port() -> String {
    arcp_tests::ports::free().port().to_string()
}

#[test]
fn what_the_page_says_can_be_pasted() {
    let page = include_str!("../../docs/tls.md");
    let blocks = page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let whole = blocks.map(|block| block.replace("\\\n", " ")).collect::<Vec<String>>();
    let port = free_port();
    let here = |command: &str| command.replace("my.host.name", "localhost").replace("7777", &port);
    let commands: Vec<String> =
        whole.iter().flat_map(|block| block.lines()).filter_map(|line| line.strip_prefix("$ ")).map(here).collect();
    assert_eq!(commands.len(), 4, "the blocks are found");
    let shown = pasted(&Folder::new("tls-page"), &steps(&commands));
    all_work(&commands, &shown);
}

#[test]
fn what_the_page_says_of_certificates_of_clients_can_be_pasted() {
    let page = include_str!("../../docs/authentication.md");
    let part = page.split("\n## Certificates of clients\n").nth(1).expect("its part");
    let block = |n: usize| part.split("```text\n").nth(n).and_then(|rest| rest.split("```").next()).expect("a block");
    let port = free_port();
    let here = |command: &str| {
        let command = command.replace("wss://HOST:7777", &format!("wss://localhost:{port}"));
        command.replace("arcp serve", &format!("arcp serve --samples --listen 127.0.0.1:{port}"))
    };
    let commands: Vec<String> = block(1).lines().map(here).collect();
    assert_eq!(commands.len(), 2, "the block is found");
    let (folder, authority) = (Folder::new("mtls-page"), Authority::new("mtls-page-authority"));
    let server = Pair::new("mtls-page-server", &["localhost"]);
    let (identity, digits) = authority.issue(1, &["spiffe://example/a"], |_| {});
    let names = block(2).replace("5ca1ab1e...", &digits);
    for (name, from) in [
        ("cert.pem", &server.certificate()),
        ("key.pem", &server.key()),
        ("ca.pem", &authority.folder.0.join("ca.pem")),
        ("crl.pem", &authority.folder.0.join("crl.pem")),
        ("alice.pem", &identity.certificates),
        ("alice-key.pem", &identity.key),
    ] {
        fs::copy(from, folder.0.join(name)).expect("copied");
    }
    fs::write(folder.0.join("names"), names).expect("written");
    let shown = pasted(&folder, &steps(&commands));
    all_work(&commands, &shown);
}
