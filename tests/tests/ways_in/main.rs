//! Every way in: each transport, each scheme and each family over real sockets, with
//! credentials that count and such that do not, or not any more, and with peers that
//! stop where they are. Whatever cannot be says why.

mod cases;
mod desk;
mod page;
mod replays;
mod scheme;
mod stopping;
mod transport;

use std::sync::atomic::{AtomicU32, Ordering};

use crate::desk::Desk;
use crate::scheme::Scheme;
use crate::transport::{Adapter, Site, Transport};

/// Plays something on a server over each transport and adapter, side by side.
fn everywhere(scheme: &'static Scheme, play: impl Fn(&Site<'_>) + Sync) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let play = &play;
    let at = |transport: Transport, adapter: Adapter| {
        let title = format!("ways-in-{}", COUNT.fetch_add(1, Ordering::SeqCst));
        let desk = Desk::new(&title);
        play(&Site::start(transport, adapter, &desk, |host| (scheme.guard)(&desk, host), scheme.change));
    };
    std::thread::scope(|scope| {
        for transport in transport::ALL.into_iter().filter(|transport| transport.secured || !scheme.secured) {
            for adapter in transport.adapters.iter().copied() {
                let play = move || at(transport, adapter);
                std::thread::Builder::new()
                    .name(format!("{transport:?} {adapter:?}"))
                    .spawn_scoped(scope, play)
                    .expect("a thread");
            }
        }
    });
}
