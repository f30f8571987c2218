//! Peers that stop in each step of a handshake: each is closed when its time is over
//! and not before, whatever it goes on dribbling, and nothing is left of it.

use std::time::Duration;

use arcp_host::server::{HEAD_TIMEOUT, LINGER};
use arcp_proto::wire::Family;
use arcp_tests::strangers::{self, At, Stops, Stranger};
use arcp_tests::until::until;

use crate::cases::opening;
use crate::desk::{Desk, Given};
use crate::scheme::TOKEN;
use crate::transport::{ADAPTERS, H2, H2C, QUIC, STDIO, Site, UNIX, WS, WSS};

/// In place of the defaults, so that nobody waits for those; the others are constants.
const TLS: Duration = Duration::from_secs(5);
const HANDSHAKE: Duration = Duration::from_secs(3);
/// How late a loaded machine may be.
const LATE: Duration = Duration::from_secs(15);

/// For how long somebody may stay.
fn stays(stranger: &Stranger) -> Duration {
    match stranger.stops {
        Stops::InTls => TLS,
        Stops::InRequest => HEAD_TIMEOUT,
        Stops::BeforeSession => HANDSHAKE,
        Stops::AfterGoodbye => LINGER,
        Stops::OnStream => HANDSHAKE + LINGER,
        // Its connection has no longer for another stream than for the first.
        Stops::AfterStream => (LINGER + HEAD_TIMEOUT).min(HANDSHAKE + LINGER),
    }
}

#[test]
fn who_stops_in_any_step_is_closed_when_its_time_is_over_and_nothing_is_left() {
    std::thread::scope(|scope| {
        for (at, transport) in At::ALL.into_iter().zip([WS, WSS, UNIX, H2C, H2, QUIC]) {
            for adapter in transport.adapters {
                scope.spawn(move || {
                    let desk = Desk::new(&format!("stopping-anywhere-{transport:?}-{adapter:?}"));
                    let site = Site::start(
                        transport,
                        *adapter,
                        &desk,
                        |host| (TOKEN.guard)(&desk, host),
                        |config| {
                            config.timing.tls_handshake_timeout = TLS;
                            config.timing.handshake_timeout = HANDSHAKE;
                        },
                    );
                    stop(&site, at);
                    assert_eq!((site.opened(), site.sessions().len()), (0, 0), "{transport:?} {adapter:?}");
                    // Others have no pages.
                    if matches!(at, At::WebSocket | At::SecureWebSocket) {
                        until("no connection is left", || (site.connections() == 0).then_some(()));
                    }
                });
            }
        }
    });
}

fn stop(site: &Site<'_>, at: At) {
    let (target, certificate) = (&site.target(), &site.desk.server.certificate());
    std::thread::scope(|scope| {
        for stranger in strangers::ALL.iter().filter(|stranger| stranger.at == at) {
            scope.spawn(move || {
                let (stayed, stays) = (stranger.come(target, Some(certificate)).ends(), stays(stranger));
                let least = stays.saturating_sub(Duration::from_millis(20));
                assert!((least..stays + LATE).contains(&stayed), "{}: {stayed:?}, and not {stays:?}", stranger.row);
            });
        }
    });
}

#[test]
fn who_stops_where_frames_begin_at_once_is_told_and_closed_when_its_time_is_over() {
    for (transport, adapter) in ADAPTERS.into_iter().flat_map(|adapter| [(STDIO, adapter), (UNIX, adapter)]) {
        let desk = Desk::new(&format!("stopping-{transport:?}-{adapter:?}"));
        let site = Site::start(
            transport,
            adapter,
            &desk,
            |host| (TOKEN.guard)(&desk, host),
            |config| {
                config.timing.handshake_timeout = Duration::from_secs(1);
            },
        );
        let open = opening(Family::Open, &Given::bare("bearer"));
        for (what, said) in
            [("nothing", ""), ("half a line", "{\"id\":"), ("an opening without a proof", &format!("{open}\n"))]
        {
            // Whom somebody vouches for is asked for none.
            if transport.vouches && said == format!("{open}\n") {
                continue;
            }
            let mut peer = site.dial(&Given::default()).expect("a pipe");
            peer.say_bytes(said.as_bytes());
            let mut last = None;
            while let Some(told) = peer.hear() {
                last = Some(told);
            }
            let last = last.unwrap_or_else(|| panic!("{transport:?} {adapter:?}: {what}: nothing was said"));
            assert!(
                last.to_string().contains("no session was opened in time"),
                "{transport:?} {adapter:?}: {what}: {last}"
            );
        }
        assert_eq!((site.opened(), site.sessions().len()), (0, 0), "{transport:?} {adapter:?}");
    }
}
