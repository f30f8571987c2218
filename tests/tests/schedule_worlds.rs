//! Random worlds of schedules: two principals, one of each family, add, pause, resume and delete them, with crashes,
//! clocks that step, a store that fails and a host that cannot find times. `schedule_log` has the invariants.

use std::time::Duration;

use arcp_proto::runtime::Config;
use arcp_tests::raw::{Raw, hello_payload, open_payload};
use arcp_tests::schedule_log::Came;
use arcp_tests::world::World;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);
/// What answers a request about schedules.
const ANSWERS: [&str; 7] =
    ["ack", "nack", "session.error", "cancel.accepted", "cancel.refused", "job.cancelled", "x-vendor.arcp.schedules"];

/// Both principals: alice speaks open, bob hello.
fn connect(world: &mut World) -> [Raw; 2] {
    let mut payload = open_payload("tok-alice");
    payload["capabilities"]["scheduled_jobs"] = json!(true);
    let (alice, _) = Raw::open_with(world, payload);
    [alice, in_hello(world, "tok-bob")]
}

fn in_hello(world: &mut World, token: &str) -> Raw {
    let mut payload = hello_payload(token);
    let features = payload["capabilities"]["features"].as_array_mut().expect("a list");
    features.push(json!("x-vendor.arcp.scheduled_jobs"));
    let mut raw = Raw::connect(world);
    raw.send(world, "session.hello", payload);
    raw.expect(world, "session.welcome");
    raw
}

/// A wish whose times, and what becomes of them, are left to chance.
fn wish(world: &mut World, who: usize, id: &str) -> Value {
    let mut pick = |of: &[&str]| of[world.below(of.len() as u64) as usize].to_string();
    let agent = pick(&["echo", "echo", "waiter", "slow"]);
    let (missed, overlap) = (pick(&["last", "all", "none"]), pick(&["skip", "queue", "allow"]));
    let begins = pick(&["DTSTART:20260101T000000Z", "DTSTART;TZID=Asia/Kathmandu:20260101T000000"]);
    let says = pick(&[
        "FREQ=MINUTELY;INTERVAL=3",
        "FREQ=MINUTELY;INTERVAL=7;BYSECOND=0,20",
        "FREQ=MINUTELY;COUNT=500",
        "FREQ=SECONDLY;INTERVAL=90;COUNT=380",
        "FREQ=HOURLY;BYMINUTE=5,10,15",
        "FREQ=DAILY;BYHOUR=0,1,2,6,7;BYMINUTE=1,41",
    ]);
    let when = match world.below(5) {
        0 => json!({"after": 1 + world.below(3000)}),
        _ => json!({"every": format!("{begins}\nRRULE:{says}")}),
    };
    let (kind, payload) = if who == 0 {
        ("tool.invoke", json!({"tool": agent, "arguments": {"ticks": 3}, "max_runtime_sec": 400}))
    } else {
        ("job.submit", json!({"agent": agent, "input": {"ticks": 3}, "max_runtime_sec": 400}))
    };
    let (of_missed, of_overlap) = ("x-vendor.arcp.missed", "x-vendor.arcp.overlap");
    let job = json!({"type": kind, "payload": payload});
    json!({"job": job, "when": when, "schedule_id": id, of_missed: missed, of_overlap: overlap})
}

fn act(world: &mut World, raws: &mut [Raw; 2]) {
    let who = world.below(2) as usize;
    let id = format!("s{}", world.below(4));
    let named = json!({"schedule_id": id});
    let asked = match world.below(20) {
        0..=4 => Some(("job.schedule", wish(world, who, &id))),
        5 => Some(("x-vendor.arcp.schedules.pause", named)),
        6 | 7 => Some(("x-vendor.arcp.schedules.resume", named)),
        8 if who == 0 => Some(("cancel", json!({"target": "job", "target_id": id}))),
        8 => Some(("job.cancel", json!({"job_id": id}))),
        9 => Some(("x-vendor.arcp.schedules.list", json!({}))),
        10 => {
            world.store.broken = true;
            None
        }
        11 | 12 => {
            world.store.mend();
            None
        }
        13 => {
            let ahead = 600_000 - i64::try_from(world.below(1_200_000)).expect("small");
            world.set_clock(ahead);
            None
        }
        14 => {
            world.checks.plans_fail = world.below(2) == 0;
            None
        }
        15 | 16 => {
            world.store.mend();
            world.crash();
            *raws = connect(world);
            None
        }
        _ => None,
    };
    if let Some((kind, payload)) = asked {
        let is_heard = !world.store.broken;
        raws[who].send(world, kind, payload);
        if is_heard {
            raws[who].expect_any(world, &ANSWERS);
        }
    }
    let span = Duration::from_millis(world.below(240_000));
    world.run_for(span);
    for _ in 0..world.below(20) {
        world.step();
    }
}

fn run(seed: u64) -> Came {
    let mut world = World::configured(seed, |config: &mut Config| {
        config.timing.schedules = true;
        config.timing.heartbeat = None;
        config.limits.schedule.missed_firings = 3;
        config.limits.schedule.queued_firings = 2;
        config.limits.schedule.schedule_plans = 3;
        config.limits.job.running_jobs = 64;
    });
    let mut raws = connect(&mut world);
    for n in 0..60 {
        act(&mut world, &mut raws);
        if n % 10 == seed % 10 {
            world.restores();
        }
    }
    // The world turns kind.
    world.store.mend();
    world.checks.plans_fail = false;
    world.set_clock(0);
    world.run_for(90 * MINUTE);
    world.owes_no_firing();
    let came = world.came_of_schedules();
    world.finish();
    came
}

#[test]
fn no_time_of_a_schedule_has_two_jobs_and_none_is_lost_against_its_policy() {
    let mut all = Came::default();
    for seed in 0..12 {
        eprintln!("seed {seed}");
        let Came { kept, fired, missed, overlapped, queued, paused, over } = run(seed);
        all.kept += kept;
        all.fired += fired;
        all.missed += missed;
        all.overlapped += overlapped;
        all.queued += queued;
        all.paused += paused;
        all.over += over;
    }
    eprintln!("{all:?}");
    let Came { kept, fired, missed, overlapped, queued, paused, over } = all;
    assert!(kept > 10 && fired > 100 && paused > 2 && over > 1, "{all:?}");
    assert!(missed > 2 && overlapped > 10 && queued > 2, "{all:?}");
}

#[test]
fn nobodys_schedules_wait_behind_all_of_somebody_elses() {
    let mut world = World::configured(1, |config: &mut Config| {
        config.timing.schedules = true;
        config.timing.heartbeat = None;
        config.limits.schedule.schedule_plans = 4;
        config.limits.job.principal_share = 25;
    });
    let mut raws = connect(&mut world);
    let every = |n: usize| json!({"every": format!("DTSTART:20260101T000000Z\nRRULE:FREQ=HOURLY;INTERVAL={n}")});
    let submit = json!({"type": "job.submit", "payload": {"agent": "echo"}});
    for n in 0..30 {
        let job = json!({"type": "tool.invoke", "payload": {"tool": "echo"}});
        raws[0].send(&mut world, "job.schedule", json!({"job": job, "when": every(1), "schedule_id": format!("s{n}")}));
        raws[0].expect(&mut world, "ack");
    }
    raws[1].send(&mut world, "job.schedule", json!({"job": submit, "when": every(2)}));
    raws[1].expect(&mut world, "ack");
    // After a restart the times of all are to be found, and the host takes its time.
    world.checks.silent = true;
    let before = world.checks.plans.len();
    world.crash_with(0, true);
    world.run_for(MINUTE / 2);
    let rules = |world: &World| -> Vec<bool> {
        world.checks.plans[before..].iter().map(|wanted| wanted.rule.as_str().ends_with("INTERVAL=2")).collect()
    };
    assert_eq!(rules(&world), [false, true], "each has its share of what the host is at");
    world.checks.silent = false;
    world.crash_with(0, true);
    world.run_for(MINUTE);
    let asked = rules(&world).split_off(2);
    assert_eq!(asked.len(), 31, "the times of each are found");
    assert!(asked.iter().position(|is_bobs| *is_bobs).expect("his too") < 2, "{asked:?}");
    world.finish();
}

#[test]
fn who_has_one_schedule_has_its_turn_for_a_check_however_long_each_takes() {
    let mut world = World::configured(3, |config: &mut Config| {
        config.timing.schedules = true;
        config.timing.heartbeat = None;
        config.limits.schedule.schedule_plans = 1;
        (config.limits.schedule.schedules_per_principal, config.limits.schedule.schedules) = (20, 100);
        config.limits.job.principal_share = 100;
        for entry in config.agents.iter_mut().filter(|entry| entry.name == "echo") {
            entry.checks_input = true;
        }
    });
    let begin = world.now().utc.plus(10 * MINUTE);
    for (who, count) in [("a", 20), ("c", 20), ("b", 1)] {
        let mut raw = in_hello(&mut world, &format!("tok-{who}"));
        for n in 0..count {
            let job = json!({"type": "job.submit", "payload": {"agent": "echo", "input": {"of": who}}});
            let when = json!({"at": begin.to_string()});
            raw.send(&mut world, "job.schedule", json!({"job": job, "when": when, "schedule_id": format!("s{n}")}));
            raw.expect(&mut world, "ack");
        }
    }
    // Before all are checked the clock looks at each of them many times.
    world.checks.takes = Duration::from_secs(4);
    let before = world.checks.asked.len();
    world.run_for(20 * MINUTE);
    let asked: Vec<&str> = world.checks.asked[before..].iter().map(|(_, input)| input.as_str()).collect();
    assert_eq!(asked.len(), 41, "each is checked once");
    assert!(asked[..4].contains(&r#"{"of":"b"}"#), "{asked:?}");
    world.finish();
}

#[test]
fn a_host_that_never_says_what_it_was_asked_is_asked_again_and_its_place_is_free() {
    let mut world = World::configured(2, |config: &mut Config| {
        config.timing.schedules = true;
        config.timing.heartbeat = None;
        config.limits.schedule.schedule_plans = 1;
        for entry in config.agents.iter_mut().filter(|entry| entry.name == "echo") {
            entry.checks_input = true;
        }
    });
    let mut raws = connect(&mut world);
    let job = json!({"type": "tool.invoke", "payload": {"tool": "echo"}});
    let every = json!({"every": "DTSTART:20260101T000000Z\nRRULE:FREQ=MINUTELY;INTERVAL=10"});
    raws[0].send(&mut world, "job.schedule", json!({"job": job, "when": every, "schedule_id": "s"}));
    raws[0].expect(&mut world, "ack");
    // Its times are lost on the way, and so is the verdict on the input of its second job.
    world.checks.silent = true;
    world.crash_with(0, true);
    world.run_for(MINUTE / 2);
    world.checks.silent = false;
    world.run_for(10 * MINUTE);
    assert_eq!(world.started.len(), 1, "its times were found after all");
    world.checks.silent = true;
    world.run_for(10 * MINUTE);
    assert_eq!(world.started.len(), 1, "nobody says whether the input fits");
    world.checks.silent = false;
    world.run_for(2 * MINUTE);
    assert_eq!(world.started.len(), 2, "the input was checked after all");
    // Whoever adds one finds the place of a question that was lost free again.
    for (silent, answer) in [(true, "nack"), (false, "ack")] {
        world.run_for(2 * MINUTE);
        raws = connect(&mut world);
        world.checks.silent = silent;
        let job = json!({"type": "job.submit", "payload": {"agent": "slow"}});
        let id = json!({"job": job, "when": every, "schedule_id": "t"});
        raws[1].send(&mut world, "job.schedule", id);
        let seen = raws[1].expect_any(&mut world, &["ack", "nack", "session.error"]);
        assert_eq!(seen["type"] == "ack", answer == "ack", "{seen}");
    }
    world.finish();
}
