//! Servers as separate programs: started, asked for their processor time and memory, and ended.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::fault::Fault;
use crate::frames::Family;
use crate::session::Manner;

/// The unit in which the kernel counts processor time, on every system that Rust supports.
const TICK: Duration = Duration::from_millis(10);

/// Where a server keeps its jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// In memory: nothing survives.
    Memory,
    /// In a file; every commit waits for the disk.
    File,
}

/// A program that is measured.
#[derive(Clone, Debug)]
pub enum Program {
    /// This program, as the server of canned answers.
    Canned,
    /// `arcp serve`.
    Arcp {
        /// The path of the program.
        path: PathBuf,
        /// Whether it runs with `--tokio`.
        tokio: bool,
    },
    /// The published Python SDK, with this interpreter.
    Python(PathBuf),
    /// The published Rust crate, as the program of `tests/peers/rust`.
    Rust(PathBuf),
}

impl Program {
    /// The name in a report.
    pub fn name(&self) -> &'static str {
        match self {
            Program::Canned => "canned answers",
            Program::Arcp { tokio: false, .. } => "`arcp serve`",
            Program::Arcp { tokio: true, .. } => "`arcp serve --tokio`",
            Program::Python(_) => "Python SDK 1.1.3",
            Program::Rust(_) => "crate `arcp` 2.0.0",
        }
    }

    /// Whether it is a published program, with the agents of `tests/peers`.
    pub fn is_peer(&self) -> bool {
        match self {
            Program::Canned | Program::Arcp { .. } => false,
            Program::Python(_) | Program::Rust(_) => true,
        }
    }

    /// Whether it supports this family and this store.
    pub fn can(&self, family: Family, store: Store) -> bool {
        match self {
            Program::Canned | Program::Arcp { .. } => true,
            Program::Python(_) => family == Family::Hello && store == Store::Memory,
            Program::Rust(_) => family == Family::Open && store == Store::Memory,
        }
    }

    /// How a client talks to it.
    pub fn manner(&self, family: Family) -> Manner {
        Manner { family, token: "tok-alice", ticker: if self.is_peer() { "ticker" } else { "chatty" } }
    }

    /// Starts it, with its files in a folder.
    ///
    /// # Errors It does not start.
    pub fn start(&self, store: Store, folder: &Path) -> Result<Server, Fault> {
        let file = folder.join("store");
        let kept = if store == Store::Memory { OsStr::new("memory") } else { file.as_os_str() };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../peers/python/their_server.py");
        let mut command = match self {
            Program::Canned => Command::new(std::env::current_exe()?),
            Program::Arcp { path, .. } => Command::new(path),
            Program::Python(path) | Program::Rust(path) => Command::new(path),
        };
        match self {
            Program::Canned => command.args([OsStr::new("--canned"), kept]),
            Program::Arcp { tokio, .. } => {
                command.args([
                    "serve",
                    "--samples",
                    "--listen",
                    "127.0.0.1:0",
                    "--token",
                    "tok-alice=alice",
                    "--store",
                ]);
                command.arg(kept).args(tokio.then_some("--tokio")).env("ARCP_STATE_DIR", folder)
            }
            Program::Python(_) => command.args([script, "--port"]),
            Program::Rust(_) => command.arg("serve"),
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let server = |address| Server { child, address, files: vec![file.clone()] };
        let address = match self {
            Program::Arcp { .. } => address_in(stderr, stdout),
            Program::Canned | Program::Python(_) | Program::Rust(_) => address_in(stdout, stderr),
        };
        // The value ends the process when it is dropped, whether or not the process reported its address.
        let server = server(address.unwrap_or(SocketAddr::from(([0; 4], 0))));
        address.map(|_| server).ok_or_else(|| Fault::Wrong(format!("{} did not start", self.name())))
    }
}

/// The address after `READY`. Threads read and discard later output.
fn address_in(
    said: Option<impl Read + Send + 'static>,
    other: Option<impl Read + Send + 'static>,
) -> Option<SocketAddr> {
    let mut said = BufReader::new(said?);
    std::thread::spawn(move || other.map(|mut other| std::io::copy(&mut other, &mut std::io::sink())));
    let mut line = String::new();
    while said.read_line(&mut line).ok()? > 0 {
        if let Some(url) = line.trim().strip_prefix("READY ws://") {
            let address = url.split('/').next()?.parse().ok();
            std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
            return address;
        }
        line.clear();
    }
    None
}

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// The address at which it listens.
    pub address: SocketAddr,
    files: Vec<PathBuf>,
}

impl Server {
    /// The processor time that it has used, in steps of 10 ms.
    ///
    /// # Errors The process has ended.
    pub fn processor_time(&self) -> Result<Duration, Fault> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Fields after the name, which may contain anything: utime and stime are the 12th and 13th.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: Option<u32> = fields.map(|field| field.parse::<u32>().ok()).sum();
        ticks.map(|ticks| TICK * ticks).ok_or_else(|| Fault::Wrong(format!("no processor time in {stat}")))
    }

    /// Its resident memory, in bytes.
    ///
    /// # Errors The process has ended.
    pub fn resident(&self) -> Result<u64, Fault> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        kib.map(|kib| kib << 10).ok_or_else(|| Fault::Wrong(format!("no VmRSS in {status}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for file in &self.files {
            for part in ["", "-wal", "-shm", "-lock"] {
                let _ = std::fs::remove_file(format!("{}{part}", file.display()));
            }
        }
    }
}
