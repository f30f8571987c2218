//! What inputs cost and what is held, over whole worlds: recordings are run
//! once more with an allocator that counts. Bytes and allocations, not time.

#![allow(clippy::wildcard_enum_match_arm, reason = "what is not counted costs nothing")]

mod events;
mod hostile_worlds;
mod idle;
mod jobs;
mod metered;
mod promised;

use arcp_proto::limits::Limits;
use arcp_tests::generator::run;
use metered::{Metered, lives};

/// Bytes that a runtime may hold for nobody: keys outlive whoever used them.
const LEFT: i64 = 192 << 10;

#[test]
fn no_input_of_a_random_world_costs_more_than_it_says_and_shows() {
    let mut inputs = 0;
    for seed in 0..4 {
        for life in lives(&run(seed, 150).recordings) {
            let mut metered = Metered::new(&life.head);
            for step in &life.steps {
                metered.take(step).is_fair(step);
                inputs += 1;
            }
        }
    }
    assert!(inputs > 10_000, "only {inputs} inputs");
}

#[test]
fn nothing_is_held_for_who_has_left_a_random_world() {
    for seed in 4..7 {
        let life = lives(&run(seed, 150).recordings).pop().expect("the last runtime");
        let mut metered = Metered::new(&life.head);
        for step in &life.steps {
            let _ = metered.take(step);
        }
        assert!(metered.held() <= LEFT, "seed {seed}: {} bytes are held", metered.held());
    }
}

#[test]
fn a_device_holds_a_few_megabytes_however_hostile_its_peers_are() {
    const MOST: u64 = 4 << 20;
    let small = Limits::small();
    let (sessions, connections) = (small.session.sessions, small.connection.handshaking_connections);
    let full = promised::promised(&small, sessions + connections, sessions, small.job.jobs);
    assert!(full <= 3 * MOST, "{full} bytes are promised");
    for (name, _, play) in hostile_worlds::ALL {
        let mut most = 0;
        for life in lives(&hostile_worlds::played(|limits| *limits = Limits::small(), play)) {
            let mut metered = Metered::new(&life.head);
            for (n, step) in life.steps.iter().enumerate() {
                let _ = metered.take(step);
                most = most.max(metered.held());
                if n % 16 == 0 {
                    metered.holds_what_is_promised();
                }
            }
        }
        eprintln!("{name}: {most} bytes at most");
        assert!((most as u64) < MOST, "{name}: {most} bytes");
    }
}

#[test]
fn what_hostile_peers_make_a_runtime_hold_is_what_the_limits_promise() {
    for (name, bound, play) in hostile_worlds::ALL {
        let mut fullest = 0;
        for life in lives(&hostile_worlds::played(bound, play)) {
            let mut metered = Metered::new(&life.head);
            for (n, step) in life.steps.iter().enumerate() {
                metered.take(step).is_fair(step);
                if n % 16 == 0 {
                    metered.holds_what_is_promised();
                }
            }
            fullest = fullest.max(metered.fullest());
        }
        eprintln!("{name}: {fullest} thousandths of what is promised");
        assert!(fullest > 20, "{name}: it presses on nothing");
    }
}
