//! What peers that nobody knows can make the program hold, and for how long: measured,
//! and held against `docs/attackers.md` and the bounds that it names.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use arcp_host::server::{HEAD_TIMEOUT, LINGER};
use arcp_proto::limits::Limits;
use arcp_proto::runtime::Timing;
use arcp_tests::home::{Home, code, stderr};
use arcp_tests::strangers::{ALL, Stops, Stranger};
use arcp_tests::until::until;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");
const PAGE: &str = include_str!("../../docs/attackers.md");

/// So many of each, fewer than a network may have.
const PEERS: usize = 200;
/// Of those who send a byte now and then, which is all that is asked of them.
const DRIBBLERS: usize = 8;
/// Of how many it is measured for how long they stay.
const TIMED: usize = 3;
/// How late a loaded machine may be.
const LATE: Duration = Duration::from_secs(15);

/// What the page says of a stranger.
struct Row {
    threads: u64,
    tokio: u64,
    of_network: usize,
    of_all: usize,
    seconds: u64,
}

/// The table whose first column has this head, by row.
fn rows(head: &str) -> Vec<Vec<&'static str>> {
    let table = PAGE.split(&format!("| {head} |")).nth(1).unwrap_or_else(|| panic!("a table of `{head}`"));
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

fn number(text: &str) -> u64 {
    text.replace(',', "").parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

/// `12 KiB`, in bytes.
fn bytes(text: &str) -> u64 {
    let (count, unit) = text.split_once(' ').unwrap_or_else(|| panic!("`{text}` has no unit"));
    number(count)
        << match unit {
            "KiB" => 10,
            "MiB" => 20,
            other => panic!("`{other}` is no unit"),
        }
}

fn said_of(stranger: &Stranger) -> Row {
    let all = rows("who");
    let row = all.iter().find(|row| row[0] == stranger.row).unwrap_or_else(|| panic!("{} has a row", stranger.row));
    let [_, threads, tokio, of_network, of_all, seconds] = row[..] else { panic!("{row:?}") };
    Row {
        threads: bytes(threads),
        tokio: bytes(tokio),
        of_network: usize::try_from(number(of_network)).expect("in range"),
        of_all: usize::try_from(number(of_all)).expect("in range"),
        seconds: number(seconds),
    }
}

/// A pair for every server with TLS.
static PAIR: LazyLock<(Home, PathBuf, PathBuf)> = LazyLock::new(|| {
    let home = Home::new(ARCP);
    let out = home.dir.join("pair");
    let made = home.run(&["tls", "self-signed", "--out", out.to_str().expect("text")]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    (home, out.join("arcp-cert.pem"), out.join("arcp-key.pem"))
});

/// The program, which listens.
struct Program {
    home: Home,
    address: SocketAddr,
}

impl Program {
    fn start(tls: bool, tokio: bool) -> Program {
        let mut home = Home::new(ARCP);
        let (_, certificate, key) = &*PAIR;
        let text = |path: &'static PathBuf| path.to_str().expect("text");
        let mut args = vec!["--samples", "--store", "memory", "--token", "good=good"];
        if tls {
            args.extend(["--tls-cert", text(certificate), "--tls-key", text(key)]);
        }
        if tokio {
            args.push("--tokio");
        }
        let url = home.serve(&args);
        let address = url.split("://").nth(1).and_then(|rest| rest.strip_suffix("/arcp")).expect("an address");
        Program { address: address.parse().expect("an address"), home }
    }

    fn of_process(&self, what: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{what}", self.home.servers[0].id()))
    }

    /// Bytes of memory in use.
    fn resident(&self) -> u64 {
        let status = fs::read_to_string(self.of_process("status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
        number(line.trim().trim_end_matches(" kB")) << 10
    }

    /// Its open files.
    fn descriptors(&self) -> usize {
        fs::read_dir(self.of_process("fd")).expect("it runs").count()
    }

    /// Waits until it has taken everything that was sent to it.
    fn has_heard(&self) {
        let port = format!(":{:04X}", self.address.port());
        until("everything is read", || {
            let table = fs::read_to_string("/proc/net/tcp").expect("the sockets of this machine");
            let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
            let mut own = fields.filter(|fields| fields[1].ends_with(&port) && fields[3] == "01");
            own.all(|fields| fields[4].ends_with(":00000000")).then_some(())
        });
    }
}

/// Has so many of a kind come, and measures until they are gone.
fn measure(stranger: &Stranger, tokio: bool) {
    let said = said_of(stranger);
    let (program, certificate) = (Program::start(stranger.tls, tokio), &PAIR.1);
    let come = || stranger.come(program.address, Some(certificate));
    // What the first one costs is once for all.
    let (own, first) = (program.descriptors(), come());
    program.has_heard();
    let (before, files) = (program.resident(), program.descriptors());
    let peers = if stranger.dribbles { DRIBBLERS } else { PEERS };
    let held: Vec<_> = (0..peers).map(|_| come()).collect();
    program.has_heard();
    let (grown, opened) = (program.resident().saturating_sub(before), program.descriptors() - files);
    assert_eq!(opened, peers, "{}: a file each", stranger.row);
    let (each, promised) = (grown / peers as u64, if tokio { said.tokio } else { said.threads });
    if !stranger.dribbles {
        // From below nothing can be held: an allocator takes what it has kept before it grows.
        assert!(each <= promised, "{}, tokio {tokio}: {each} bytes each, and not {promised}", stranger.row);
    }
    let stays = Duration::from_secs(said.seconds);
    let mut held = held.into_iter();
    for one in [first].into_iter().chain(held.by_ref().take(TIMED)) {
        let stayed = one.ends();
        assert!(stayed + Duration::from_millis(20) >= stays, "{}: {stayed:?}, and not {stays:?}", stranger.row);
        assert!(stayed <= stays + LATE, "{}: {stayed:?}, and not {stays:?}", stranger.row);
    }
    // The others have not moved.
    until("its files are closed", || (program.descriptors() <= own).then_some(()));
    drop(held);
}

#[test]
fn what_a_stranger_makes_a_runtime_hold_and_for_how_long_is_what_the_page_says() {
    for some in ALL.chunks(6) {
        std::thread::scope(|scope| {
            for stranger in some {
                for tokio in [false, true] {
                    scope.spawn(move || measure(stranger, tokio));
                }
            }
        });
    }
}

#[test]
fn the_bounds_that_the_page_names_are_those_of_the_program() {
    let (limits, timing) = (Limits::default(), Timing::default());
    let connection = &limits.connection;
    for stranger in &ALL {
        let (of_network, of_all, stays) = match stranger.stops {
            Stops::InTls => {
                (connection.tls_handshakes_per_network, connection.tls_handshakes, timing.tls_handshake_timeout)
            }
            Stops::InRequest => {
                (connection.handshaking_connections_per_network, connection.handshaking_connections, HEAD_TIMEOUT)
            }
            Stops::BeforeSession => (
                connection.handshaking_connections_per_network,
                connection.handshaking_connections,
                timing.handshake_timeout,
            ),
            Stops::AfterGoodbye => {
                (connection.handshaking_connections_per_network, connection.handshaking_connections, LINGER)
            }
        };
        let said = said_of(stranger);
        let expected = (of_network, of_all, stays.as_secs());
        assert_eq!((said.of_network, said.of_all, said.seconds), expected, "{}", stranger.row);
    }
    assert_eq!(rows("who").len(), ALL.len(), "everybody who has a row comes");
    let (frame, audit) = (&limits.frame, &limits.audit);
    let known = [
        ("connection.handshaking_connections", connection.handshaking_connections),
        ("connection.handshaking_connections_per_network", connection.handshaking_connections_per_network),
        ("connection.tls_handshakes", connection.tls_handshakes),
        ("connection.tls_handshakes_per_network", connection.tls_handshakes_per_network),
        ("connection.wrong_credentials", connection.wrong_credentials),
        ("connection.wrong_credential_sources", connection.wrong_credential_sources),
        ("connection.judgements", connection.judgements),
        ("connection.waiting_judgements", connection.waiting_judgements),
        ("connection.partial_bytes", connection.partial_bytes),
        ("connection.pong_bytes_per_connection", connection.pong_bytes_per_connection),
        ("connection.pong_bytes", connection.pong_bytes),
        ("frame.handshake_frame_bytes", frame.handshake_frame_bytes),
        ("audit.audited_refusals", audit.audited_refusals),
        ("audit.audit_entries", audit.audit_entries),
    ];
    let named = rows("bound");
    for (name, value) in known {
        let row = named.iter().find(|row| row[0] == format!("`Limits::{name}`"));
        let said = row.unwrap_or_else(|| panic!("the page names {name}"))[1];
        let said = if said.contains(' ') { bytes(said) } else { number(said) };
        assert_eq!(said, value as u64, "{name}");
    }
    assert_eq!(named.len(), known.len(), "and no other bound");
}
