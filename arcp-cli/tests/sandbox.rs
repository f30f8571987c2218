//! Real programs in the sandbox: they can do what the lease of their job grants, and nothing else.
//!
//! Everything that a sandboxed program is refused here is also done by a program without a sandbox, so that it is the
//! sandbox that refuses it. On a kernel without Landlock, each test checks that nothing is promised.

#![cfg(target_os = "linux")]

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use arcp_host::process::ProcessAgent;
use arcp_host::registry::Registry;
use arcp_host::sandbox::{Base, Feature, Kernel, Mode, Sandbox};
use arcp_host::stderr::say;
use arcp_host::store::MemoryStore;
use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::server::Running;
use landlock::{ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, Scope};
use rustix::net::{AddressFamily, SocketType, ipproto, socket};

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");
/// Does what its input says, in a shell of its own, and says whether that went well.
const RUN: &str =
    r#"run=read -r line; line=${line#\"}; if sh -c "${line%\"}" 2>&1; then echo DONE; else echo FAILED; fi"#;

/// Ways over the network that are no `connect` of TCP.
const NET: &str = "\
import socket, sys
way, port = sys.argv[1], int(sys.argv[2])
here = ('127.0.0.1', port)
if way == 'mptcp': socket.socket(proto=262).connect(here)
if way == 'fastopen': socket.socket().sendto(b'x', 0x20000000, here)
if way == 'udp': socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', here)
if way == 'unix': socket.socket(socket.AF_UNIX)
if way == 'bind': socket.socket().bind(('127.0.0.1', 0))
if way == 'listen': socket.socket().listen()
";

/// Some files: `in` is granted, `out` is not.
struct Ground {
    home: Home,
    root: PathBuf,
}

impl Ground {
    /// `None` where nothing can be confined, and then nothing is promised either.
    fn new() -> Option<Ground> {
        let home = Home::new(ARCP);
        fs::create_dir_all(&home.dir).expect("a folder");
        let root = home.dir.canonicalize().expect("a path").join("ground");
        let ground = Ground { home, root };
        ground.lay();
        if restricts(Feature::Files) {
            return Some(ground);
        }
        say(format_args!("this kernel has no Landlock: what is tested is that nothing is promised"));
        let refused = ground.home.run(&["serve", "--listen", ":0", "--sandbox", "required", "--agent", RUN]);
        assert!(code(&refused) == 1 && stderr(&refused).contains("no Landlock"), "{}", stderr(&refused));
        None
    }

    /// Everything as it was in the beginning.
    fn lay(&self) {
        let _ = fs::remove_dir_all(&self.root);
        for folder in ["in/sub", "out"] {
            fs::create_dir_all(self.root.join(folder)).expect("a folder");
        }
        for (file, text) in [("in/a", "inside"), ("in/b", "beside"), ("out/secret", "SECRET")] {
            fs::write(self.root.join(file), text).expect("written");
        }
        symlink("../out/secret", self.root.join("in/link")).expect("a link");
        symlink("../out", self.root.join("in/folder-link")).expect("a link");
        let python = "import os, sys\n\
                      os.chown_to_me = lambda path: os.chown(path, os.getuid(), os.getgid())\n\
                      os.chmod_open = lambda path: os.fchmod(os.open(path, os.O_RDONLY), 0o640)\n\
                      getattr(os, sys.argv[1].replace('-', '_'))(*sys.argv[2:]) if len(sys.argv) > 2 else None\n\
                      print(open(sys.argv[1]).read()) if len(sys.argv) == 2 else None\n";
        fs::write(self.root.join("in/do.py"), python).expect("written");
        fs::write(self.root.join("in/net.py"), NET).expect("written");
    }

    fn serve(&mut self, sandbox: &str) -> String {
        self.home.serve(&["--sandbox", sandbox, "--agent", RUN])
    }

    /// Has a command run; `@` in it and in the lease is where the files are.
    fn submit(&self, url: &str, lease: &[&str], command: &str) -> Output {
        let place = |text: &str| text.replace("@/", &format!("{}/", self.root.display()));
        let granted: Vec<String> = lease.iter().map(|grant| place(grant)).collect();
        let input = format!("\"{}\"", place(command));
        let mut args = vec!["submit", "run", "--url", url, "--input", &input];
        args.extend(granted.iter().flat_map(|grant| ["--lease", grant]));
        self.home.run(&args)
    }

    /// Whether a command went well, and what it printed.
    fn tries(&self, url: &str, lease: &[&str], command: &str) -> (bool, String) {
        let output = self.submit(url, lease, command);
        let said = stdout(&output);
        let said = said.trim_end();
        let done = said.ends_with("DONE");
        assert!(done || said.ends_with("FAILED"), "{command}: {said} {}", stderr(&output));
        (done, said.to_string())
    }

    /// The sandbox refuses this, and nothing else does.
    fn refuses(&self, (confined, free): (&str, &str), lease: &[&str], command: &str) {
        self.lay();
        let (done, said) = self.tries(confined, lease, command);
        assert!(!done, "{command}: {said}");
        assert!(!said.contains("SECRET"), "{command}: {said}");
        let whole = fs::read_to_string(self.root.join("out/secret"));
        assert_eq!(whole.ok().as_deref(), Some("SECRET"), "{command}: {said}");
        assert_eq!(fs::read_dir(self.root.join("out")).expect("a folder").count(), 1, "{command}: {said}");
        self.lay();
        let (done, said) = self.tries(free, lease, command);
        assert!(done, "not the sandbox: {command}: {said}");
    }
}

/// Asked of the kernel here, not through what is tested.
fn restricts(feature: Feature) -> bool {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let handled = match feature {
        Feature::Files => ruleset.handle_access(AccessFs::from_all(ABI::V1)),
        Feature::Moves => ruleset.handle_access(AccessFs::Refer),
        Feature::Truncation => ruleset.handle_access(AccessFs::Truncate),
        Feature::Tcp => ruleset.handle_access(AccessNet::ConnectTcp),
        Feature::Devices => ruleset.handle_access(AccessFs::IoctlDev),
        Feature::Signals => ruleset.scope(Scope::Signal),
        Feature::UnixSockets => ruleset.handle_access(AccessFs::ResolveUnix),
        Feature::Sockets => return fs::read_to_string("/proc/self/status").expect("text").contains("\nSeccomp:"),
    };
    handled.and_then(Ruleset::create).is_ok()
}

/// The strictest sandbox that such a kernel can be asked for.
fn strictest() -> &'static str {
    if Sandbox::REQUIRED.into_iter().all(restricts) { "required" } else { "auto" }
}

fn python() -> Option<&'static str> {
    let python = "/usr/bin/python3";
    Path::new(python).exists().then_some(python)
}

#[test]
fn the_kernel_is_seen_as_it_is_and_doctor_and_server_say_what_is_enforced() {
    let kernel = Kernel::of_this_machine();
    // Past the harness, so that it is known which branches of these tests were run.
    say(format_args!("sandbox tests, as strict as --sandbox {}: {kernel}", strictest()));
    for feature in Feature::ALL {
        assert_eq!(kernel.restricts(feature), restricts(feature), "{feature}");
    }
    let home = Home::new(ARCP);
    let found = stdout(&home.run(&["doctor"]));
    let line = found.lines().find(|line| line.starts_with("sandbox ")).expect("it is told");
    assert!(line.contains(&kernel.to_string()), "{line}");
    let served = home.run(&["serve", "--stdio", "--sandbox", "auto", "--agent", RUN]);
    assert!(stderr(&served).contains(&format!("arcp: sandbox: {kernel}")), "{}", stderr(&served));
    let silent = home.run(&["serve", "--stdio", "--agent", RUN]);
    assert!(!stderr(&silent).contains("sandbox"), "nothing is confined unless it is asked for: {}", stderr(&silent));
}

#[test]
fn a_confined_program_does_what_its_lease_grants() {
    let Some(mut ground) = Ground::new() else { return };
    let confined = ground.serve(strictest());
    let lease = ["fs.read=@/in/**", "fs.write=@/in/**"];
    let mut granted = vec![
        ("cat @/in/a", "inside"),
        ("ls @/in", "folder-link"),
        ("echo new > @/in/new && cat @/in/new", "new"),
        ("echo more >> @/in/a && cat @/in/a", "insidemore"),
        ("rm @/in/a && mkdir @/in/d && ln -s a @/in/l && ls @/in", "d\n"),
        ("ln @/in/a @/in/hard && cat @/in/hard", "inside"),
        ("printf 'echo ran' > @/in/script && chmod +x @/in/script && @/in/script", "ran"),
        ("echo own > $TMPDIR/x && cat $TMPDIR/x", "own"),
        ("head -c 3 /dev/urandom | wc -c", "3"),
        ("cat /dev/null > /dev/null && date && cat /proc/cpuinfo", "processor"),
        ("cat /proc/self/root/@/in/a", "inside"),
    ];
    if restricts(Feature::Moves) {
        granted.push(("mv @/in/a @/in/sub/moved && cat @/in/sub/moved", "inside"));
    }
    if python().is_some() {
        granted.push(("/usr/bin/python3 @/in/do.py rename @/in/a @/in/c && cat @/in/c", "inside"));
        granted.push(("/usr/bin/python3 -c 'import json, random, socket, ssl, tempfile; print(7)'", "7"));
    }
    for (command, shown) in granted {
        ground.lay();
        let (done, said) = ground.tries(&confined, &lease, command);
        assert!(done && said.contains(shown), "{command}: {said}");
    }
}

#[test]
fn a_confined_program_is_refused_whatever_its_lease_does_not_grant_by_any_way() {
    let Some(mut ground) = Ground::new() else { return };
    let (confined, free) = (ground.serve(strictest()), ground.serve("off"));
    let urls = (confined.as_str(), free.as_str());
    let lease = ["fs.read=@/in/**", "fs.write=@/in/**"];
    let mut refused = vec![
        "cat @/out/secret",
        "ls @/out",
        "cd @/out && cat secret",
        // Links.
        "cat @/in/link",
        "cat @/in/folder-link/secret",
        "echo x > @/in/link",
        "ln @/out/secret @/in/hard && cat @/in/hard",
        "ln -s @/out @/in/mine && cat @/in/mine/secret",
        "cat /proc/self/root/@/out/secret",
        "cat /proc/self/cwd/../../../../../../../../@/out/secret",
        // Children.
        "echo cat @/out/secret | sh",
        "setsid -w cat @/out/secret",
        "cp @/out/secret @/in/copy",
        // Moves.
        "mv @/in/a @/out/a",
        "mv @/out/secret @/in/secret",
        // Writes.
        ": > @/out/secret",
        "echo x >> @/out/secret",
        "echo x > @/out/new",
        "truncate -s 0 @/out/secret",
        "rm @/out/secret",
        "mkdir @/out/d",
        "ln -s a @/out/l",
        "mkfifo @/out/f",
    ];
    if python().is_some() {
        refused.push("/usr/bin/python3 @/in/do.py @/out/secret");
        refused.push("/usr/bin/python3 @/in/do.py rename @/in/a @/out/a");
        refused.push("/usr/bin/python3 @/in/do.py rename @/out/secret @/in/secret");
        refused.push("/usr/bin/python3 @/in/do.py link @/out/secret @/in/hard");
    }
    if rustix::process::geteuid().is_root() {
        refused.push("mknod @/in/device c 1 3");
    }
    for command in refused {
        ground.refuses(urls, &lease, command);
    }
}

#[test]
fn each_grant_is_for_what_it_says() {
    let Some(mut ground) = Ground::new() else { return };
    let (confined, free) = (ground.serve(strictest()), ground.serve("off"));
    let urls = (confined.as_str(), free.as_str());
    let read = ["fs.read=@/in/**"];
    for command in ["echo x > @/in/a", "rm @/in/a", "mv @/in/a @/in/c", "echo x > @/in/new", "mkdir @/in/d"] {
        ground.refuses(urls, &read, command);
    }
    let write = ["fs.write=@/in/**"];
    ground.refuses(urls, &write, "cat @/in/a");
    ground.refuses(urls, &write, "ls @/in");
    assert!(ground.tries(&confined, &write, "echo x > @/in/new").0);
    let file = ["fs.read=@/in/a", "fs.write=@/in/b"];
    for command in ["cat @/in/b", "echo x > @/in/a", "ls @/in", "rm @/in/b", "echo x > @/in/new"] {
        ground.refuses(urls, &file, command);
    }
    ground.lay();
    let (done, said) = ground.tries(&confined, &file, "cat @/in/a && echo x > @/in/b");
    assert!(done && said.contains("inside"), "{said}");
    assert_eq!(fs::read_to_string(ground.root.join("in/b")).expect("text"), "x\n");
}

#[test]
fn a_job_without_a_lease_has_what_every_program_needs_and_nothing_else() {
    let Some(mut ground) = Ground::new() else { return };
    let free = ground.serve("off");
    for mode in ["auto", strictest()] {
        let confined = ground.serve(mode);
        let urls = (confined.as_str(), free.as_str());
        // Command lines hold tokens.
        let others = format!("cat /proc/{}/cmdline", std::process::id());
        let outside = ["cat @/in/a", "echo x > @/in/new", "ls @/in", "cat /etc/passwd", "ls /tmp", "ls /proc", &others];
        for command in outside {
            ground.refuses(urls, &[], command);
        }
        let (done, said) = ground.tries(&confined, &[], "date > $TMPDIR/now && wc -l < $TMPDIR/now");
        assert!(done && said.contains('1'), "{said}");
        // What has nothing to do with files grants none.
        ground.refuses(urls, &["tool.call=**", "cost.budget=USD:1"], "cat @/in/a");
    }
}

#[test]
fn what_the_kernel_cannot_enforce_is_refused_by_name_or_grants_nothing() {
    let Some(mut ground) = Ground::new() else { return };
    let (strict, auto, free) = (ground.serve(strictest()), ground.serve("auto"), ground.serve("off"));
    let cases = [
        ("fs.read", "@/in/*", "folders with all below"),
        ("fs.read", "@/in/*.txt", "folders with all below"),
        ("fs.read", "@/**/a", "folders with all below"),
        ("fs.read", "@/in/folder-link/**", "symbolic link"),
        ("fs.read", "@/in/link", "symbolic link"),
        ("fs.read", "@/in", "it is a folder"),
        ("fs.read", "@/in/a/**", "it is no folder"),
        ("fs.write", "@/in/none", "it is not there"),
        ("net.fetch", "ftp://host/**", "names no port"),
    ];
    for (namespace, pattern, why) in cases {
        let lease = [format!("{namespace}={pattern}")];
        let lease = [lease[0].as_str()];
        let refused = ground.submit(&strict, &lease, "true");
        let said = stderr(&refused);
        let named = pattern.replace("@/", &format!("{}/", ground.root.display()));
        assert_eq!(code(&refused), if strictest() == "required" { 5 } else { 0 }, "{pattern}: {said}");
        assert!(said.contains(&format!("`{namespace}` `{named}`")) && said.contains(why), "{pattern}: {said}");
        let warned = ground.submit(&auto, &lease, "cat @/in/a @/out/secret");
        assert!(
            stderr(&warned).contains(&format!("grants nothing for `{namespace}` `{named}`")),
            "{}",
            stderr(&warned)
        );
        assert!(stdout(&warned).trim_end().ends_with("FAILED"), "{pattern}: {}", stdout(&warned));
        ground.refuses((&auto, &free), &lease, "cat @/out/secret");
        ground.refuses((&auto, &free), &lease, "cat @/in/a");
    }
}

#[test]
fn a_confined_program_connects_to_the_ports_of_its_lease_and_listens_on_none() {
    let Some(mut ground) = Ground::new() else { return };
    if !restricts(Feature::Tcp) || !restricts(Feature::Sockets) {
        say(format_args!(
            "this kernel restricts not all of the network: what is tested is that the sandbox cannot be required"
        ));
        let refused = ground.home.run(&["serve", "--listen", ":0", "--sandbox", "required", "--agent", RUN]);
        assert!(code(&refused) == 1 && stderr(&refused).contains("cannot restrict"), "{}", stderr(&refused));
        return;
    }
    let (confined, free) = (ground.serve(strictest()), ground.serve("off"));
    let urls = (confined.as_str(), free.as_str());
    // Connections wait in its queue: nobody has to accept them.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let connect = format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'");
    let granted = |port: u16| format!("net.fetch=http://127.0.0.1:{port}/**");
    let (done, said) = ground.tries(&confined, &[&granted(port)], &connect);
    assert!(done, "{said}");
    ground.refuses(urls, &[&granted(port ^ 1)], &connect);
    ground.refuses(urls, &["net.fetch=http://127.0.0.1/**"], &connect);
    ground.refuses(urls, &[], &connect);
    let any = ["net.fetch=http://127.0.0.1:*/**"];
    let (done, said) = ground.tries(&confined, &any, &connect);
    assert!(done, "{said}");
    if python().is_none() {
        return;
    }
    let way = |way: &str| format!("/usr/bin/python3 @/in/net.py {way} {port}");
    let inside = |more: &str| ["fs.read=@/in/**".to_string(), more.to_string()];
    for name in ["bind", "listen"] {
        let lease = inside(any[0]);
        ground.refuses(urls, &lease.each_ref().map(String::as_str), &way(name));
    }
    let elsewhere = inside(&granted(port ^ 1));
    let elsewhere = elsewhere.each_ref().map(String::as_str);
    // Which of them this kernel knows.
    if socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP)).is_ok() {
        ground.refuses(urls, &elsewhere, &way("mptcp"));
    }
    if fs::read_to_string("/proc/sys/net/ipv4/tcp_fastopen").is_ok_and(|on| on.trim() == "1") {
        ground.refuses(urls, &elsewhere, &way("fastopen"));
    }
    ground.refuses(urls, &elsewhere, &way("udp"));
    let base = ground.home.dir.join("udp.toml");
    fs::write(&base, "udp = true").expect("written");
    let base = base.display().to_string();
    let with_udp = ground.home.serve(&["--sandbox", strictest(), "--sandbox-base", &base, "--agent", RUN]);
    let (done, said) = ground.tries(&with_udp, &elsewhere, &way("udp"));
    assert!(done, "names of hosts are asked for so: {said}");
    ground.refuses((&with_udp, &free), &["fs.read=@/in/**"], &way("udp"));
    if !restricts(Feature::UnixSockets) {
        ground.refuses(urls, &elsewhere, &way("unix"));
    }
}

#[test]
fn who_may_write_nothing_changes_nothing_that_is_said_of_files() {
    let Some(mut ground) = Ground::new() else { return };
    if !restricts(Feature::Sockets) {
        say(format_args!("this kernel has no seccomp: nothing is promised"));
        return;
    }
    let (confined, free) = (ground.serve(strictest()), ground.serve("off"));
    let read = ["fs.read=@/in/**"];
    let mut ways =
        vec!["chmod 600 @/out/secret", "chmod 777 @/in/a", "touch -d 2001-01-01 @/in/a", "touch @/out/secret"];
    if python().is_some() {
        ways.extend([
            "/usr/bin/python3 @/in/do.py chown-to-me @/out/secret",
            "/usr/bin/python3 @/in/do.py chmod-open @/in/a",
        ]);
    }
    for way in ways {
        ground.refuses((&confined, &free), &read, way);
    }
    let (done, said) =
        ground.tries(&confined, &["fs.read=@/in/**", "fs.write=@/in/**"], "chmod 600 @/in/a && touch @/in/a");
    assert!(done, "who may write may: {said}");
}

#[test]
fn a_program_of_the_superuser_keeps_none_of_what_leads_past_the_sandbox() {
    let Some(mut ground) = Ground::new() else { return };
    let (confined, free) = (ground.serve(strictest()), ground.serve("off"));
    // It stands where users other than the superuser often do not look.
    let command = "PATH=$PATH:/usr/sbin:/sbin chroot / true";
    match rustix::process::geteuid().is_root() {
        true => ground.refuses((&confined, &free), &[], command),
        false => assert!(!ground.tries(&free, &[], command).0, "nobody else may"),
    }
    // In a namespace of its own it would have them again.
    let command = "unshare --user true";
    if ground.tries(&free, &[], command).0 {
        ground.refuses((&confined, &free), &[], command);
    }
}

#[test]
fn a_confined_program_signals_nobody_outside() {
    let Some(mut ground) = Ground::new() else { return };
    let (confined, free) = (ground.serve(strictest()), ground.serve("off"));
    let signal = format!("kill -0 {}", std::process::id());
    if !restricts(Feature::Signals) {
        say(format_args!("this kernel restricts no signals: what is tested is that doctor says so"));
        let found = stdout(&ground.home.run(&["doctor"]));
        assert!(found.contains("but not") && found.contains("signals"), "{found}");
        return;
    }
    ground.refuses((&confined, &free), &[], &signal);
    let (done, said) = ground.tries(&confined, &[], "sleep 60 & kill $!");
    assert!(done, "its own children it may: {said}");
}

#[test]
fn the_temporary_folder_of_a_job_is_its_own_and_goes_with_it() {
    let Some(mut ground) = Ground::new() else { return };
    let confined = ground.serve(strictest());
    let of = || {
        let (done, said) =
            ground.tries(&confined, &[], "echo $TMPDIR; stat -c %a $HOME; mkdir -p $TMPDIR/a/b; ls $HOME");
        assert!(done, "{said}");
        let mut lines = said.lines().map(str::to_string);
        (PathBuf::from(lines.next().expect("a path")), lines.next().expect("a mode"))
    };
    let ((one, mode), (other, _)) = (of(), of());
    assert!(one != other && one.is_absolute() && mode == "700", "{one:?} {other:?} {mode}");
    let mut home = Home::new(ARCP);
    home.serve(&["--sandbox", strictest(), "--agent", RUN, "--agent-env", "HOME=/a/home"]);
    let said = stdout(&home.run(&["submit", "run", "--input", "\"echo $HOME\""]));
    assert!(said.starts_with("/a/home\n"), "who says so has another: {said}");
    assert!(!one.exists() && !other.exists());
}

#[test]
fn the_operator_says_what_every_program_may_use() {
    let Some(mut ground) = Ground::new() else { return };
    let base = ground.root.join("base.toml");
    let text = |path: &Path| path.display().to_string();
    let put = |written: String| fs::write(&base, written).expect("written");
    let granting = format!("unix_sockets = true\nread = ['{0}/in', '{0}/in/link', '{0}/none']", ground.root.display());
    put(granting.clone());
    let mut serve =
        |args: &[&str]| ground.home.serve(&[&["--agent", RUN, "--sandbox-base", &text(&base)], args].concat());
    let more = serve(&["--sandbox", strictest()]);
    put(format!("default = false\n{granting}"));
    let alone = serve(&["--sandbox", strictest()]);
    let (done, said) = {
        ground.lay();
        ground.tries(&more, &[], "cat @/in/a @/in/link")
    };
    assert!(done && said.contains("insideSECRET"), "links that the operator names are followed: {said}");
    assert!(!ground.tries(&more, &[], "echo x > @/in/a").0);
    if python().is_some() {
        let (done, said) = ground.tries(&more, &[], "/usr/bin/python3 @/in/net.py unix 0");
        assert!(done, "{said}");
    }
    let failed = ground.submit(&alone, &[], "true");
    assert!(code(&failed) == 1 && stderr(&failed).contains("ermission denied"), "no shell: {}", stderr(&failed));
    let base = ground.home.dir.join("base.toml");
    for (written, named) in [("read = ['x']", "`x` does not begin"), ("raed = ['/x']", "raed"), ("read = [", "line 1")]
    {
        fs::write(&base, written).expect("written");
        let args = ["serve", "--listen", ":0", "--agent", RUN, "--sandbox", "auto", "--sandbox-base", &text(&base)];
        let refused = ground.home.run(&args);
        let said = stderr(&refused);
        assert!(code(&refused) == 2 && said.contains("base.toml") && said.contains(named), "{written}: {said}");
    }
    let args = ["serve", "--listen", ":0", "--agent", RUN, "--sandbox-base", &text(&base)];
    let useless = ground.home.run(&args);
    assert!(code(&useless) == 2 && stderr(&useless).contains("--sandbox auto"), "{}", stderr(&useless));
}

#[test]
fn an_executable_of_a_folder_is_started_in_the_sandbox_and_reads_nothing_beside_it() {
    let Some(mut ground) = Ground::new() else { return };
    let agents = ground.root.join("agents");
    fs::create_dir(&agents).expect("a folder");
    let put = |name: &str, text: String| {
        fs::write(agents.join(name), text).expect("written");
        fs::set_permissions(agents.join(name), Permissions::from_mode(0o755)).expect("set");
    };
    put(
        "it.sh",
        format!(
            "#!/bin/sh\nread line\necho got $line\nulimit -n\nread comm < /proc/self/comm; echo is $comm\ncat {}/it.toml\n",
            agents.display()
        ),
    );
    fs::write(agents.join("it.toml"), "description = 'SECRET'\npty = true\n[limits]\nopen_files = 77\n")
        .expect("written");
    let folder = agents.display().to_string();
    ground.home.serve(&["--sandbox", strictest(), "--agents", &folder]);
    let output = ground.home.run(&["submit", "it", "--input", "5"]);
    let said = stdout(&output) + &stderr(&output);
    assert!(
        said.contains("got 5\n")
            && said.contains("is it.sh\n")
            && said.contains("77\n")
            && said.contains("ermission denied"),
        "{said}"
    );
    assert!(!said.contains("SECRET"), "{said}");
}

/// A server in this process, whose programs are confined as far as such a kernel can.
fn serve_as_on(kernel: Kernel, step: &[&str], ground: &mut Ground) -> Running {
    let sandbox = Sandbox::new(Mode::Auto, kernel, Base::default(), step).expect("as far as it can");
    let command = RUN.strip_prefix("run=").expect("a command");
    let mut registry = Registry::default();
    registry.add("run", None, ProcessAgent::shell(command).confined(sandbox));
    ground.home.variables.push(("ARCP_TOKEN", "tok-a"));
    Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, |_| {}))
}

#[test]
fn an_older_kernel_restricts_what_it_can() {
    let Some(mut ground) = Ground::new() else { return };
    let server = serve_as_on(Kernel::with([Feature::Files].into()), &[ARCP, "exec"], &mut ground);
    let lease = ["fs.read=@/in/**", "fs.write=@/in/**"];
    for refused in ["cat @/out/secret", "echo x > @/out/new", "ln @/in/a @/in/sub/a"] {
        assert!(!ground.tries(&server.url(), &lease, refused).0, "{refused}");
    }
    let signal = format!("kill -0 {}", std::process::id());
    for done in ["cat @/in/a && echo x > @/in/a", &signal] {
        assert!(ground.tries(&server.url(), &lease, done).0, "{done}");
    }
}

#[test]
fn a_program_that_puts_another_folder_in_the_place_of_a_granted_one_leaves_nothing_of_it() {
    let Some(mut ground) = Ground::new() else { return };
    let command = r#"read -r input
        mv in old && mv out in && echo moved
        cat in/secret && echo READ
        for path in in/secret in/a old/a; do
            echo '{"kind":"artifact","id":1,"path":"'$path'"}'; read -r answer; echo "$path $answer"
        done"#;
    let sandbox =
        Sandbox::new(Mode::Auto, Kernel::of_this_machine(), Base::default(), &[ARCP, "exec"]).expect("it can");
    let mut registry = Registry::default();
    let agent = ProcessAgent::shell(command).answered().in_directory(&ground.root).confined(sandbox);
    registry.add("run", None, agent);
    ground.home.variables.push(("ARCP_TOKEN", "tok-a"));
    let server = Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, |config| {
        config.timing.artifact_retention = Some(Duration::from_secs(600));
    }));
    let said = stdout(&ground.submit(&server.url(), &["fs.read=@/in/**", "fs.write=@/**"], ""));
    assert!(said.contains("moved\n") && !said.contains("READ"), "it may move what it may not read: {said}");
    let answer = |path: &str| said.lines().find(|line| line.starts_with(path)).expect("it is answered").to_string();
    assert!(answer("in/secret").contains(r#""ok":false"#) && !said.contains("SECRET"), "{said}");
    assert!(answer("old/a").contains(r#""ok":false"#), "no pattern names it: {said}");
    let kept = answer("in/a");
    assert!(kept.contains(r#""ok":true"#), "what was granted is what it was: {said}");
    let id = kept.split("art_").nth(1).and_then(|rest| rest.split('"').next()).expect("an id");
    let fetched = ground.home.run(&["artifact", "get", &format!("art_{id}"), "--url", &server.url()]);
    assert_eq!(stdout(&fetched), "inside", "{}", stderr(&fetched));
}

#[test]
fn where_nothing_can_be_enforced_a_program_runs_as_ever_unless_that_is_required() {
    let Some(mut ground) = Ground::new() else { return };
    let server = serve_as_on(Kernel::default(), &["/there/is/no/step"], &mut ground);
    let (done, said) = ground.tries(&server.url(), &["fs.read=@/in/*"], "cat @/out/secret");
    assert!(done && said.contains("SECRET"), "{said}");
    let required = Sandbox::new(Mode::Required, Kernel::default(), Base::default(), &[ARCP, "exec"]);
    assert!(required.expect_err("nothing is enforced").to_string().contains("no Landlock"));
}

#[test]
fn the_page_shows_the_base_set_as_it_is() {
    let page = include_str!("../../docs/sandbox.md");
    assert!(page.contains(include_str!("../../arcp-host/src/sandbox/base.toml")));
    let shown = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    assert_eq!(Base::parse(&format!("default = false\n{shown}")).expect("a base"), Base::default());
}

#[test]
fn a_cancel_reaches_a_confined_program() {
    let Some(mut ground) = Ground::new() else { return };
    let url = ground.serve(strictest());
    let begun = ground.home.run(&["submit", "run", "--url", &url, "--detach", "--input", "\"sleep 600\""]);
    let job = stdout(&begun).trim().to_string();
    assert_eq!(code(&ground.home.run(&["cancel", "--url", &url, &job])), 0);
    let ended = ground.home.run(&["wait", "--url", &url, &job]);
    assert_eq!(code(&ended), 3, "{}", stderr(&ended));
}

#[test]
fn the_step_starts_nothing_without_a_ruleset() {
    let home = Home::new(ARCP);
    let refused = home.run(&["exec", "sh", "-c", "echo started"]);
    assert!(code(&refused) == 1 && stdout(&refused).is_empty(), "{}", stdout(&refused));
    assert!(stderr(&refused).contains("nothing was started"), "{}", stderr(&refused));
    assert!(!stdout(&home.run(&["--help"])).contains("exec "), "nobody is to call it");
}
