//! What servers ask of the system.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;
use rustix::process::{Resource, getrlimit};

/// A peer that says nothing is asked by the system whether it is still there:
/// after this time, this often, with this between the questions. Peers without
/// heartbeats are found by it.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMES: u32 = 4;

/// Has the system find out that the peer of a TCP socket is gone.
///
/// # Errors
///
/// If it does not do that for this socket.
pub fn keep_alive(socket: &impl AsFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_EVERY)?;
    Ok(sockopt::set_tcp_keepcnt(socket, KEEPALIVE_TIMES)?)
}

/// How many connections the limit of open files leaves room for.
pub fn descriptors_for_connections() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).map_or(usize::MAX, |limit| limit - reserved(limit))
}

/// Descriptors kept for the store, its readers, and the pipes and folders of agents: a
/// third of all, but no more than they can use.
fn reserved(limit: usize) -> usize {
    (limit / 3).min(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_all_descriptors_is_kept_and_no_more_than_can_be_used() {
        assert_eq!([30, 256, 3072, 1 << 20].map(reserved), [10, 85, 1024, 1024]);
        let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize);
        let left = descriptors_for_connections();
        assert!(left < limit && left > limit / 2, "{left} of {limit}");
    }
}
