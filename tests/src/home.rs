//! The program `arcp` as a user runs it: with a state directory of its own, and the servers that it started.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A state directory, which is deleted when this is dropped; its servers are ended.
#[derive(Debug)]
pub struct Home {
    /// The state directory.
    pub dir: PathBuf,
    /// The running servers, in the order in which they were started.
    pub servers: Vec<Child>,
    /// Environment variables of all further commands.
    pub variables: Vec<(&'static str, &'static str)>,
    program: &'static str,
}

impl Home {
    /// A new state directory, for this program.
    pub fn new(program: &'static str) -> Home {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("arcp-home-{}-{n}", std::process::id()));
        Home { dir, servers: Vec::new(), variables: Vec::new(), program }
    }

    /// A command whose stdin is empty.
    pub fn arcp(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args(args).env("ARCP_STATE_DIR", &self.dir);
        for variable in ["ARCP_URL", "ARCP_TOKEN", "ARCP_TOKENS", "ARCP_CA", "ARCP_FAMILY", "ARCP_LISTEN", "NO_COLOR"] {
            command.env_remove(variable);
        }
        command.env("TERM", "xterm-256color").envs(self.variables.iter().copied());
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command until it exits.
    pub fn run(&self, args: &[&str]) -> Output {
        self.arcp(args).output().expect("it runs")
    }

    /// Runs a command on a terminal; returns everything that the terminal showed.
    pub fn run_on_terminal(&self, args: &[&str]) -> (ExitStatus, String) {
        let mut terminal = self.on_terminal(args);
        let status = terminal.wait();
        let shown = String::from_utf8_lossy(&terminal.shown()).replace("\r\n", "\n");
        (status, shown)
    }

    /// Starts a command on a terminal of 30 lines of 120 columns.
    pub fn on_terminal(&self, args: &[&str]) -> Terminal {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("a terminal");
        let name = ptsname(&ours, Vec::new()).expect("its name");
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let theirs = || OwnedFd::from(File::options().read(true).write(true).open(path).expect("it opens"));
        let mut command = self.arcp(args);
        command.stdin(theirs()).stdout(theirs()).stderr(theirs());
        let size = Winsize { ws_row: 30, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&ours, size).expect("its size");
        let child = command.spawn().expect("it runs");
        // The command value holds the other end of the terminal too.
        drop(command);
        let (ours, shown) = (File::from(ours), Arc::new(Mutex::new(Vec::new())));
        let (mut reading, seen) = (ours.try_clone().expect("a descriptor"), shown.clone());
        let read = move || {
            let mut buffer = [0; 4096];
            // An error means that the other end is closed.
            while let Ok(length @ 1..) = reading.read(&mut buffer) {
                seen.lock().expect("no panic").extend_from_slice(&buffer[..length]);
            }
        };
        Terminal { child, ours, shown, reader: Some(std::thread::spawn(read)) }
    }

    /// Starts a server on a free port; returns its URL.
    pub fn serve(&mut self, args: &[&str]) -> String {
        self.serve_at("127.0.0.1:0", args)
    }

    /// Starts a server at this address; returns its URL.
    pub fn serve_at(&mut self, address: &str, args: &[&str]) -> String {
        let mut all = vec!["serve", "--listen", address];
        all.extend(args);
        let mut child = self.arcp(&all).stderr(Stdio::piped()).spawn().expect("it runs");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let ready = lines.next().expect("a line").expect("text");
        // Read on, so that the server never blocks on its output.
        std::thread::spawn(move || lines.for_each(drop));
        self.servers.push(child);
        ready.strip_prefix("READY ").unwrap_or_else(|| panic!("{ready}")).to_string()
    }

    /// Sends a signal to the latest server, and waits until it exits.
    pub fn signal(&mut self, name: &str) -> ExitStatus {
        let mut server = self.servers.pop().expect("a server");
        let pid = server.id().to_string();
        Command::new("kill").args([format!("-{name}"), pid]).status().expect("kill");
        server.wait().expect("it ends")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A command on a terminal.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    ours: File,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Everything that the terminal has shown so far.
    pub fn shown(&self) -> Vec<u8> {
        self.shown.lock().expect("no panic").clone()
    }

    /// Types keys.
    pub fn type_keys(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).expect("typed");
    }

    /// Sends the command a signal.
    pub fn signal(&self, name: &str) {
        Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().expect("kill");
    }

    /// Waits until the command exits and its output was read.
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("it ends");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no panic");
        }
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The stdout of a command.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The stderr of a command.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The exit code of a command; -1 if a signal ended it.
pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}
