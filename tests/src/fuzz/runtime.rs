//! A runtime in a virtual world: raw frames on several connections, or a whole scenario in which each choice is a
//! byte. The oracles watch both.

use std::time::Duration;

use super::bytes::Bytes;
use crate::generator;
use crate::raw::{Raw, hello_payload, open_payload};
use crate::sidecars::offered;
use crate::world::{Options, World};

/// The most inputs of one run: enough for anything to happen, few enough to end.
const INPUTS: usize = 100;

/// Each line is an input; its first byte selects the connection, its second the input.
pub(super) fn runtime_bytes(data: &[u8]) {
    let mut data = Bytes(data);
    let mut options = Options::new(u64::from(data.byte()));
    options.config.anonymous = true;
    options.config.limits.job.running_jobs = 2;
    options.config.limits.connection.replies_per_connection = 8;
    options.window = 2048;
    let mut world = World::new(options);
    let mut first = Raw::connect(&mut world);
    first.send(&mut world, "session.hello", offered(hello_payload("tok-a")));
    first.expect(&mut world, "session.welcome");
    let mut raws = vec![first, Raw::open_with(&mut world, offered(open_payload("tok-b"))).0];
    raws.extend((0..2).map(|_| Raw::connect(&mut world)));
    for _ in 0..INPUTS {
        if data.is_empty() {
            break;
        }
        let mut line = Bytes(data.line());
        let at = line.below(raws.len());
        match line.below(12) {
            0 => world.cut(raws[at].conn),
            1 => raws[at] = Raw::connect(&mut world),
            2 => {
                let stalled = line.byte() & 1 == 1;
                world.stall(raws[at].conn, stalled);
            }
            3 => world.store.broken = true,
            4 => world.store.mend(),
            5 => world.crash(),
            6 => {
                let span = Duration::from_millis(u64::from(line.byte()) * 100);
                world.run_for(span);
            }
            _ if line.0.first().is_some_and(|first| *first < 2) => {
                world.send_binary(raws[at].conn, line.0.to_vec());
            }
            _ => world.send_raw(raws[at].conn, line.0.to_vec()),
        }
        world.step();
    }
    world.store.mend();
    world.run_for(Duration::from_secs(1));
    world.finish();
}

/// The random worlds of the suite, with the fuzzer's bytes as chance: clients of both families, two principals and an
/// auditor, store faults, crashes, and clocks that jump; then the calm phase in which everything that is owed must
/// come.
pub(super) fn runtime_world(data: &[u8]) {
    let Some((seed, choices)) = data.split_first() else { return };
    // One or two choices for each action.
    let steps = (choices.len() / 2).min(150) as u64;
    generator::run_with(u64::from(*seed), steps, choices);
}
