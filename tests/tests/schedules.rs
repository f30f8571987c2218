//! Schedules: jobs that are submitted at times (RFC §10.6).

use std::collections::BTreeSet;
use std::time::Duration;

use arcp_host::policy_file;
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentEntry;
use arcp_proto::runtime::{Config, HeldFor, Input, Notice, Operator, Record, Timer, held_bytes};
use arcp_proto::time::UtcMs;
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Every hour from midnight on, when worlds begin.
const HOURLY: &str = "DTSTART:20260101T000000Z\nRRULE:FREQ=HOURLY";
/// What answers a request about schedules.
const ANSWERS: [&str; 6] =
    ["ack", "nack", "session.error", "cancel.accepted", "cancel.refused", "x-vendor.arcp.schedules"];

fn world(seed: u64) -> World {
    configured(seed, |_| {})
}

fn configured(seed: u64, change: impl Fn(&mut Config)) -> World {
    World::configured(seed, |config| {
        config.timing.schedules = true;
        config.timing.heartbeat = None;
        config.timing.job_retention = Some(100 * 24 * HOUR);
        change(config);
    })
}

fn open(world: &mut World, token: &str) -> Raw {
    let mut payload = open_payload(token);
    payload["capabilities"]["scheduled_jobs"] = json!(true);
    let (raw, accepted) = Raw::open_with(world, payload);
    assert_eq!(accepted["payload"]["capabilities"]["scheduled_jobs"], true, "{accepted}");
    raw
}

fn hello(world: &mut World, token: &str) -> Raw {
    let mut payload = hello_payload(token);
    let features = payload["capabilities"]["features"].as_array_mut().expect("a list");
    features.push(json!("x-vendor.arcp.scheduled_jobs"));
    let mut raw = Raw::connect(world);
    raw.send(world, "session.hello", payload);
    raw.expect(world, "session.welcome");
    raw
}

/// A wish for `echo`, as the open family spells it, with other members.
fn wish(when: Value, more: Value) -> Value {
    let mut wish =
        json!({"job": {"type": "tool.invoke", "payload": {"tool": "echo", "arguments": {"n": 1}}}, "when": when});
    wish.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    wish
}

fn of_agent(agent: &str, when: Value, more: Value) -> Value {
    let mut wish = wish(when, more);
    wish["job"]["payload"]["tool"] = json!(agent);
    wish
}

/// The answer to a request about schedules.
fn ask(world: &mut World, raw: &mut Raw, kind: &str, payload: Value) -> Value {
    raw.send(world, kind, payload);
    raw.expect_any(world, &ANSWERS)
}

fn schedule(world: &mut World, raw: &mut Raw, payload: Value) -> String {
    let kept = ask(world, raw, "job.schedule", payload);
    assert_eq!(kept["type"], "ack", "{kept}");
    kept["payload"]["schedule_id"].as_str().expect("an id").to_string()
}

fn list(world: &mut World, raw: &mut Raw) -> Vec<Value> {
    let page = ask(world, raw, "x-vendor.arcp.schedules.list", json!({}));
    page["payload"]["schedules"].as_array().unwrap_or_else(|| panic!("{page}")).clone()
}

fn pause(world: &mut World, raw: &mut Raw, id: &str, paused: bool) -> Value {
    let kind = if paused { "x-vendor.arcp.schedules.pause" } else { "x-vendor.arcp.schedules.resume" };
    ask(world, raw, kind, json!({"schedule_id": id}))
}

fn end(world: &mut World, raw: &mut Raw, id: &str) -> Value {
    ask(world, raw, "cancel", json!({"target": "job", "target_id": id}))
}

/// The times that had a job, as the store knows them, in the order of the jobs. No
/// schedule has two for one time.
fn fired(world: &World) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut times = Vec::new();
    for (_, record) in world.store.records(false) {
        let Record::JobAccepted(job) = record else { continue };
        let Some(firing) = &job.bounds.firing else { continue };
        assert!(
            seen.insert((job.principal.to_string(), firing.schedule.clone(), firing.at)),
            "{firing:?} has two jobs"
        );
        times.push(short(firing.at));
    }
    times
}

/// A time of the worlds' days, as short as it can be said.
fn short(at: UtcMs) -> String {
    let text = at.to_string();
    text.trim_start_matches("2026-").trim_start_matches("01-01T").trim_end_matches(":00.000Z").to_string()
}

/// The clock goes on by so much while the runtime is down.
fn down_for(world: &mut World, ahead: Duration) {
    world.settle();
    world.set_clock(i64::try_from(ahead.as_millis()).expect("not long"));
    world.crash_with(0, true);
    world.settle();
    world.run_for(Duration::from_millis(100));
}

#[test]
fn a_job_is_submitted_once_at_its_time_or_after_a_while_in_both_families() {
    for is_open in [true, false] {
        let mut world = world(1);
        let mut raw = if is_open { open(&mut world, "tok-a") } else { hello(&mut world, "tok-a") };
        let with = |mut wish: Value| {
            if !is_open {
                wish["job"] = json!({"type": "job.submit", "payload": {"agent": "echo", "input": {"n": 1}}});
            }
            wish
        };
        let kept = ask(
            &mut world,
            &mut raw,
            "job.schedule",
            with(wish(json!({"at": "2026-01-01T02:30:00+01:00"}), json!({}))),
        );
        assert_eq!(kept["payload"]["x-vendor.arcp.next_at"], "2026-01-01T01:30:00.000Z", "{kept}");
        let named = json!({"schedule_id": "nightly"});
        assert_eq!(schedule(&mut world, &mut raw, with(wish(json!({"after": 7200}), named))), "nightly");
        world.restores();
        let shown = list(&mut world, &mut raw);
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert_eq!(
            (&shown[0]["schedule_id"], &shown[0]["agent"], &shown[0]["fired"]),
            (&json!("nightly"), &json!("echo"), &json!(0))
        );
        world.run_for(89 * MINUTE);
        assert_eq!(fired(&world), [""; 0]);
        world.run_for(2 * MINUTE);
        assert_eq!(fired(&world), ["01:30"]);
        assert_eq!(world.started.len(), 1);
        assert_eq!(world.started[0].input.as_str(), r#"{"n":1}"#);
        world.run_for(HOUR);
        assert_eq!(fired(&world).len(), 2);
        assert_eq!(list(&mut world, &mut raw), Vec::<Value>::new(), "both are over");
        assert_eq!(held_bytes(world.runtime(), HeldFor::Schedules), 0);
        raw.send(&mut world, "session.list_jobs", json!({}));
        let jobs = raw.expect(&mut world, "session.jobs")["payload"]["jobs"].clone();
        assert_eq!(jobs.as_array().expect("a list").len(), 2, "whoever comes sees them");
        world.finish();
    }
}

#[test]
fn a_rule_comes_whenever_it_says_and_a_schedule_goes_on_without_anybody_there() {
    let mut world = world(2);
    let mut raw = open(&mut world, "tok-a");
    let rule = "DTSTART;TZID=Europe/Berlin:20260101T083000\nRRULE:FREQ=DAILY;COUNT=3";
    schedule(&mut world, &mut raw, wish(json!({"every": rule}), json!({"schedule_id": "s"})));
    world.cut(raw.conn);
    world.run_for(36 * HOUR);
    assert_eq!(fired(&world), ["07:30", "01-02T07:30"]);
    let mut raw = open(&mut world, "tok-a");
    let shown = &list(&mut world, &mut raw)[0];
    assert_eq!((&shown["fired"], &shown["skipped"]), (&json!(2), &json!(0)), "{shown}");
    assert_eq!(shown["next"], json!(["2026-01-03T07:30:00.000Z"]));
    assert_eq!(shown["last_at"], "2026-01-02T07:30:00.000Z");
    assert_eq!(shown["when"]["every"], rule);
    world.run_for(72 * HOUR);
    assert_eq!(fired(&world).len(), 3);
    assert_eq!(list(&mut world, &mut raw), Vec::<Value>::new(), "the rule has no more");
    world.finish();
}

#[test]
fn a_local_time_that_does_not_exist_fires_once_after_the_gap() {
    let mut world = world(3);
    world.set_clock(86 * 24 * 3_600_000); // the evening before is the 28th of March
    let mut raw = open(&mut world, "tok-a");
    let rule = "DTSTART;TZID=Europe/Berlin:20260101T023000\nRRULE:FREQ=DAILY";
    schedule(&mut world, &mut raw, wish(json!({"every": rule}), json!({})));
    world.run_for(60 * HOUR);
    assert_eq!(fired(&world), ["03-28T01:30", "03-29T01:00", "03-30T00:30"]);
    world.finish();
}

#[test]
fn a_local_time_that_exists_twice_fires_once() {
    let mut world = world(4);
    world.set_clock(296 * 24 * 3_600_000); // the 24th of October
    let mut raw = open(&mut world, "tok-a");
    let rule = "DTSTART;TZID=Europe/Berlin:20260101T023000\nRRULE:FREQ=DAILY";
    schedule(&mut world, &mut raw, wish(json!({"every": rule}), json!({})));
    world.run_for(60 * HOUR);
    assert_eq!(fired(&world), ["10-24T00:30", "10-25T00:30", "10-26T01:30"]);
    world.finish();
}

#[test]
fn what_was_missed_while_the_runtime_was_down_is_made_up_for_as_the_schedule_says() {
    let all = ["05:00", "06:00", "07:00", "08:00"];
    for (missed, expected) in [("last", &all[3..]), ("all", &all[..]), ("none", &[])] {
        let mut world = configured(5, |config| config.limits.schedule.missed_firings = 4);
        let mut raw = open(&mut world, "tok-a");
        let more = json!({"x-vendor.arcp.missed": missed, "x-vendor.arcp.overlap": "allow"});
        schedule(&mut world, &mut raw, wish(json!({"every": HOURLY}), more));
        down_for(&mut world, 8 * HOUR + MINUTE / 2);
        assert_eq!(fired(&world), expected, "{missed}");
        world.restores();
        world.run_for(HOUR);
        let on_time = expected.iter().copied().chain(["09:00"]).collect::<Vec<_>>();
        assert_eq!(fired(&world), on_time, "{missed}: it goes on");
        world.finish();
    }
    // A time alone is missed as well.
    for (missed, count) in [("last", 1), ("none", 0)] {
        let mut world = world(6);
        let mut raw = open(&mut world, "tok-a");
        schedule(&mut world, &mut raw, wish(json!({"after": 600}), json!({"x-vendor.arcp.missed": missed})));
        down_for(&mut world, HOUR);
        assert_eq!(fired(&world).len(), count, "{missed}");
        let mut raw = open(&mut world, "tok-a");
        assert_eq!(list(&mut world, &mut raw), Vec::<Value>::new(), "it is over either way");
        world.finish();
    }
}

#[test]
fn a_clock_that_steps_back_fires_nothing_twice_and_one_that_steps_forward_has_missed_it() {
    let mut world = world(7);
    let mut raw = open(&mut world, "tok-a");
    schedule(&mut world, &mut raw, wish(json!({"every": HOURLY}), json!({})));
    world.run_for(HOUR + MINUTE);
    assert_eq!(fired(&world), ["01:00"]);
    world.set_clock(-30 * 60_000);
    world.run_for(40 * MINUTE);
    down_for(&mut world, Duration::ZERO);
    world.set_clock(-30 * 60_000);
    world.run_for(25 * MINUTE);
    assert_eq!(fired(&world), ["01:00"], "once, whatever the clock says by now");
    // Three hours at once: the last of them, within a minute, though nothing else happens.
    world.set_clock(3 * 3_600_000);
    world.run_for(2 * MINUTE);
    assert_eq!(fired(&world), ["01:00", "05:00"]);
    world.finish();
}

#[test]
fn what_overlaps_is_skipped_waits_or_is_allowed() {
    for (overlap, running, over) in [("skip", 1, 1), ("queue", 1, 3), ("allow", 3, 3)] {
        let mut world = configured(8, |config| config.limits.schedule.queued_firings = 2);
        let mut raw = open(&mut world, "tok-a");
        let more = json!({"schedule_id": "s", "x-vendor.arcp.overlap": overlap});
        schedule(&mut world, &mut raw, of_agent("waiter", json!({"every": HOURLY}), more));
        world.run_for(3 * HOUR + MINUTE);
        assert_eq!(fired(&world).len(), running, "{overlap}");
        let shown = list(&mut world, &mut raw)[0].clone();
        let queued = if overlap == "queue" { 2 } else { 0 };
        assert_eq!(shown["queued"], queued, "{shown}");
        world.restores();
        // With a restart in between what waits still does.
        world.crash_with(0, true);
        world.settle();
        let mut raw = open(&mut world, "tok-a");
        for _ in 0..4 {
            end_jobs(&mut world, &mut raw);
        }
        let now = fired(&world);
        assert_eq!(now.len(), over, "{overlap}: {now:?}");
        assert_eq!(list(&mut world, &mut raw)[0]["queued"], 0);
        end(&mut world, &mut raw, "s");
        world.finish();
    }
}

/// Cancels every job that has not ended, and lets that follow.
fn end_jobs(world: &mut World, raw: &mut Raw) {
    raw.send(world, "session.list_jobs", json!({"filter": {"status": ["running", "queued"]}}));
    let page = raw.expect(world, "session.jobs");
    for job in page["payload"]["jobs"].as_array().expect("a list") {
        let target = json!({"target": "job", "target_id": job["job_id"], "deadline_ms": 1000});
        assert_eq!(ask(world, raw, "cancel", target)["type"], "cancel.accepted");
    }
    world.run_for(MINUTE / 4);
}

#[test]
fn what_is_beyond_the_bound_of_those_that_wait_passes_without_a_job() {
    let mut world = configured(9, |config| config.limits.schedule.queued_firings = 2);
    let mut raw = open(&mut world, "tok-a");
    let more = json!({"schedule_id": "s", "x-vendor.arcp.overlap": "queue"});
    schedule(&mut world, &mut raw, of_agent("waiter", json!({"every": HOURLY}), more));
    world.run_for(5 * HOUR + MINUTE);
    let shown = list(&mut world, &mut raw)[0].clone();
    assert_eq!((&shown["fired"], &shown["queued"], &shown["skipped"]), (&json!(1), &json!(2), &json!(2)), "{shown}");
    world.finish();
}

#[test]
fn a_schedule_that_is_paused_fires_nothing_until_it_goes_on_over_a_restart() {
    let mut world = world(10);
    let mut raw = open(&mut world, "tok-a");
    let id = schedule(&mut world, &mut raw, wish(json!({"every": HOURLY}), json!({})));
    world.run_for(HOUR + MINUTE);
    for _ in 0..2 {
        assert_eq!(pause(&mut world, &mut raw, &id, true)["payload"]["detail"], "paused");
    }
    down_for(&mut world, 3 * HOUR);
    let mut raw = open(&mut world, "tok-a");
    let shown = list(&mut world, &mut raw)[0].clone();
    assert!(shown["paused"].is_string() && shown["next"] == json!([]), "{shown}");
    assert_eq!(pause(&mut world, &mut raw, &id, false)["payload"]["detail"], "resumed");
    world.run_for(HOUR);
    assert_eq!(fired(&world), ["01:00", "05:00"], "what passed meanwhile was not missed");
    // A time alone that passes meanwhile is over.
    let once = schedule(&mut world, &mut raw, wish(json!({"after": 60}), json!({})));
    pause(&mut world, &mut raw, &once, true);
    world.run_for(2 * MINUTE);
    pause(&mut world, &mut raw, &once, false);
    world.run_for(MINUTE);
    assert_eq!(list(&mut world, &mut raw).len(), 1);
    world.finish();
}

#[test]
fn a_time_that_waits_for_a_job_comes_though_the_schedule_was_paused_while_that_job_went_on() {
    let after = [false, true].map(|restarts| {
        let mut world = world(30);
        let mut raw = open(&mut world, "tok-a");
        let more = json!({"schedule_id": "s", "x-vendor.arcp.overlap": "queue"});
        let rule = "DTSTART:20260101T000000Z\nRRULE:FREQ=HOURLY;COUNT=3";
        schedule(&mut world, &mut raw, of_agent("waiter", json!({"every": rule}), more));
        world.run_for(HOUR + MINUTE);
        pause(&mut world, &mut raw, "s", true);
        pause(&mut world, &mut raw, "s", false);
        world.run_for(HOUR);
        assert_eq!(list(&mut world, &mut raw)[0]["queued"], 1);
        world.restores();
        if restarts {
            world.crash_with(0, true);
            world.settle();
            raw = open(&mut world, "tok-a");
        }
        end_jobs(&mut world, &mut raw);
        let times = fired(&world);
        assert_eq!(list(&mut world, &mut raw), Vec::<Value>::new(), "{restarts}: the rule has no more");
        world.finish();
        times
    });
    assert_eq!(after, [["01:00", "02:00"], ["01:00", "02:00"]], "what is restored does as what has lived");
}

#[test]
fn a_schedule_ends_with_a_cancel_of_its_id_and_its_jobs_go_on() {
    for is_open in [true, false] {
        let mut world = world(11);
        let mut raw = open(&mut world, "tok-a");
        let id = schedule(&mut world, &mut raw, of_agent("waiter", json!({"every": HOURLY}), json!({})));
        world.run_for(HOUR + MINUTE);
        if is_open {
            assert_eq!(end(&mut world, &mut raw, &id)["type"], "cancel.accepted");
            assert_eq!(end(&mut world, &mut raw, &id)["type"], "cancel.refused", "it is gone");
        } else {
            let mut raw = hello(&mut world, "tok-a");
            raw.send(&mut world, "job.cancel", json!({"job_id": id}));
            assert_eq!(raw.expect(&mut world, "job.cancelled")["payload"]["job_id"], json!(id));
        }
        world.run_for(2 * HOUR);
        assert_eq!(fired(&world), ["01:00"]);
        assert_eq!(world.runtime().stats().unfinished_jobs, 1, "its job goes on");
        down_for(&mut world, 5 * HOUR);
        assert_eq!(fired(&world), ["01:00"], "it stays gone");
        world.finish();
    }
}

#[test]
fn nobody_else_sees_or_changes_a_schedule_but_operators() {
    let mut world = configured(12, |config| {
        config.operators = [Principal::new("root").expect("a name")].into();
    });
    let (mut alice, mut bob, mut root) =
        (open(&mut world, "tok-alice"), open(&mut world, "tok-bob"), open(&mut world, "tok-root"));
    let id = schedule(&mut world, &mut alice, wish(json!({"every": HOURLY}), json!({"schedule_id": "hers"})));
    assert_eq!(list(&mut world, &mut bob), Vec::<Value>::new());
    assert_eq!(code(&pause(&mut world, &mut bob, &id, true)), "NOT_FOUND");
    assert_eq!(end(&mut world, &mut bob, &id)["type"], "cancel.refused");
    let all =
        |world: &mut World, raw: &mut Raw| ask(world, raw, "x-vendor.arcp.schedules.list", json!({"everybody": true}));
    assert_eq!(code(&all(&mut world, &mut bob)), "PERMISSION_DENIED");
    let seen = all(&mut world, &mut root);
    assert_eq!(seen["payload"]["schedules"][0]["principal"], "alice", "{seen}");
    assert_eq!(pause(&mut world, &mut root, &id, true)["type"], "ack");
    assert!(list(&mut world, &mut alice)[0]["paused"].is_string());
    // The same name is another schedule to somebody else, and an operator cannot tell which.
    schedule(&mut world, &mut bob, wish(json!({"every": HOURLY}), json!({"schedule_id": "hers"})));
    assert_eq!(end(&mut world, &mut root, &id)["type"], "cancel.refused");
    assert_eq!(end(&mut world, &mut bob, &id)["type"], "cancel.accepted");
    assert_eq!(end(&mut world, &mut root, &id)["type"], "cancel.accepted");
    assert_eq!(list(&mut world, &mut alice), Vec::<Value>::new());
    world.finish();
}

#[test]
fn policy_is_asked_at_each_time_and_not_only_when_a_schedule_is_made() {
    let mut world = world(13);
    let mut raw = open(&mut world, "tok-a");
    schedule(&mut world, &mut raw, wish(json!({"every": HOURLY}), json!({"schedule_id": "s"})));
    world.run_for(HOUR + MINUTE);
    let policy = |text: &str| {
        Operator::Policy(Some(Box::new(policy_file::parse("policy.toml".as_ref(), text).expect("a policy"))))
    };
    world.input(Input::Operator(policy("[[rule]]\nname = \"others\"\nprincipals = [\"b\"]\nagents = [\"*\"]\n")));
    world.run_for(HOUR);
    assert_eq!(fired(&world), ["01:00"], "whoever lost the right fires nothing");
    let shown = list(&mut world, &mut raw)[0].clone();
    assert_eq!((&shown["skipped"], shown["last_refused"].is_string()), (&json!(1), true), "{shown}");
    assert!(world.notices.iter().any(|notice| matches!(notice, Notice::FiringRefused { .. })));
    world.input(Input::Operator(policy("[[rule]]\nname = \"all\"\nprincipals = [\"*\"]\nagents = [\"*\"]\n")));
    world.run_for(HOUR);
    assert_eq!(fired(&world), ["01:00", "03:00"], "it goes on once it may");
    let denied = ask(&mut world, &mut raw, "job.schedule", of_agent("nosuch", json!({"after": 1}), json!({})));
    assert_eq!(code(&denied), "NOT_FOUND", "and when it is made");
    world.finish();
}

#[test]
fn whose_credentials_are_revoked_submits_nothing_until_it_says_so() {
    let mut world = world(14);
    let mut raw = open(&mut world, "tok-a");
    let id = schedule(&mut world, &mut raw, wish(json!({"every": HOURLY}), json!({})));
    world.input(Input::Operator(Operator::Revoke { principal: Principal::new("a").expect("a name") }));
    world.run_for(3 * HOUR);
    assert_eq!(fired(&world), [""; 0]);
    world.restores();
    let audited = |notice: &Notice| matches!(notice, Notice::Audited(entry) if entry.act.as_str() == "pause_schedule");
    assert!(world.notices.iter().any(audited), "{:?}", world.notices);
    let mut raw = open(&mut world, "tok-a");
    pause(&mut world, &mut raw, &id, false);
    world.run_for(HOUR);
    assert_eq!(fired(&world).len(), 1);
    world.finish();
}

#[test]
fn a_lease_is_granted_anew_at_each_time_and_a_schedule_ends_with_what_ends_its_lease() {
    let mut world = world(15);
    let mut payload = open_payload("tok-a");
    payload["capabilities"]["scheduled_jobs"] = json!(true);
    let (mut raw, _) = Raw::open_with(&mut world, payload);
    let with = |constraints: Value| {
        let mut wish = wish(json!({"every": HOURLY}), json!({}));
        wish["job"]["payload"]["lease_request"] = json!({"fs.read": ["/srv/**"]});
        wish["job"]["payload"]["lease_constraints"] = constraints;
        wish
    };
    schedule(&mut world, &mut raw, with(json!({"expires_in_s": 60})));
    schedule(&mut world, &mut raw, with(json!({"expires_at": "2026-01-01T01:30:00Z"})));
    world.run_for(2 * HOUR + MINUTE);
    assert_eq!(fired(&world), ["01:00", "01:00", "02:00"], "within a minute of each time");
    assert_eq!(list(&mut world, &mut raw).len(), 1, "the other lease never comes back");
    let ends: BTreeSet<Option<UtcMs>> = world
        .store
        .records(false)
        .into_iter()
        .filter_map(|(_, record)| {
            let Record::JobAccepted(job) = record else { return None };
            Some(job.bounds.constraints.expires_at)
        })
        .collect();
    assert_eq!(ends.len(), 3, "{ends:?}");
    world.finish();
}

#[test]
fn who_is_nobody_has_no_schedules_and_who_did_not_agree_neither() {
    let mut world = configured(16, |config| config.anonymous = true);
    let mut payload = open_payload("");
    payload["auth"] = json!({"scheme": "none"});
    payload["capabilities"]["anonymous"] = json!(true);
    payload["capabilities"]["scheduled_jobs"] = json!(true);
    let (mut nobody, _) = Raw::open_with(&mut world, payload);
    assert_eq!(
        code(&ask(&mut world, &mut nobody, "job.schedule", wish(json!({"after": 1}), json!({})))),
        "PERMISSION_DENIED"
    );
    let (mut other, _) = Raw::open(&mut world, "tok-a");
    assert_eq!(
        code(&ask(&mut world, &mut other, "job.schedule", wish(json!({"after": 1}), json!({})))),
        "INVALID_ARGUMENT"
    );
    assert_eq!(code(&ask(&mut world, &mut other, "x-vendor.arcp.schedules.list", json!({}))), "INVALID_ARGUMENT");
    world.finish();
    // A runtime that does not keep any does not offer them.
    let mut world = World::seeded(16);
    let mut payload = open_payload("tok-a");
    payload["capabilities"]["scheduled_jobs"] = json!(true);
    let (mut raw, accepted) = Raw::open_with(&mut world, payload);
    assert!(accepted["payload"]["capabilities"]["scheduled_jobs"].is_null(), "{accepted}");
    assert_eq!(code(&ask(&mut world, &mut raw, "job.schedule", wish(json!({"after": 1}), json!({})))), "UNIMPLEMENTED");
    world.finish();
}

#[test]
fn a_wish_that_cannot_be_is_refused_with_why_and_nothing_is_kept() {
    let mut world = world(17);
    let mut raw = open(&mut world, "tok-a");
    let after = json!({"after": 60});
    let mut keyed = wish(after.clone(), json!({}));
    keyed["job"]["payload"]["idempotency_key"] = json!("k");
    let mut submit = wish(after.clone(), json!({}));
    submit["job"]["type"] = json!("job.submit");
    for (wish, why) in [
        (wish(json!({}), json!({})), "one of `at`"),
        (wish(json!({"after": 1, "at": "2027-01-01T00:00:00Z"}), json!({})), "one of `at`"),
        (wish(json!({"at": "2025-12-31T23:59:59Z"}), json!({})), "is over"),
        (wish(json!({"at": "tomorrow"}), json!({})), "RFC 3339"),
        (wish(json!({"after": 400_000_000}), json!({})), "ten years"),
        (wish(json!({"every": "FREQ=SOMETIMES"}), json!({})), "SOMETIMES"),
        (wish(json!({"every": "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30"}), json!({})), "no time to come"),
        (wish(json!({"every": "DTSTART;TZID=Mars/Base:20260101T000000\nRRULE:FREQ=DAILY"}), json!({})), "Mars/Base"),
        (wish(json!({"every": "x".repeat(2000)}), json!({})), "1,024"),
        (wish(after.clone(), json!({"x-vendor.arcp.missed": "some"})), "`all`"),
        (wish(after.clone(), json!({"x-vendor.arcp.overlap": "no"})), "`queue`"),
        (wish(after.clone(), json!({"schedule_id": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"})), "does not name a job"),
        (wish(after.clone(), json!({"schedule_id": "x".repeat(200)})), "128"),
        (keyed, "no key"),
        (submit, "tool.invoke"),
    ] {
        let refused = ask(&mut world, &mut raw, "job.schedule", wish.clone());
        assert_eq!(code(&refused), "INVALID_ARGUMENT", "{wish}: {refused}");
        assert!(refused["payload"]["message"].as_str().expect("why").contains(why), "{wish}: {refused}");
    }
    assert_eq!(list(&mut world, &mut raw), Vec::<Value>::new());
    assert!(!world.store.records(false).iter().any(|(_, record)| matches!(record, Record::ScheduleKept(_))));
    world.finish();
}

#[test]
fn the_same_wish_again_is_the_same_schedule_also_after_a_crash() {
    let mut world = world(18);
    let mut raw = open(&mut world, "tok-a");
    let every = wish(json!({"every": HOURLY}), json!({}));
    let first = raw.send(&mut world, "job.schedule", every.clone());
    let id = raw.expect(&mut world, "ack")["payload"]["schedule_id"].clone();
    let again = json!({"id": first});
    raw.send_with(&mut world, "job.schedule", every.clone(), again.clone());
    assert_eq!(raw.expect(&mut world, "ack")["payload"]["schedule_id"], id);
    world.crash_with(0, true);
    let mut raw = open(&mut world, "tok-a");
    raw.send_with(&mut world, "job.schedule", every.clone(), again);
    assert_eq!(raw.expect(&mut world, "ack")["payload"]["schedule_id"], id);
    let named = wish(json!({"every": HOURLY}), json!({"schedule_id": "mine"}));
    for _ in 0..2 {
        assert_eq!(schedule(&mut world, &mut raw, named.clone()), "mine");
    }
    let other = wish(json!({"after": 60}), json!({"schedule_id": "mine"}));
    assert_eq!(code(&ask(&mut world, &mut raw, "job.schedule", other)), "FAILED_PRECONDITION");
    assert_eq!(list(&mut world, &mut raw).len(), 2);
    world.finish();
}

#[test]
fn an_input_is_checked_when_a_schedule_is_made_and_at_each_time() {
    let mut world = configured(19, |config| {
        for entry in config.agents.iter_mut().filter(|entry: &&mut AgentEntry| entry.name == "echo") {
            entry.checks_input = true;
        }
    });
    let mut raw = open(&mut world, "tok-a");
    let mut bad = wish(json!({"every": HOURLY}), json!({}));
    bad["job"]["payload"]["arguments"] = json!({"bad": 1});
    assert_eq!(code(&ask(&mut world, &mut raw, "job.schedule", bad)), "INVALID_ARGUMENT");
    schedule(&mut world, &mut raw, wish(json!({"every": HOURLY}), json!({"schedule_id": "s"})));
    world.run_for(2 * HOUR + MINUTE);
    assert_eq!(fired(&world), ["01:00", "02:00"]);
    assert_eq!(world.checks.asked.len(), 4, "each time anew");
    // A host that never answers holds up this schedule alone, and it can be ended.
    world.checks.silent = true;
    world.run_for(HOUR);
    assert_eq!(fired(&world).len(), 2);
    assert_eq!(end(&mut world, &mut raw, "s")["type"], "cancel.accepted");
    world.finish();
}

#[test]
fn a_host_that_cannot_find_times_is_asked_again_and_a_silent_one_keeps_nobody_waiting_for_ever() {
    let mut world = world(20);
    let mut raw = open(&mut world, "tok-a");
    world.checks.plans_fail = true;
    assert_eq!(
        code(&ask(&mut world, &mut raw, "job.schedule", wish(json!({"every": HOURLY}), json!({})))),
        "UNAVAILABLE"
    );
    world.checks.plans_fail = false;
    schedule(&mut world, &mut raw, wish(json!({"every": HOURLY}), json!({"x-vendor.arcp.missed": "all"})));
    world.checks.plans_fail = true;
    down_for(&mut world, 2 * HOUR + MINUTE);
    assert_eq!(fired(&world), [""; 0]);
    world.checks.plans_fail = false;
    world.run_for(MINUTE);
    assert_eq!(fired(&world), ["01:00"], "then the second overlaps");
    let mut raw = open(&mut world, "tok-a");
    world.checks.silent = true;
    let late = ask(&mut world, &mut raw, "job.schedule", wish(json!({"every": HOURLY}), json!({})));
    assert_eq!(code(&late), "UNAVAILABLE", "{late}");
    world.finish();
}

#[test]
fn a_time_without_room_for_its_job_is_tried_again_until_there_is() {
    let mut world = configured(21, |config| config.limits.job.jobs_per_principal = 1);
    let mut raw = open(&mut world, "tok-a");
    raw.invoke(&mut world, json!({"tool": "waiter"}));
    schedule(&mut world, &mut raw, wish(json!({"every": HOURLY}), json!({})));
    world.run_for(HOUR + MINUTE / 2);
    assert_eq!(fired(&world), [""; 0]);
    end_jobs(&mut world, &mut raw);
    world.run_for(MINUTE / 4);
    assert_eq!(fired(&world), ["01:00"]);
    world.finish();
}

#[test]
fn nothing_is_submitted_while_the_runtime_drains_or_its_store_fails() {
    let mut world = world(22);
    let mut raw = open(&mut world, "tok-a");
    schedule(&mut world, &mut raw, wish(json!({"every": HOURLY}), json!({})));
    world.store.broken = true;
    raw.send(&mut world, "tool.invoke", json!({"tool": "echo"}));
    world.run_for(HOUR + MINUTE / 2);
    assert_eq!(fired(&world), [""; 0]);
    world.store.mend();
    world.run_for(MINUTE / 2);
    assert_eq!(fired(&world), ["01:00"], "once");
    world.input(Input::Operator(Operator::Drain));
    world.run_for(2 * HOUR);
    assert_eq!(fired(&world), ["01:00"]);
    world.crash_with(0, false);
    world.run_for(MINUTE / 4);
    assert_eq!(fired(&world), ["01:00", "03:00"], "the next runtime has missed them");
    world.finish();
}

#[test]
fn each_bound_of_schedules_refuses_what_is_beyond_it_and_names_itself() {
    let every = || wish(json!({"every": HOURLY}), json!({}));
    let refused = |world: &mut World, raw: &mut Raw, wish: Value, bound: &str| {
        let refused = ask(world, raw, "job.schedule", wish);
        assert_eq!(code(&refused), "RESOURCE_EXHAUSTED", "{bound}: {refused}");
        assert!(refused.to_string().contains(bound), "{bound}: {refused}");
    };
    let mut world = configured(23, |config| config.limits.schedule.schedules_per_principal = 2);
    let mut raw = open(&mut world, "tok-a");
    let first = schedule(&mut world, &mut raw, every());
    schedule(&mut world, &mut raw, every());
    refused(&mut world, &mut raw, every(), "schedules_per_principal");
    let mut other = open(&mut world, "tok-b");
    schedule(&mut world, &mut other, every());
    end(&mut world, &mut raw, &first);
    schedule(&mut world, &mut raw, every());
    world.finish();

    let mut world = configured(24, |config| config.limits.schedule.schedules = 4);
    let mut raw = open(&mut world, "tok-a");
    schedule(&mut world, &mut raw, every());
    refused(&mut world, &mut raw, every(), "schedules");
    world.finish();

    let mut world = configured(25, |config| config.limits.schedule.schedule_bytes = 64);
    let mut raw = open(&mut world, "tok-a");
    let mut large = wish(json!({"after": 60}), json!({}));
    large["job"]["payload"]["arguments"] = json!("x".repeat(64));
    refused(&mut world, &mut raw, large, "schedule_bytes");
    world.finish();

    let mut world = configured(26, |config| config.limits.schedule.all_schedule_bytes = 8 << 10);
    let mut raw = open(&mut world, "tok-a");
    schedule(&mut world, &mut raw, every());
    refused(&mut world, &mut raw, every(), "all_schedule_bytes");
    world.finish();

    let mut world = configured(27, |config| config.limits.schedule.schedule_plans = 1);
    let (mut raw, mut other) = (open(&mut world, "tok-a"), open(&mut world, "tok-b"));
    world.checks.silent = true;
    raw.send(&mut world, "job.schedule", every());
    world.run_for(Duration::from_secs(1));
    refused(&mut world, &mut other, every(), "schedule_plans");
    world.finish();
}

#[test]
fn many_schedules_cost_one_timer_and_only_those_that_are_due_are_looked_at() {
    let mut world = configured(28, |config| {
        config.limits.schedule.schedules_per_principal = 2000;
        config.limits.job.principal_share = 100;
    });
    let mut raw = open(&mut world, "tok-a");
    for n in 0..1000 {
        let at = UtcMs(world.now().utc.0 + 3_600_000 + 60_000 * n);
        schedule(&mut world, &mut raw, wish(json!({"at": at.to_string()}), json!({})));
    }
    world.settle();
    let deadline = world.runtime().next_deadline().expect("one");
    assert_eq!(deadline.reason, Timer::Schedules);
    world.run_for(HOUR + 3 * MINUTE);
    let many = fired(&world).len();
    assert!((2..=5).contains(&many), "{many}");
    let first: Vec<Value> = ask(&mut world, &mut raw, "x-vendor.arcp.schedules.list", json!({"limit": 600}))["payload"]
        ["schedules"]
        .as_array()
        .expect("a page")
        .clone();
    let last = first.last().expect("some")["schedule_id"].clone();
    let rest = ask(&mut world, &mut raw, "x-vendor.arcp.schedules.list", json!({"limit": 600, "after": last}));
    assert_eq!(first.len() + rest["payload"]["schedules"].as_array().expect("a page").len(), 1000 - many);
    assert!(rest["payload"]["next_after"].is_null());
    world.finish();
}

#[test]
fn no_crash_fires_anything_twice_and_none_is_lost_that_the_rule_promises() {
    for seed in 0..40 {
        let mut world = configured(seed, |config| config.limits.schedule.missed_firings = 64);
        let mut raw = open(&mut world, "tok-a");
        let rule = "DTSTART:20260101T000000Z\nRRULE:FREQ=MINUTELY;COUNT=60";
        let more = json!({"x-vendor.arcp.missed": "all", "x-vendor.arcp.overlap": "allow"});
        schedule(&mut world, &mut raw, wish(json!({"every": rule}), more));
        for _ in 0..30 {
            let span = Duration::from_millis(world.below(200_000));
            world.run_for(span);
            for _ in 0..world.below(30) {
                world.step();
            }
            match world.below(6) {
                0 => world.store.broken = true,
                1 => world.store.mend(),
                2 => {
                    let ahead = 90_000 - i64::try_from(world.below(180_000)).expect("small");
                    world.set_clock(ahead);
                }
                _ => {
                    world.store.mend();
                    world.crash();
                }
            }
        }
        world.store.mend();
        world.set_clock(0);
        world.run_for(2 * HOUR);
        let times = fired(&world);
        // The first of them has been when it was made.
        let expected: Vec<String> = (1..60).map(|minute| format!("00:{minute:02}")).collect();
        assert_eq!(times, expected, "{seed}");
        world.finish();
    }
}

#[test]
fn a_host_that_gives_times_out_of_order_fires_none_twice() {
    let mut world = world(29);
    let mut raw = open(&mut world, "tok-a");
    schedule(&mut world, &mut raw, wish(json!({"every": HOURLY}), json!({})));
    world.run_for(3 * HOUR + MINUTE);
    let before = fired(&world);
    let outputs = |world: &World| world.checks.plans.len();
    let asked = outputs(&world);
    world.input(Input::SchedulePlanned {
        op: arcp_proto::id::OpId(1),
        plan: Err(arcp_proto::model::schedule::PlanFault { reason: "again".into(), again: false }),
    });
    world.run_for(HOUR);
    assert_eq!(fired(&world).len(), before.len() + 1, "an answer that comes twice changes nothing");
    assert!(outputs(&world) <= asked + 1, "sixteen times are asked for at once");
    world.finish();
}
