//! What peers without a session can make the program hold, and for how long: measured, and compared with
//! `docs/attackers.md` and the bounds that it names.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arcp_blocking::Target;
use arcp_host::server::{HEAD_TIMEOUT, LINGER};
use arcp_proto::limits::Limits;
use arcp_proto::runtime::Timing;
use arcp_tests::home::{Home, code, stderr};
use arcp_tests::strangers::{ALL, At, Stops, Stranger};
use arcp_tests::until::until;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");
const PAGE: &str = include_str!("../../docs/attackers.md");

/// So many connections of each without a session, fewer than a network may have.
const PEERS: usize = 200;
const MOST: usize = 640;
/// Of those that come by QUIC: more than twice as many would have to prove that their address is theirs.
const BY_QUIC: usize = 30;
/// Of those who send a byte now and then, which is all that is asked of them.
const DRIBBLERS: usize = 8;
/// Of how many it is measured for how long they stay.
const TIMED: usize = 3;
/// What the program's resident memory grows by at once, whoever comes: two huge pages.
const PIECES: u64 = 4 << 20;
/// How late a loaded machine may be.
const LATE: Duration = Duration::from_secs(15);

/// What the page says of a stranger.
struct Row {
    /// Unless that adapter does not serve whom it comes to.
    threads: Option<u64>,
    tokio: u64,
    of_network: usize,
    of_all: usize,
    seconds: u64,
}

/// The tables whose first column has this head, by row.
fn rows(head: &str) -> Vec<Vec<&'static str>> {
    let head = format!("| {head} |");
    let tables = PAGE.match_indices(&head).map(|(at, _)| &PAGE[at..]);
    let lines = tables.flat_map(|table| table.lines().skip(2).take_while(|line| line.starts_with('|')));
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
        threads: (threads != "-").then(|| bytes(threads)),
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
    target: Target,
}

impl Program {
    fn start(at: At, tokio: bool) -> Program {
        let mut home = Home::new(ARCP);
        let (_, certificate, key) = &*PAIR;
        let text = |path: &'static PathBuf| path.to_str().expect("text");
        let mut args = vec!["--samples", "--store", "memory", "--token", "good=good"];
        if at.has_tls() {
            args.extend(["--tls-cert", text(certificate), "--tls-key", text(key)]);
        }
        if tokio {
            args.push("--tokio");
        }
        let socket = format!("unix:{}", home.dir.join("socket").display());
        let place = match at {
            At::WebSocket | At::SecureWebSocket => "127.0.0.1:0",
            At::Http2 => "h2c://127.0.0.1:0",
            At::SecureHttp2 => "h2://127.0.0.1:0",
            At::Quic => "quic://127.0.0.1:0",
            At::Unix => {
                fs::create_dir_all(&home.dir).expect("a folder");
                &socket
            }
        };
        let url = home.serve_at(place, &args);
        Program { target: url.parse().expect("a URL"), home }
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

    /// Its open sockets. Other files come and go.
    fn sockets(&self) -> usize {
        let files = fs::read_dir(self.of_process("fd")).expect("it runs").flatten();
        let links = files.filter_map(|file| fs::read_link(file.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    }

    /// Waits until it has taken everything that was sent to it.
    fn has_heard(&self) {
        // Who writes to a Unix socket waits for that itself.
        let Some((_, port)) = self.target.address() else { return };
        let table = match &self.target {
            Target::Quic { .. } => "/proc/net/udp",
            Target::WebSocket { .. } | Target::Http2 { .. } | Target::Unix(_) | Target::Program(_) => "/proc/net/tcp",
        };
        let port = format!(":{port:04X}");
        until("everything is read", || {
            let table = fs::read_to_string(table).expect("the sockets of this machine");
            let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
            // Not those that listen.
            let mut own = fields.filter(|fields| fields[1].ends_with(&port) && fields[3] != "0A");
            own.all(|fields| fields[4].ends_with(":00000000")).then_some(())
        });
    }
}

impl Program {
    /// Waits until it has taken up so many and what they have sent, unless it takes so long that
    /// the first are gone by then.
    fn has_accepted(&self, own: usize, peers: usize, stranger: &Stranger, stays: Duration) {
        // All connections of QUIC come to one socket.
        let (most, begun) = (own + if stranger.at == At::Quic { 0 } else { peers }, Instant::now());
        until("a socket each", || (self.sockets() >= most || begun.elapsed() >= stays).then_some(()));
        assert!(self.sockets() <= most, "{}: more than a socket each", stranger.row);
        self.has_heard();
    }
}

/// So many of it come to be measured.
fn peers(stranger: &Stranger) -> usize {
    if stranger.dribbles() {
        return DRIBBLERS;
    }
    match stranger.at {
        At::Quic => BY_QUIC,
        At::WebSocket | At::SecureWebSocket | At::Unix | At::Http2 | At::SecureHttp2 => {
            PEERS.min(MOST / stranger.counts)
        }
    }
}

/// Has so many of a kind come, and measures until they are gone.
fn measure(stranger: &Stranger, tokio: bool) {
    let said = said_of(stranger);
    let Some(promised) = (if tokio { Some(said.tokio) } else { said.threads }) else { return };
    let (program, certificate) = (Program::start(stranger.at, tokio), &PAIR.1);
    let come = || stranger.come(&program.target, Some(certificate));
    let (own, stays, peers) = (program.sockets(), Duration::from_secs(said.seconds), peers(stranger));
    let held: Vec<_> = std::thread::scope(|scope| {
        // What the first ones cost is once for all. They are watched while others come.
        let first: Vec<_> = (0..TIMED).map(|_| come()).map(|one| scope.spawn(move || one.ends())).collect();
        program.has_accepted(own, TIMED, stranger, stays);
        let before = program.resident();
        let held: Vec<_> = (0..peers).map(|_| come()).collect();
        program.has_accepted(own, TIMED + peers, stranger, stays);
        let each = program.resident().saturating_sub(before + PIECES) / peers as u64;
        if !stranger.dribbles() {
            // From below nothing can be held: an allocator takes what it has kept before it grows.
            assert!(each <= promised, "{}, tokio {tokio}: {each} bytes each, and not {promised}", stranger.row);
        }
        for stayed in first.into_iter().map(|one| one.join().expect("it is closed")) {
            assert!(stayed + Duration::from_millis(20) >= stays, "{}: {stayed:?}, and not {stays:?}", stranger.row);
            assert!(stayed <= stays + LATE, "{}: {stayed:?}, and not {stays:?}", stranger.row);
        }
        held
    });
    // The others have not moved.
    until("its files are closed", || (program.sockets() <= own).then_some(()));
    if stranger.at == At::Quic {
        held.into_iter().for_each(|one| _ = one.ends());
    }
}

#[test]
fn what_a_stranger_makes_a_runtime_hold_and_for_how_long_is_what_the_page_says() {
    // What only tokio serves is measured once.
    let each = |stranger| [false, true].map(|tokio| (stranger, tokio));
    let mut all: Vec<(&Stranger, bool)> =
        ALL.iter().flat_map(each).filter(|(stranger, tokio)| *tokio || !stranger.at.carries()).collect();
    // Those who are together for as long wait for nobody.
    all.sort_by_key(|(stranger, _)| stays(stranger));
    for some in all.chunks(12) {
        std::thread::scope(|scope| {
            for (stranger, tokio) in some {
                scope.spawn(move || measure(stranger, *tokio));
            }
        });
    }
}

/// How long it is there, from when it stops.
fn stays(stranger: &Stranger) -> Duration {
    let timing = Timing::default();
    match stranger.stops {
        Stops::InTls => timing.tls_handshake_timeout,
        Stops::InRequest => HEAD_TIMEOUT,
        Stops::BeforeSession => timing.handshake_timeout,
        Stops::AfterGoodbye => LINGER,
        Stops::OnStream => timing.handshake_timeout + LINGER,
        Stops::AfterStream => LINGER + HEAD_TIMEOUT,
    }
}

#[test]
fn the_bounds_that_the_page_names_are_those_of_the_program() {
    let limits = Limits::default();
    let connection = &limits.connection;
    for stranger in ALL {
        let (of_network, of_all) = match stranger.stops {
            Stops::InTls => (connection.tls_handshakes_per_network, connection.tls_handshakes),
            Stops::InRequest | Stops::BeforeSession | Stops::AfterGoodbye | Stops::OnStream | Stops::AfterStream => {
                (connection.handshaking_connections_per_network, connection.handshaking_connections)
            }
        };
        let said = said_of(stranger);
        assert_eq!(said.threads.is_none(), stranger.at.carries(), "{}", stranger.row);
        let expected = (of_network / stranger.counts, of_all / stranger.counts, stays(stranger).as_secs());
        assert_eq!((said.of_network, said.of_all, said.seconds), expected, "{}", stranger.row);
    }
    assert_eq!(ALL.iter().map(|one| one.counts).max(), usize::try_from(limits.stream.streams_per_connection).ok());
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
