//! The places at which `arcp serve` listens.

use std::io;
use std::net::SocketAddr;

use arcp_blocking::{HostError, Listen, Listener, ServerConfig};

use crate::args::Serve;
use crate::exit::{Exit, Failure};

/// The places that the options name.
///
/// # Errors
///
/// If they exclude each other.
pub fn of(args: &Serve) -> Result<Vec<Listen>, Failure> {
    if args.listening.stdio {
        return Ok(vec![Listen::Stdio]);
    }
    let stdio = args.listening.listen.iter().filter(|listen| **listen == Listen::Stdio).count();
    if stdio > 1 {
        return Err(Failure::usage("--listen stdio: is given twice, and there is one stdin"));
    }
    if stdio == 1 && args.background {
        return Err(Failure::usage("--listen stdio: needs the parent, which --background leaves: give one of them"));
    }
    let others = |at: usize| args.listening.listen.iter().take(at);
    for (at, listen) in args.listening.listen.iter().enumerate() {
        if others(at).any(|other| other == listen && !picks(listen)) {
            return Err(Failure::usage(format!("--listen {listen}: is given twice: give it once")));
        }
        if let Some(other) = others(at).find(|other| port(other).is_some() && port(other) == port(listen)) {
            return Err(Failure::usage(format!("--listen {listen}: {other} has that port: give another port")));
        }
    }
    Ok(args.listening.listen.clone())
}

/// Whether the system picks the port, so that each such place has another one.
fn picks(listen: &Listen) -> bool {
    listen.address().is_some_and(|address| address.port() == 0)
}

/// The given port, and whether it is of QUIC; `None` if the system picks it. QUIC uses UDP, so it does not collide
/// with the others.
fn port(listen: &Listen) -> Option<(SocketAddr, bool)> {
    let address = listen.address().filter(|_| !picks(listen))?;
    Some((address, matches!(listen, Listen::Quic { .. })))
}

/// Whether the runtime serves only stdin and stdout; then it ends with its parent.
pub fn is_stdio_alone(places: &[Listen]) -> bool {
    *places == [Listen::Stdio]
}

/// Whether one of them needs the tokio adapter.
pub fn need_tokio(places: &[Listen]) -> bool {
    places.iter().any(|listen| matches!(listen, Listen::Http2 { .. } | Listen::Quic { .. }))
}

/// Whether peers there are identified by their user.
pub fn knows_users(listen: &Listen) -> bool {
    match listen {
        Listen::Unix { .. } | Listen::Stdio => true,
        Listen::WebSocket { .. } | Listen::Http2 { .. } | Listen::Quic { .. } => false,
    }
}

/// The name for files that belong to these places: the first port that is not picked by the system, otherwise the
/// first Unix socket. `None` if clients cannot find the place again.
pub fn name(places: &[Listen]) -> Option<String> {
    let port = places.iter().filter_map(Listen::address).map(|address| address.port()).find(|port| *port != 0);
    let socket = || {
        places.iter().find_map(|listen| match listen {
            Listen::Unix { path, .. } => std::path::absolute(path).ok(),
            Listen::WebSocket { .. } | Listen::Http2 { .. } | Listen::Quic { .. } | Listen::Stdio => None,
        })
    };
    port.map(|port| port.to_string()).or_else(|| socket().map(|path| format!("unix{}", tame(&path.to_string_lossy()))))
}

/// A text as part of a file name. Different texts give different names.
pub fn tame(text: &str) -> String {
    let tame = |c: char| match c {
        '/' => "-".to_string(),
        c if c.is_ascii_alphanumeric() || c == '.' || c == '_' => c.to_string(),
        c => format!("%{:x}", u32::from(c)),
    };
    text.chars().map(tame).collect()
}

/// Checks that each place may be served, as far as that is known before it is bound.
///
/// # Errors
///
/// For the first that may not.
pub fn check(places: &[Listen], config: &ServerConfig) -> Result<(), Failure> {
    places.iter().try_for_each(|listen| {
        config.allows(listen).map_err(|error| match error {
            HostError::NoCertificate(_) => Failure::usage(format!(
                "--listen {error}: give --tls-cert FILE --tls-key FILE (`arcp tls self-signed` makes both)"
            )),
            HostError::Cleartext(_)
            | HostError::Config(_)
            | HostError::Io(_)
            | HostError::Store(_)
            | HostError::Fenced(_) => {
                let mend = encrypted(listen, config.tls.is_some());
                Failure::usage(format!(
                    "--listen {listen}: {error}: give {mend}, or --insecure where nobody can listen in"
                ))
            }
        })
    })
}

/// The advice for a place that would be served without TLS.
fn encrypted(listen: &Listen, has_certificate: bool) -> String {
    let files = "--tls-cert FILE --tls-key FILE";
    let scheme = match listen {
        Listen::WebSocket { tls: Some(_), .. } => "wss://",
        Listen::Http2 { .. } => "h2://",
        Listen::WebSocket { tls: None, .. } | Listen::Quic { .. } | Listen::Unix { .. } | Listen::Stdio => {
            return files.to_string();
        }
    };
    if has_certificate { scheme.to_string() } else { format!("{scheme} with {files}") }
}

/// Binds each place.
///
/// # Errors
///
/// For the first that cannot be bound.
pub fn bind(places: &[Listen]) -> Result<Vec<Listener>, Failure> {
    places.iter().map(|listen| Listener::bind(listen).map_err(|error| failure(listen, &error))).collect()
}

fn failure(listen: &Listen, error: &io::Error) -> Failure {
    let of_ports = [
        (
            io::ErrorKind::AddrInUse,
            "stop what has that port (`arcp runtimes` lists yours), or give another: --listen SCHEME:PORT",
        ),
        (io::ErrorKind::PermissionDenied, "give a port from 1024 on: --listen SCHEME:PORT"),
        (io::ErrorKind::AddrNotAvailable, "give an address of this machine: --listen SCHEMEADDRESS:PORT"),
    ];
    let of_sockets = [
        (
            io::ErrorKind::AddrInUse,
            "stop it (`arcp runtimes` lists yours), or give another path: --listen unix:///PATH",
        ),
        (io::ErrorKind::AlreadyExists, "remove it, or give another path: --listen unix:///PATH"),
        (io::ErrorKind::NotFound, "make the folder, or give another path: --listen unix:///PATH"),
    ];
    let mends = if knows_users(listen) { of_sockets } else { of_ports };
    let mend = mends.iter().find(|(kind, _)| *kind == error.kind()).map(|(_, mend)| format!("; {mend}"));
    let text = listen.to_string();
    let scheme = text.find("://").map_or("", |at| &text[..at + "://".len()]);
    let mend = mend.map(|mend| mend.replace("SCHEME", scheme));
    Failure::new(Exit::Failed, format!("cannot listen on {listen}: {error}{}", mend.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_cannot_have_a_port_is_told_to_give_another_of_the_same_kind() {
        for (text, mend) in
            [(":1", "--listen :PORT"), ("ws://:1", "--listen ws://:PORT"), ("quic://:1", " quic://:PORT")]
        {
            let listen: Listen = text.parse().expect("a place");
            let told = failure(&listen, &io::ErrorKind::AddrInUse.into()).message;
            assert!(told.ends_with(mend), "{told}");
        }
    }

    #[test]
    fn what_is_kept_is_called_by_a_place_that_is_come_back_to() {
        let name = |texts: &[&str]| {
            let places: Vec<Listen> = texts.iter().map(|text| text.parse().expect("a place")).collect();
            name(&places)
        };
        assert_eq!(name(&[":7777"]).as_deref(), Some("7777"));
        assert_eq!(name(&["stdio:", "unix:///run/a.sock", ":0", "wss://:8"]).as_deref(), Some("8"));
        assert_eq!(name(&["unix:///run/a b.sock", ":0"]).as_deref(), Some("unix-run-a%20b.sock"));
        assert_ne!(name(&["unix:///run/a-b"]), name(&["unix:///run/a/b"]));
        assert_eq!(name(&[":0", "stdio:"]), None);
    }
}
