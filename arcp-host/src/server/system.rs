//! Socket options and descriptor limits.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;
use rustix::process::{Resource, getrlimit};

/// TCP keepalive: after this time of silence the system probes the peer, at this interval and so
/// many times. It finds lost peers that send no heartbeats.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMES: u32 = 4;

/// Has the system detect that the peer of a TCP socket is gone.
///
/// # Errors
///
/// If the system does not support that for this socket.
pub fn keep_alive(socket: &impl AsFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_EVERY)?;
    Ok(sockopt::set_tcp_keepcnt(socket, KEEPALIVE_TIMES)?)
}

/// How many connections the limit of open files allows.
pub fn descriptors_for_connections() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).map_or(usize::MAX, |limit| limit - reserved(limit))
}

/// Descriptors reserved for the store, its readers, and the pipes and folders of agents: a third of
/// all, at most 1,024.
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
