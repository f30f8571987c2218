//! Ports for servers that start later than their address is needed, or start again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// The first port to use.
const FIRST: u16 = 10_240;
/// The first port that the system picks by default.
const PICKED: u16 = 32_768;
/// The distance between the first ports of two consecutive processes.
const APART: u16 = 61;

/// An address of this machine at which no process listens.
///
/// The port is not one that the system picks for listeners or clients. So no other process gets it by accident while
/// its server is not running, and a client that tries to connect does not connect to itself.
///
/// # Panics
///
/// If all of them are taken.
pub fn free() -> SocketAddr {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let span = first_picked().saturating_sub(FIRST).max(1);
    let begin = std::process::id() % u32::from(span) * u32::from(APART) % u32::from(span);
    let begin = u16::try_from(begin).unwrap_or(0);
    (0..span)
        .find_map(|_| {
            let count = COUNT.fetch_add(1, Ordering::SeqCst);
            let nth = (u32::from(begin) + u32::from(count)) % u32::from(span);
            let port = FIRST + u16::try_from(nth).unwrap_or(0);
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|free| free.local_addr()).ok()
        })
        .expect("a port that nobody has")
}

/// The first port that the system picks.
fn first_picked() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|first| first.parse().ok());
    // If the system leaves hardly any ports, use some of those that it picks.
    first.filter(|first| *first > 2 * FIRST).unwrap_or(PICKED)
}
