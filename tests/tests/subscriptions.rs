//! Subscriptions by filter, and replays of earlier events (RFC §13, §19).

use std::cmp::Ordering;
use std::time::Duration;

use arcp_proto::id::Principal;
use arcp_proto::runtime::{Input, Record};
use arcp_proto::wire::{Compat, Profile};
use arcp_tests::raw::{Raw, code};
use arcp_tests::world::{Options, World};
use serde_json::{Value, json};

/// Subscribes; gives the subscription's id.
fn subscribe(world: &mut World, raw: &mut Raw, payload: Value) -> Value {
    raw.send(world, "subscribe", payload);
    raw.expect(world, "subscribe.accepted")["payload"]["subscription_id"].clone()
}

/// The envelopes that were shown.
fn shown(frames: &[Value]) -> Vec<Value> {
    let events = frames.iter().filter(|frame| frame["type"] == "subscribe.event");
    events.map(|frame| frame["payload"]["event"].clone()).collect()
}

fn kinds(events: &[Value]) -> Vec<String> {
    let name = |event: &Value| match event["payload"]["name"].as_str() {
        Some("subscription.backfill_complete") => "boundary".to_string(),
        Some(_) | None => event["type"].as_str().expect("a type").to_string(),
    };
    events.iter().map(name).collect()
}

fn run(world: &mut World, raw: &mut Raw, agent: &str, input: Value) -> Value {
    let job = raw.invoke(world, json!({"tool": agent, "arguments": input}))["job_id"].clone();
    raw.until_end(world);
    job
}

#[test]
fn subscriptions_that_come_and_go_leave_little_in_the_store_and_none_has_the_id_of_another() {
    let mut world = World::seeded(90);
    let (mut raw, opened) = Raw::open(&mut world, "tok-a");
    let subscribe = |world: &mut World, raw: &mut Raw| {
        raw.send(world, "subscribe", json!({"filter": {}}));
        raw.expect(world, "subscribe.accepted")["payload"]["subscription_id"].clone()
    };
    let mut given = Vec::new();
    for _ in 0..20 {
        given.push(subscribe(&mut world, &mut raw));
        raw.send(&mut world, "unsubscribe", json!({"subscription_id": given.last()}));
        raw.expect(&mut world, "subscribe.closed");
    }
    let kept = world.store.records(true);
    let of_them =
        kept.iter().filter(|(_, record)| matches!(record, Record::Subscribed { .. } | Record::Unsubscribed { .. }));
    assert_eq!(of_them.count(), 1, "that so many were given");
    world.crash_with(world.given().count(), true);
    let mut raw = Raw::reclaim(&mut world, "tok-a", &opened, 0);
    raw.expect(&mut world, "session.resumed");
    assert!(!given.contains(&subscribe(&mut world, &mut raw)), "a new one has a new id");
    world.finish();
}

#[test]
fn the_past_then_the_boundary_then_what_comes_each_once() {
    let mut world = World::configured(1, |config| {
        config.limits.history.job_events = 16;
        config.limits.delivery.load_events = 7;
    });
    let (mut agent, opened) = Raw::open(&mut world, "tok-a");
    let job = run(&mut world, &mut agent, "chatty", json!({"count": 50}));
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    let id = subscribe(&mut world, &mut observer, json!({"filter": {}, "since": {}}));
    run(&mut world, &mut agent, "echo", json!(1));
    let frames = observer.settle(&mut world);
    assert!(frames.iter().all(|frame| frame["subscription_id"] == id));
    let seqs: Vec<u64> = frames.iter().filter_map(|frame| frame["event_seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "its own numbers, without a gap");
    let events = shown(&frames);
    let mut expected = vec!["job.accepted", "job.started"];
    expected.extend(["metric"; 50]);
    expected.extend(["job.completed", "boundary", "job.accepted", "job.started", "job.completed"]);
    assert_eq!(kinds(&events), expected);
    let metrics = events.iter().filter(|event| event["type"] == "metric");
    let ticks: Vec<u64> = metrics.filter_map(|event| event["payload"]["value"].as_u64()).collect();
    assert_eq!(ticks, (0..50).collect::<Vec<_>>());
    assert_eq!((&events[1]["session_id"], &events[1]["job_id"]), (&opened["session_id"], &job));
    world.finish();
}

#[test]
fn a_filter_has_a_bounded_number_of_entries() {
    let mut world = World::seeded(31);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    for (entries, answer) in [(64, "subscribe.accepted"), (65, "nack"), (200, "nack")] {
        let filter = json!({"job_id": (0..entries).map(|n| format!("job_{n}")).collect::<Vec<_>>()});
        raw.send(&mut world, "subscribe", json!({"filter": filter}));
        assert_eq!(raw.settle(&mut world)[0]["type"], answer, "{entries}");
    }
    world.finish();
}

#[test]
fn a_filter_is_met_by_all_its_conditions_and_any_of_a_list() {
    let mut world = World::seeded(2);
    let (mut one, first) = Raw::open(&mut world, "tok-a");
    let (mut two, _) = Raw::open(&mut world, "tok-a");
    let traced = json!({"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"});
    one.send_with(&mut world, "tool.invoke", json!({"tool": "thinker", "arguments": {"count": 2}}), traced);
    let thinking = one.expect(&mut world, "job.accepted")["job_id"].clone();
    one.until_end(&mut world);
    let echoed = run(&mut world, &mut two, "echo", json!(1));
    run(&mut world, &mut two, "failer", json!({}));
    let stream = json!(thinking.as_str().map(|job| job.replace("job_", "str_")));
    let session = &first["session_id"];
    let all = [3 + 2, 3, 2].iter().sum::<usize>() + 3;
    for (filter, expected) in [
        (
            json!({"session_id": [session]}),
            vec![
                "job.accepted",
                "job.started",
                "stream.open",
                "stream.chunk",
                "stream.chunk",
                "stream.close",
                "job.completed",
            ],
        ),
        (
            json!({"trace_id": ["4bf92f3577b34da6a3ce929d0e0e4736"], "types": ["stream.chunk", "log"]}),
            vec!["stream.chunk"; 2],
        ),
        (json!({"job_id": [echoed, thinking], "types": ["job.completed"]}), vec!["job.completed"; 2]),
        (json!({"stream_id": [stream]}), vec!["stream.open", "stream.chunk", "stream.chunk", "stream.close"]),
        (json!({"stream_id": [stream], "job_id": [echoed]}), vec![]),
        (json!({"types": ["stream.close"]}), vec!["stream.close"]),
        (json!({"min_priority": "critical"}), vec!["job.completed", "job.completed", "job.failed"]),
        (json!({"types": ["job.failed"], "session_id": [session]}), vec![]),
        (json!({"types": ["no.such.type"]}), vec![]),
        (json!({"job_id": ["not one of ours"]}), vec![]),
    ] {
        let (mut observer, _) = Raw::open(&mut world, "tok-a");
        subscribe(&mut world, &mut observer, json!({"filter": filter, "since": {}}));
        let mut seen = kinds(&shown(&observer.settle(&mut world)));
        assert_eq!(seen.pop().as_deref(), Some("boundary"));
        assert_eq!(seen, expected, "{filter}");
    }
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    subscribe(&mut world, &mut observer, json!({"filter": {}, "since": {}}));
    assert_eq!(shown(&observer.settle(&mut world)).len(), all + 1);
    world.finish();
}

#[test]
fn nobody_sees_others_jobs_or_its_own_copies() {
    let mut world = World::seeded(3);
    let (mut stranger, _) = Raw::open(&mut world, "tok-b");
    subscribe(&mut world, &mut stranger, json!({"filter": {}, "since": {}}));
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    let (mut hello, _) = Raw::hello(&mut world, "tok-a");
    subscribe(&mut world, &mut observer, json!({"filter": {}}));
    // Two of the same are two; neither shows what the other shows.
    subscribe(&mut world, &mut observer, json!({"filter": {}}));
    hello.submit(&mut world, json!({"agent": "echo", "input": 1}));
    hello.until_end(&mut world);
    assert_eq!(kinds(&shown(&stranger.settle(&mut world))), ["boundary"]);
    let kinds = kinds(&shown(&observer.settle(&mut world)));
    assert_eq!(kinds.len(), 6, "{kinds:?}");
    assert!(kinds.iter().all(|kind| kind != "subscribe.event"));
    world.finish();
}

/// A world where "c" may look at everybody's jobs.
fn audited(seed: u64) -> World {
    World::configured(seed, |config| config.auditors = [Principal::new("c").expect("a name")].into())
}

#[test]
fn an_auditor_is_shown_the_jobs_of_everybody() {
    for crash in [false, true] {
        let mut world = audited(13);
        let (mut a, _) = Raw::open(&mut world, "tok-a");
        let (mut b, _) = Raw::hello(&mut world, "tok-b");
        let job = run(&mut world, &mut a, "echo", json!(1));
        let (mut auditor, opened) = Raw::open(&mut world, "tok-c");
        let (mut other, _) = Raw::open(&mut world, "tok-b");
        subscribe(&mut world, &mut auditor, json!({"filter": {}, "since": {}}));
        subscribe(&mut world, &mut other, json!({"filter": {}, "since": {}}));
        if crash {
            let last = auditor.settle(&mut world).last().expect("the boundary")["event_seq"].clone();
            assert_eq!(last, 4);
            world.crash();
            let own = opened.clone();
            auditor = Raw::reclaim(&mut world, "tok-c", &own, 0);
            auditor.expect(&mut world, "session.resumed");
            b = Raw::hello(&mut world, "tok-b").0;
        }
        b.submit(&mut world, json!({"agent": "echo"}));
        b.until_end(&mut world);
        let events = shown(&auditor.settle(&mut world));
        let per_job = ["job.accepted", "job.started", "job.completed"];
        assert_eq!(kinds(&events), [&per_job[..], &["boundary"], &per_job[..]].concat(), "{crash}");
        assert_eq!(events[0]["job_id"], job);
        if !crash {
            let events = kinds(&shown(&other.settle(&mut world)));
            assert_eq!(events, [&["boundary"], &per_job[..]].concat(), "nobody else is");
        }
        world.finish();
    }
}

#[test]
fn who_is_no_auditor_any_more_after_a_restart_is_shown_nothing_new() {
    let mut world = audited(15);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let (mut auditor, opened) = Raw::open(&mut world, "tok-c");
    subscribe(&mut world, &mut auditor, json!({"filter": {}}));
    let job = owner.submit(&mut world, json!({"agent": "stepper", "input": {"steps": 50}}))["job_id"].clone();
    auditor.send(&mut world, "job.subscribe", json!({"job_id": job}));
    world.run_for(Duration::from_secs(2));
    let last = auditor.take(&world).iter().filter_map(|frame| frame["event_seq"].as_u64()).max();
    let last = last.expect("it watches and is shown");
    assert!(last > 30);
    world.configure(|config| config.auditors.clear());
    world.crash();
    let mut auditor = Raw::reclaim(&mut world, "tok-c", &opened, last);
    auditor.expect(&mut world, "session.resumed");
    world.run_for(Duration::from_secs(30));
    let numbered = auditor.take(&world).iter().filter(|frame| frame["event_seq"].is_u64()).count();
    assert!(numbered < 6, "{numbered}: no more than was on its way");
    assert_eq!(world.runtime().stats().unfinished_jobs, 0, "it went on");
    world.finish();
}

#[test]
fn an_auditor_lists_and_watches_every_job_and_changes_none() {
    let mut world = audited(14);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let (mut auditor, _) = Raw::hello(&mut world, "tok-c");
    auditor.send(&mut world, "session.list_jobs", json!({"limit": 1}));
    let page = auditor.expect(&mut world, "session.jobs");
    assert_eq!(page["payload"]["jobs"][0]["job_id"], job);
    auditor.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    auditor.expect(&mut world, "job.subscribed");
    auditor.send(&mut world, "job.cancel", json!({"job_id": job}));
    assert_eq!(code(&auditor.expect(&mut world, "session.error")), "PERMISSION_DENIED");
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    other.send(&mut world, "session.list_jobs", json!({}));
    assert_eq!(other.expect(&mut world, "session.jobs")["payload"]["jobs"], json!([]));
    owner.send(&mut world, "job.cancel", json!({"job_id": job}));
    assert_eq!(auditor.until_end(&mut world).last().expect("its end")["payload"]["code"], "CANCELLED");
    // Every page, of everybody, each job once.
    for token in ["tok-a", "tok-b", "tok-a"] {
        let (mut raw, _) = Raw::hello(&mut world, token);
        raw.submit(&mut world, json!({"agent": "echo"}));
        raw.until_end(&mut world);
    }
    let (mut listed, mut query) = (Vec::new(), json!({"limit": 1}));
    loop {
        auditor.send(&mut world, "session.list_jobs", query);
        let page = auditor.expect(&mut world, "session.jobs");
        listed.extend(page["payload"]["jobs"].as_array().expect("jobs").iter().map(|job| job["job_id"].to_string()));
        if page["payload"]["next_cursor"].is_null() {
            break;
        }
        query = json!({"limit": 1, "cursor": page["payload"]["next_cursor"]});
    }
    assert!(listed.len() == 4 && listed.is_sorted(), "{listed:?}");
    world.finish();
}

#[test]
fn what_came_after_a_message_is_shown_and_nothing_else() {
    let mut world = World::seeded(4);
    let (mut agent, _) = Raw::open(&mut world, "tok-a");
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    subscribe(&mut world, &mut observer, json!({"filter": {}}));
    agent.invoke(&mut world, json!({"tool": "chatty", "arguments": {"count": 20}}));
    let own = agent.until_end(&mut world);
    run(&mut world, &mut agent, "echo", json!(2));
    let copies = shown(&observer.settle(&mut world));
    // By the id of a copy, and by the id of the frame that it is a copy of.
    let tenth = copies.iter().find(|copy| copy["payload"]["value"] == 10).expect("the tenth");
    let frame = own.iter().find(|frame| frame["payload"]["value"] == 10).expect("the tenth");
    let rest: Vec<&Value> = copies.iter().skip_while(|copy| copy["id"] != tenth["id"]).skip(1).collect();
    for id in [&tenth["id"], &frame["id"]] {
        let (mut late, _) = Raw::open(&mut world, "tok-a");
        subscribe(&mut world, &mut late, json!({"filter": {}, "since": {"after_message_id": id}}));
        let mut again = shown(&late.settle(&mut world));
        assert_eq!(kinds(&again).last().map(String::as_str), Some("boundary"));
        again.pop();
        assert_eq!(again.iter().collect::<Vec<_>>(), rest, "the same copies");
    }
    let (mut late, _) = Raw::open(&mut world, "tok-a");
    for unknown in ["msg_01ARZ3NDEKTSV4RRFFQ69G5FAV", "m1"] {
        late.send(&mut world, "subscribe", json!({"filter": {}, "since": {"after_message_id": unknown}}));
        assert_eq!(code(&late.expect(&mut world, "nack")), "NOT_FOUND");
    }
    world.finish();
}

#[test]
fn within_a_millisecond_what_came_after_a_message_is_told_by_the_order_of_jobs() {
    let mut options = Options::new(24);
    options.latency = Duration::from_micros(1);
    let mut world = World::new(options);
    let (mut agent, _) = Raw::open(&mut world, "tok-a");
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    subscribe(&mut world, &mut observer, json!({"filter": {}}));
    let jobs = [0, 1].map(|_| run(&mut world, &mut agent, "chatty", json!({"count": 2})));
    assert!(world.now().mono.0 < 1000, "all within the first one");
    let copies = shown(&observer.settle(&mut world));
    for cut in copies.iter().filter(|copy| copy["payload"]["name"] != "subscription.backfill_complete") {
        let (mut late, _) = Raw::open(&mut world, "tok-a");
        subscribe(&mut world, &mut late, json!({"filter": {}, "since": {"after_message_id": cut["id"]}}));
        let mut again = shown(&late.settle(&mut world));
        again.pop();
        let of = |all: &[Value], job: &Value| -> Vec<Value> {
            all.iter().filter(|copy| copy["job_id"] == *job).cloned().collect()
        };
        for job in &jobs {
            let all = of(&copies, job);
            let expected = match job.as_str().cmp(&cut["job_id"].as_str()) {
                Ordering::Less => Vec::new(),
                Ordering::Equal => all.into_iter().skip_while(|copy| copy["id"] != cut["id"]).skip(1).collect(),
                Ordering::Greater => all,
            };
            assert_eq!(of(&again, job), expected, "{job} after {}", cut["id"]);
        }
        world.cut(late.conn);
    }
    world.finish();
}

#[test]
fn subscriptions_end_with_a_word_and_have_a_bound() {
    let mut world = World::configured(5, |config| config.limits.session.subscriptions_per_session = 2);
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    let id = subscribe(&mut world, &mut observer, json!({"filter": {}}));
    subscribe(&mut world, &mut observer, json!({"filter": {"types": ["job.failed"]}}));
    observer.send(&mut world, "subscribe", json!({"filter": {}}));
    assert_eq!(code(&observer.expect(&mut world, "nack")), "RESOURCE_EXHAUSTED");
    observer.send(&mut world, "unsubscribe", json!({"subscription_id": id}));
    assert_eq!(observer.expect(&mut world, "subscribe.closed")["payload"]["subscription_id"], id);
    observer.send(&mut world, "unsubscribe", json!({"subscription_id": id}));
    assert_eq!(code(&observer.expect(&mut world, "nack")), "NOT_FOUND");
    run(&mut world, &mut observer, "echo", json!(1));
    assert_eq!(shown(&observer.settle(&mut world)), Vec::<Value>::new());
    world.finish();
}

#[test]
fn subscriptions_of_one_principal_have_a_bound_and_so_has_the_past() {
    let mut world = World::configured(15, |config| {
        config.limits.session.subscriptions_per_principal = 2;
        config.limits.session.backfill_events = 50;
    });
    let (mut agent, _) = Raw::open(&mut world, "tok-a");
    for _ in 0..2 {
        run(&mut world, &mut agent, "chatty", json!({"count": 25}));
    }
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    observer.send(&mut world, "subscribe", json!({"filter": {}, "since": {}}));
    assert_eq!(code(&observer.expect(&mut world, "nack")), "RESOURCE_EXHAUSTED");
    for _ in 0..2 {
        let (mut observer, _) = Raw::open(&mut world, "tok-a");
        subscribe(&mut world, &mut observer, json!({"filter": {}}));
    }
    observer.send(&mut world, "subscribe", json!({"filter": {}}));
    assert_eq!(code(&observer.expect(&mut world, "nack")), "RESOURCE_EXHAUSTED");
    let (mut stranger, _) = Raw::open(&mut world, "tok-b");
    subscribe(&mut world, &mut stranger, json!({"filter": {}}));
    world.finish();
}

#[test]
fn the_past_may_be_as_long_as_its_bound() {
    let past = |bound: u64| {
        let mut world = World::configured(32, |config| config.limits.session.backfill_events = bound);
        let (mut agent, _) = Raw::open(&mut world, "tok-a");
        run(&mut world, &mut agent, "chatty", json!({"count": 25}));
        let (mut observer, _) = Raw::open(&mut world, "tok-a");
        observer.send(&mut world, "subscribe", json!({"filter": {}, "since": {}}));
        let frames = observer.settle(&mut world);
        world.finish();
        (frames[0]["type"] == "subscribe.accepted").then(|| shown(&frames).len() as u64 - 1)
    };
    let events = past(1000).expect("more than enough");
    assert_eq!((past(events), past(events - 1)), (Some(events), None));
}

#[test]
fn subscriptions_survive_a_lost_connection_and_a_restart() {
    for seed in 0..30 {
        let mut world = World::seeded(seed);
        let (mut agent, opened) = Raw::open(&mut world, "tok-a");
        let (mut observer, welcome) = Raw::open(&mut world, "tok-a");
        subscribe(&mut world, &mut observer, json!({"filter": {"types": ["metric", "job.completed"]}, "since": {}}));
        agent.invoke(&mut world, json!({"tool": "chatty", "arguments": {"count": 300}}));
        let steps = world.below(200);
        for _ in 0..steps {
            world.step();
        }
        let mut seen = observer.take(&world);
        world.crash();
        let last = seen.iter().filter_map(|frame| frame["event_seq"].as_u64()).max().unwrap_or(0);
        let mut back = Raw::reclaim(&mut world, "tok-a", &welcome, last);
        back.expect(&mut world, "session.resumed");
        let mut again = Raw::reclaim(&mut world, "tok-a", &opened, 0);
        again.expect_any(&mut world, &["session.resumed"]);
        run(&mut world, &mut again, "chatty", json!({"count": 3}));
        seen.extend(back.settle(&mut world));
        let seqs: Vec<u64> = seen.iter().filter_map(|frame| frame["event_seq"].as_u64()).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "seed {seed}");
        let ticks: Vec<u64> = shown(&seen).iter().filter_map(|copy| copy["payload"]["value"].as_u64()).collect();
        let before = ticks.len() - 3;
        let expected: Vec<u64> = (0..before as u64).chain(0..3).collect();
        assert_eq!(ticks, expected, "seed {seed}: what was before, and what came after");
        world.finish();
    }
}

#[test]
fn what_goes_on_after_a_restart_is_shown_on() {
    let mut world = World::seeded(11);
    let (mut agent, _) = Raw::open(&mut world, "tok-a");
    let (mut observer, welcome) = Raw::open(&mut world, "tok-a");
    subscribe(&mut world, &mut observer, json!({"filter": {"types": ["job.checkpoint", "job.completed"]}}));
    agent.invoke(&mut world, json!({"tool": "stepper", "arguments": {"steps": 10}}));
    world.run_for(Duration::from_millis(550));
    let mut seen = observer.take(&world);
    world.crash();
    let last = seen.iter().filter_map(|frame| frame["event_seq"].as_u64()).max().unwrap_or(0);
    let mut back = Raw::reclaim(&mut world, "tok-a", &welcome, last);
    back.expect(&mut world, "session.resumed");
    world.run_for(Duration::from_secs(3));
    seen.extend(back.take(&world));
    let labels: Vec<Value> = shown(&seen).iter().map(|copy| copy["payload"]["label"].clone()).collect();
    assert_eq!(labels.first(), Some(&json!("step 1")));
    assert!(labels.contains(&json!("step 10")), "{labels:?}");
    world.finish();
}

#[test]
fn a_stream_that_a_subscription_saw_open_is_opened_for_a_watcher() {
    let mut world = World::seeded(16);
    let (mut agent, _) = Raw::open(&mut world, "tok-a");
    let (mut observer, welcome) = Raw::open(&mut world, "tok-a");
    let id = subscribe(&mut world, &mut observer, json!({"filter": {}}));
    let job = agent.invoke(&mut world, json!({"tool": "ponderer", "arguments": {"count": 2}}))["job_id"].clone();
    world.run_for(Duration::from_secs(1));
    observer.send(&mut world, "unsubscribe", json!({"subscription_id": id}));
    observer.expect(&mut world, "subscribe.closed");
    // And what it watched and left.
    observer.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    observer.expect(&mut world, "stream.open");
    observer.send(&mut world, "job.unsubscribe", json!({"job_id": job}));
    world.settle();
    world.crash_with(world.given().count(), true);
    let mut back = Raw::reclaim(&mut world, "tok-a", &welcome, 9);
    back.expect(&mut world, "session.resumed");
    back.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    let kinds = kinds(&back.until_end(&mut world));
    assert!(kinds.contains(&"stream.open".to_string()) && kinds.contains(&"stream.close".to_string()), "{kinds:?}");
    world.finish();
}

#[test]
fn a_job_that_is_shown_can_be_watched_as_well() {
    let mut world = World::seeded(12);
    let (mut agent, _) = Raw::open(&mut world, "tok-a");
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    subscribe(&mut world, &mut observer, json!({"filter": {}}));
    let job = run(&mut world, &mut agent, "chatty", json!({"count": 5}));
    assert_eq!(shown(&observer.settle(&mut world)).len(), 8);
    observer.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    let frames = observer.until_end(&mut world);
    assert_eq!(frames.iter().filter(|frame| frame["type"] == "metric").count(), 5);
    world.finish();
}

#[test]
fn a_word_about_the_reader_keeps_its_number_over_a_restart() {
    let mut world = World::configured(13, |config| config.limits.delivery.ack_lag = 10);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "ponderer", "input": {"count": 10}}));
    world.run_for(Duration::from_secs(1));
    let frames = raw.take(&world);
    let last = frames.last().expect("a word");
    assert_eq!((&last["event_seq"], &last["payload"]["body"]["phase"]), (&json!(12), &json!("back_pressure")));
    world.crash_with(world.given().count(), false);
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 11);
    back.expect(&mut world, "session.welcome");
    let again = back.settle(&mut world);
    assert_eq!(&again[0], last);
    assert_eq!(again.len(), 2, "and the end");
    world.finish();
}

#[test]
fn who_reads_too_slowly_is_told_then_let_go_with_a_reason() {
    let mut world = World::configured(6, |config| {
        config.limits.delivery.watch_lag = 200;
        config.timing.heartbeat = None;
        config.timing.slow_reader_grace = Duration::from_secs(100);
    });
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    let id = subscribe(&mut world, &mut observer, json!({"filter": {}}));
    let job = owner.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 600}}))["job_id"].clone();
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job}));
    watcher.expect(&mut world, "job.subscribed");
    for raw in [&watcher, &observer] {
        world.stall(raw.conn, true);
    }
    world.run_for(Duration::from_secs(50));
    for raw in [&watcher, &observer] {
        world.stall(raw.conn, false);
    }
    world.run_for(Duration::from_secs(15));
    owner.until_end(&mut world);
    let frames = watcher.settle(&mut world);
    let phases: Vec<&Value> =
        frames.iter().map(|frame| &frame["payload"]["body"]["phase"]).filter(|p| p.is_string()).collect();
    assert_eq!(phases.last(), Some(&&json!("detached")));
    assert!(phases.contains(&&json!("back_pressure")), "{phases:?}");
    assert_eq!(
        frames.last().map(|frame| &frame["payload"]["body"]["phase"]),
        Some(&json!("detached")),
        "nothing follows"
    );
    // It may come back for the rest.
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    assert_eq!(watcher.until_end(&mut world).last().map(|end| &end["type"]), Some(&json!("job.result")));
    let frames = observer.settle(&mut world);
    let closed = frames.last().expect("a word");
    assert_eq!((&closed["type"], &closed["payload"]["subscription_id"]), (&json!("subscribe.closed"), &id));
    assert_eq!(code(closed), "BACKPRESSURE_OVERFLOW");
    world.finish();
}

#[test]
fn a_word_about_the_reader_outlives_the_job_that_it_is_about() {
    let window = Duration::from_secs(60);
    let mut world = World::configured(31, |config| {
        config.limits.delivery.watch_lag = 200;
        config.timing.heartbeat = None;
        config.timing.slow_reader_grace = Duration::from_secs(100);
        config.timing.resume_window = window;
    });
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let (mut watcher, welcome) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 600}}))["job_id"].clone();
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job}));
    watcher.expect(&mut world, "job.subscribed");
    world.stall(watcher.conn, true);
    world.run_for(Duration::from_secs(50));
    world.stall(watcher.conn, false);
    world.run_for(Duration::from_secs(15));
    let word = watcher.settle(&mut world).pop().expect("a word");
    assert_eq!(word["payload"]["body"]["phase"], "detached");
    let before = word["event_seq"].as_u64().expect("a number") - 1;
    watcher.send(&mut world, "session.ack", json!({"last_processed_seq": before}));
    let end = owner.until_end(&mut world).pop().expect("the end");
    owner.send(&mut world, "session.ack", json!({"last_processed_seq": end["event_seq"]}));
    world.run_for(window + Duration::from_secs(1));
    assert_eq!(world.runtime().stats().jobs, 0, "nothing of the job is owed to anybody");
    world.restores();
    world.input(Input::Closed { conn: watcher.conn });
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, before);
    back.expect(&mut world, "session.welcome");
    assert_eq!(back.settle(&mut world), [word]);
    world.finish();
}

#[test]
fn who_has_much_to_catch_up_with_is_not_taken_for_slow() {
    let mut world = World::configured(17, |config| {
        config.limits.delivery.watch_lag = 200;
        config.limits.delivery.ack_lag = 200;
        config.timing.heartbeat = None;
    });
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 600}}))["job_id"].clone();
    world.run_for(Duration::from_secs(50));
    owner.send(&mut world, "session.ack", json!({"last_processed_seq": 490}));
    let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    observer.send(&mut world, "subscribe", json!({"filter": {}, "since": {}}));
    // Both have half a thousand frames to read, and new ones come meanwhile.
    for raw in [&watcher, &observer] {
        world.stall(raw.conn, true);
    }
    world.run_for(Duration::from_secs(9));
    for raw in [&watcher, &observer] {
        world.stall(raw.conn, false);
    }
    world.run_for(Duration::from_secs(5));
    let frames = watcher.take(&world);
    assert!(frames.iter().all(|frame| !frame["payload"]["body"]["phase"].to_string().contains("back_pressure")));
    assert!(frames.iter().all(|frame| frame["payload"]["body"]["phase"] != "detached"));
    assert_eq!(frames.last().map(|end| &end["type"]), Some(&json!("job.result")));
    assert!(observer.take(&world).iter().all(|frame| frame["type"] != "subscribe.closed"));
    world.finish();
}

#[test]
fn who_acknowledges_too_little_is_told_once_until_it_has_caught_up() {
    let mut world = World::configured(7, |config| config.limits.delivery.ack_lag = 50);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 400}}));
    let told = |world: &mut World, raw: &mut Raw, seconds: u64| {
        world.run_for(Duration::from_secs(seconds));
        let frames = raw.take(world);
        let phase = |frame: &&Value| frame["payload"]["body"]["phase"] == "back_pressure";
        (frames.iter().filter(phase).count(), frames.iter().filter_map(|f| f["event_seq"].as_u64()).max())
    };
    assert_eq!(told(&mut world, &mut raw, 4).0, 0);
    let (count, last) = told(&mut world, &mut raw, 9);
    assert_eq!(count, 1);
    raw.send(&mut world, "session.ack", json!({"last_processed_seq": last}));
    assert_eq!(told(&mut world, &mut raw, 4).0, 0);
    assert_eq!(told(&mut world, &mut raw, 9).0, 1, "and once more");
    raw.until_end(&mut world);
    world.finish();
    // Who is known never to acknowledge is not told of it.
    for (profile, expected) in [(Profile::Go11, 1), (Profile::Python113, 0)] {
        let mut world = World::configured(14, |config| {
            config.limits.delivery.ack_lag = 50;
            config.compat = Compat::Always(profile);
        });
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 200}}));
        assert_eq!(told(&mut world, &mut raw, 2).0, expected, "{profile:?}");
        world.finish();
    }
}

#[test]
fn a_stream_is_paced_for_real() {
    let mut world = World::configured(8, |config| config.limits.delivery.agent_credit = 8);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    let job = raw.invoke(&mut world, json!({"tool": "thinker", "arguments": {"count": 1000}}))["job_id"].clone();
    let stream = job.as_str().expect("a job").replace("job_", "str_");
    let pace = |world: &mut World, raw: &mut Raw, rate: Value| {
        raw.send_with(world, "backpressure", json!({"desired_rate_per_second": rate}), json!({"stream_id": stream}));
    };
    let thoughts = |world: &mut World, raw: &mut Raw, seconds: u64| {
        world.run_for(Duration::from_secs(seconds));
        raw.take(world).iter().filter(|frame| frame["type"] == "stream.chunk").count()
    };
    pace(&mut world, &mut raw, json!(20));
    // What the agent had leave for already comes at once.
    thoughts(&mut world, &mut raw, 1);
    let slow = thoughts(&mut world, &mut raw, 10);
    assert!((195..=205).contains(&slow), "{slow}");
    pace(&mut world, &mut raw, json!(0.5));
    thoughts(&mut world, &mut raw, 10);
    let slower = thoughts(&mut world, &mut raw, 20);
    assert!((9..=11).contains(&slower), "{slower}");
    let (mut other, _) = Raw::open(&mut world, "tok-a");
    pace(&mut world, &mut other, json!(1));
    assert_eq!(code(&other.expect(&mut world, "nack")), "PERMISSION_DENIED");
    pace(&mut world, &mut raw, json!(0));
    assert_eq!(code(&raw.expect(&mut world, "nack")), "INVALID_ARGUMENT");
    pace(&mut world, &mut raw, Value::Null);
    let end = raw.until_end(&mut world).pop().expect("an end");
    assert_eq!(end["type"], "job.completed");
    world.finish();
}

#[test]
fn what_was_sent_is_sent_once_more_after_a_message() {
    let mut world = World::configured(9, |config| config.limits.history.job_events = 16);
    let (mut raw, opened) = Raw::open(&mut world, "tok-a");
    raw.invoke(&mut world, json!({"tool": "thinker", "arguments": {"count": 40}}));
    raw.until_end(&mut world);
    raw.send(&mut world, "tool.invoke", json!({"tool": "waiter", "arguments": {}}));
    world.settle();
    let seen: Vec<Value> =
        world.frames_of(raw.conn).iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    let seen: Vec<Value> = seen.into_iter().filter(|frame: &Value| frame["event_seq"].is_u64()).collect();
    raw.take(&world);
    raw.send(&mut world, "resume", json!({"after_message_id": seen[9]["id"]}));
    let mut again = raw.settle(&mut world);
    let done = again.pop().expect("an answer");
    assert_eq!(
        (&done["type"], &done["payload"]["detail"]),
        (&json!("ack"), &json!(format!("resume complete: {} events", seen.len() - 10)))
    );
    assert_eq!(again, seen[10..], "byte for byte");
    // From another session of the same principal, and from nobody else's.
    world.cut(raw.conn);
    let (mut later, _) = Raw::open(&mut world, "tok-a");
    let ask = |world: &mut World, raw: &mut Raw, id: &Value| {
        raw.send_with(world, "resume", json!({"after_message_id": id}), json!({"session_id": opened["session_id"]}));
    };
    ask(&mut world, &mut later, &seen[9]["id"]);
    let mut again = later.settle(&mut world);
    assert_eq!(again.pop().map(|done| done["type"].clone()), Some(json!("ack")));
    assert_eq!(again, seen[10..]);
    let (mut stranger, _) = Raw::open(&mut world, "tok-b");
    ask(&mut world, &mut stranger, &seen[9]["id"]);
    assert_eq!(code(&stranger.expect(&mut world, "nack")), "DATA_LOSS");
    later.send(&mut world, "resume", json!({"after_message_id": "msg_01ARZ3NDEKTSV4RRFFQ69G5FAV"}));
    assert_eq!(code(&later.expect(&mut world, "nack")), "DATA_LOSS");
    later.send(&mut world, "resume", json!({"after_message_id": seen[9]["id"], "checkpoint_id": "chk_1"}));
    assert_eq!(code(&later.expect(&mut world, "nack")), "DATA_LOSS", "there is no such checkpoint");
    world.finish();
}

#[test]
fn streams_that_are_open_are_opened_again_if_that_is_asked_for() {
    let mut world = World::configured(10, |config| config.limits.delivery.agent_credit = 4);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    raw.invoke(&mut world, json!({"tool": "ponderer"}));
    world.run_for(Duration::from_secs(2));
    let seen: Vec<Value> =
        world.frames_of(raw.conn).iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    let opening = seen.iter().find(|frame| frame["type"] == "stream.open").expect("a stream").clone();
    let chunk = seen.iter().rfind(|frame| frame["type"] == "stream.chunk").expect("a thought").clone();
    raw.take(&world);
    for (include, expected) in [(true, vec![opening]), (false, vec![])] {
        raw.send(&mut world, "resume", json!({"after_message_id": chunk["id"], "include_open_streams": include}));
        let mut again = raw.settle(&mut world);
        again.pop();
        assert_eq!(again, expected);
    }
    world.finish();
}

/// The metrics that a subscription showed.
fn metrics(frames: &[Value]) -> Vec<u64> {
    shown(frames).iter().filter_map(|event| event["payload"]["value"].as_u64()).collect()
}

#[test]
fn nothing_after_a_message_that_is_of_no_event_is_missed() {
    let mut world = World::configured(21, |config| config.limits.delivery.ack_lag = 2);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    run(&mut world, &mut raw, "chatty", json!({"count": 10}));
    let frames: Vec<Value> =
        world.frames_of(raw.conn).iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    let at = frames.iter().position(|frame| frame["payload"]["phase"] == "back_pressure").expect("it is told");
    let after = frames[at..].iter().find_map(|frame| frame["payload"]["value"].as_u64()).expect("a metric after it");
    let since = json!({"after_message_id": frames[at]["id"]});
    subscribe(&mut world, &mut raw, json!({"filter": {"types": ["metric"]}, "since": since}));
    assert_eq!(metrics(&raw.settle(&mut world)), (after..10).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn the_event_whose_stream_a_message_opened_comes_after_it() {
    let mut world = World::seeded(22);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    let (mut observer, _) = Raw::open(&mut world, "tok-a");
    subscribe(&mut world, &mut observer, json!({"filter": {}}));
    run(&mut world, &mut raw, "thinker", json!({"count": 3}));
    let copies = shown(&observer.settle(&mut world));
    let own: Vec<Value> =
        world.frames_of(raw.conn).iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    for opened in [&copies, &own] {
        let opened = opened.iter().find(|frame| frame["type"] == "stream.open").expect("a stream");
        let (mut late, _) = Raw::open(&mut world, "tok-a");
        let since = json!({"after_message_id": opened["id"]});
        subscribe(&mut world, &mut late, json!({"filter": {"types": ["stream.chunk"]}, "since": since}));
        assert_eq!(shown(&late.settle(&mut world)).len(), 3 + 1, "three chunks and the boundary");
    }
    world.finish();
}

#[test]
fn a_subscription_after_a_message_whose_successors_are_gone_is_refused() {
    let mut world = World::configured(23, |config| config.limits.history.kept_job_events = 32);
    let (mut raw, _) = Raw::open(&mut world, "tok-a");
    let before = run(&mut world, &mut raw, "echo", json!(1));
    run(&mut world, &mut raw, "chatty", json!({"count": 100}));
    let frames: Vec<Value> =
        world.frames_of(raw.conn).iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    let metric =
        |value: u64| frames.iter().find(|frame| frame["payload"]["value"] == value).expect("it was sent")["id"].clone();
    let end =
        frames.iter().find(|frame| frame["type"] == "job.completed" && frame["job_id"] == before).expect("an end");
    for lost in [metric(0), end["id"].clone()] {
        raw.send(&mut world, "subscribe", json!({"filter": {}, "since": {"after_message_id": lost}}));
        assert_eq!(code(&raw.expect_any(&mut world, &["nack", "subscribe.accepted"])), "DATA_LOSS");
    }
    let filter = json!({"types": ["metric"]});
    subscribe(&mut world, &mut raw, json!({"filter": filter, "since": {"after_message_id": metric(90)}}));
    assert_eq!(metrics(&raw.settle(&mut world)), (91..100).collect::<Vec<_>>());
    world.finish();
}
