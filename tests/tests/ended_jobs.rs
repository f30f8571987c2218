//! Ended jobs are kept for longer than sessions can be resumed, and cost little.

use std::time::Duration;

use arcp_tests::raw::{Raw, code, hello_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

const WINDOW: Duration = Duration::from_secs(60);
const RETENTION: Duration = Duration::from_secs(2 * 3600);

fn world(seed: u64, history: bool) -> World {
    World::configured(seed, |config| {
        config.history = history;
        config.timing.heartbeat = None;
        config.timing.resume_window = WINDOW;
        config.timing.job_retention = Some(RETENTION);
    })
}

fn listed(world: &mut World, raw: &mut Raw) -> Vec<Value> {
    raw.send(world, "session.list_jobs", json!({}));
    raw.expect(world, "session.jobs")["payload"]["jobs"].as_array().expect("a list").clone()
}

/// What a session that just came is shown of a job.
fn watched(world: &mut World, raw: &mut Raw, job: &Value) -> Vec<Value> {
    raw.send(world, "job.subscribe", json!({"job_id": job, "history": true}));
    raw.expect(world, "job.subscribed");
    raw.until_end(world)
}

#[test]
fn an_ended_job_is_listed_and_shown_long_after_nobody_can_resume_and_then_is_not_here() {
    for (history, restart) in [(true, false), (true, true), (false, false)] {
        let mut world = world(1, history);
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        let submit = json!({"agent": "slow", "input": {"ticks": 5}});
        let job = raw.submit(&mut world, submit)["job_id"].clone();
        let lived = raw.until_end(&mut world).len();
        raw.send(&mut world, "session.bye", json!({}));
        world.run_for(Duration::from_secs(3600));
        if restart {
            world.crash_with(world.given().count(), true);
        }
        let (mut later, _) = Raw::hello(&mut world, "tok-a");
        assert_eq!(listed(&mut world, &mut later)[0]["job_id"], job);
        assert_eq!(watched(&mut world, &mut later, &job).len(), lived, "{history} {restart}");
        let (mut stranger, _) = Raw::hello(&mut world, "tok-b");
        world.run_for(RETENTION - Duration::from_secs(3590));
        assert!(listed(&mut world, &mut later).is_empty(), "{history} {restart}");
        let mut answers = Vec::new();
        for raw in [&mut later, &mut stranger] {
            raw.send(&mut world, "job.subscribe", json!({"job_id": job}));
            let refused = raw.expect(&mut world, "session.error");
            assert_eq!(code(&refused), "JOB_NOT_FOUND");
            answers.push(refused["payload"]["message"].clone());
        }
        assert_eq!(answers[0], "no such job is here: ended jobs are kept for 2 hours");
        assert_eq!(answers[0], answers[1], "unknown and forgotten ones look alike");
        world.finish();
    }
}

#[test]
fn what_a_client_was_sent_is_not_kept_for_it_as_long_as_the_job_is() {
    let mut world = world(2, true);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    for _ in 0..20 {
        raw.submit(&mut world, json!({"agent": "echo", "input": "x".repeat(1000)}));
        raw.until_end(&mut world);
    }
    let stats = world.runtime().stats();
    assert!(stats.index_runs >= 20 && stats.event_bytes > 20_000, "{stats:?}");
    // So long until it has ended for a window, so long until what was sent has arrived.
    world.run_for(WINDOW * 3);
    let stats = world.runtime().stats();
    assert_eq!((stats.index_runs, stats.event_bytes, stats.jobs), (0, 0, 20), "{stats:?}");
    world.finish();
}

#[test]
fn ended_jobs_that_hold_too_much_are_forgotten_first_ended_first() {
    let mut world = World::configured(3, |config| {
        config.timing.heartbeat = None;
        config.timing.job_retention = Some(RETENTION);
        config.limits.history.ended_bytes = 30 << 10;
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let mut jobs = Vec::new();
    for _ in 0..60 {
        jobs.push(raw.submit(&mut world, json!({"agent": "echo"}))["job_id"].clone());
        raw.until_end(&mut world);
    }
    let kept = listed(&mut world, &mut raw);
    assert!((5..40).contains(&kept.len()), "{}", kept.len());
    let ids: Vec<&Value> = kept.iter().map(|job| &job["job_id"]).collect();
    assert_eq!(ids, jobs[60 - kept.len()..].iter().collect::<Vec<_>>(), "the latest");
    // One long job weighs as much as many short ones.
    raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 4000}}));
    raw.until_end(&mut world);
    assert!(listed(&mut world, &mut raw).len() < kept.len() / 2);
    world.finish();
}

#[test]
fn ended_jobs_that_hold_too_much_are_forgotten_when_their_agents_go_after_them() {
    let mut world = World::configured(7, |config| {
        config.timing.heartbeat = None;
        config.timing.job_retention = Some(RETENTION);
        config.limits.history.ended_bytes = 4 << 10;
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    // All of them end before the first agent is gone.
    let jobs = [(); 20].map(|()| raw.submit(&mut world, json!({"agent": "lingerer"}))["job_id"].clone());
    for job in jobs {
        raw.send(&mut world, "job.cancel", json!({"job_id": job}));
    }
    world.run_for(Duration::from_secs(60));
    let stats = world.runtime().stats();
    assert!(stats.running_agents == 0 && stats.jobs < 6, "{stats:?}");
    world.finish();
}

/// So many jobs, one after another, in a store with little room, whose runtime
/// crashes after one of them.
fn ended_in_a_small_store(submit: &Value, count: usize, crash_after: Option<usize>) -> (World, Raw, Vec<Value>) {
    let mut world = World::configured(6, |config| {
        config.history = true;
        config.timing.heartbeat = None;
        config.timing.job_retention = Some(RETENTION);
        config.limits.history.kept_bytes = 20_000;
    });
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let mut jobs = Vec::new();
    for n in 0..count {
        jobs.push(raw.submit(&mut world, submit.clone())["job_id"].clone());
        raw.until_end(&mut world);
        if crash_after == Some(n) {
            world.crash_with(world.given().count(), true);
            raw = Raw::hello(&mut world, "tok-a").0;
        }
    }
    (world, raw, jobs)
}

#[test]
fn small_ended_jobs_that_the_store_has_no_room_for_are_forgotten_first_ended_first() {
    for restart in [false, true] {
        let submit = json!({"agent": "echo", "input": "x".repeat(1000)});
        let (mut world, mut raw, jobs) = ended_in_a_small_store(&submit, 40, restart.then_some(20));
        let stats = world.runtime().stats();
        assert!(stats.kept_event_bytes <= 20_000 && stats.jobs > 3, "{restart}: {stats:?}");
        let mut left: Vec<Value> = listed(&mut world, &mut raw).iter().map(|job| job["job_id"].clone()).collect();
        left.sort_by_key(|job| jobs.iter().position(|other| other == job));
        assert_eq!(left, jobs[jobs.len() - left.len()..], "{restart}: the last ones that ended are there");
        assert!(!watched(&mut world, &mut raw, &left[0]).is_empty(), "{restart}: with what happened in them");
        world.finish();
    }
}

#[test]
fn a_result_in_pieces_is_refused_to_who_reads_none_however_long_ago_it_ended() {
    let mut world = world(5, true);
    let submit = json!({"agent": "chunker", "input": {"chunks": 3, "bytes": 9}, "idempotency_key": "k"});
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, submit.clone());
    raw.until_end(&mut world);
    for (after, restart) in [(Duration::ZERO, false), (WINDOW * 3, false), (WINDOW, true)] {
        world.run_for(after);
        if restart {
            world.crash_with(world.given().count(), true);
        }
        let mut other = Raw::connect(&mut world);
        let mut hello = hello_payload("tok-a");
        hello["capabilities"]["features"] = json!([]);
        other.send(&mut world, "session.hello", hello);
        other.expect(&mut world, "session.welcome");
        other.send(&mut world, "job.submit", submit.clone());
        let answer = other.settle(&mut world).remove(0);
        assert_eq!(answer["type"], "session.error", "{after:?} later: {answer}");
        assert!(answer["payload"]["message"].as_str().expect("a text").contains("result_chunk"), "{answer}");
    }
    world.finish();
}

#[test]
fn the_inputs_of_ended_jobs_count_for_what_the_store_keeps() {
    for restart in [false, true] {
        let submit = json!({"agent": "slow", "input": {"ticks": 1, "pad": "x".repeat(4000)}});
        let (mut world, mut raw, jobs) = ended_in_a_small_store(&submit, 12, restart.then_some(8));
        let left: Vec<Value> = listed(&mut world, &mut raw).iter().map(|job| job["job_id"].clone()).collect();
        assert_eq!(left, jobs[jobs.len() - 4..], "{restart}: a fifth has no room");
        world.finish();
    }
}
