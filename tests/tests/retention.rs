//! How long events of a running job are kept: until they are acknowledged and the resume window has passed.

use std::time::Duration;

use arcp_tests::raw::{Raw, code};
use arcp_tests::world::World;
use serde_json::{Value, json};

/// Ten events a second, for longer than anybody looks.
const ENDLESS: u64 = 11_000;
const WINDOW: Duration = Duration::from_secs(100);

fn world(seed: u64, history: bool) -> World {
    World::configured(seed, |config| {
        config.history = history;
        config.timing.heartbeat = None;
        config.timing.resume_window = WINDOW;
    })
}

fn seqs(frames: &[Value]) -> Vec<u64> {
    frames.iter().filter_map(|frame| frame["event_seq"].as_u64()).collect()
}

/// Lets time pass while a client acknowledges what it gets, but for what came
/// after `most`.
fn pass(world: &mut World, raw: &mut Raw, seconds: u64, most: u64) -> u64 {
    let mut seen = 0;
    for _ in 0..seconds / 5 {
        world.run_for(Duration::from_secs(5));
        seen = seqs(&raw.take(world)).last().copied().unwrap_or(seen);
        raw.send(world, "session.ack", json!({"last_processed_seq": seen.min(most)}));
    }
    seen
}

/// From which event on a watcher gets the history.
fn first_kept(world: &mut World, job: &Value) -> u64 {
    let (mut watcher, _) = Raw::hello(world, "tok-a");
    watcher.send(world, "job.subscribe", json!({"job_id": job, "history": true}));
    let answer = watcher.expect_any(world, &["session.error", "job.subscribed"]);
    if answer["type"] == "job.subscribed" {
        leave(world, &mut watcher);
        return 1;
    }
    assert_eq!(code(&answer), "RESUME_WINDOW_EXPIRED");
    let from = answer["payload"]["details"]["from_event_seq"].as_u64().expect("it is said what can be asked for");
    watcher.send(world, "job.subscribe", json!({"job_id": job, "from_event_seq": from - 1}));
    assert_eq!(code(&watcher.expect(world, "session.error")), "RESUME_WINDOW_EXPIRED");
    watcher.send(world, "job.subscribe", json!({"job_id": job, "from_event_seq": from}));
    watcher.expect(world, "job.subscribed");
    world.run_for(Duration::from_secs(1));
    let last = seqs(&watcher.take(world)).last().copied().expect("there is something");
    watcher.send(world, "session.list_jobs", json!({}));
    let listed = watcher.expect(world, "session.jobs")["payload"]["jobs"][0]["last_event_seq"].as_u64();
    assert!(listed.is_some_and(|count| count.abs_diff(from + last) <= 1), "{listed:?} {from} {last}");
    leave(world, &mut watcher);
    from + 1
}

/// Leaves for good: its session is over once the window is.
fn leave(world: &mut World, raw: &mut Raw) {
    raw.send(world, "session.bye", json!({}));
    while !raw.is_closed(world) {
        assert!(world.step());
    }
}

#[test]
fn acknowledged_events_past_the_resume_window_go_while_their_job_goes_on() {
    for (history, restarts) in [(true, None), (true, Some(false)), (true, Some(true)), (false, None)] {
        let mut world = world(1, history);
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        let job = raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": ENDLESS}}))["job_id"].clone();
        // A second group of events has begun, the first one is too young.
        pass(&mut world, &mut raw, 190, u64::MAX);
        assert_eq!(first_kept(&mut world, &job), 1);
        let full = world.runtime().stats().kept_event_bytes;
        pass(&mut world, &mut raw, 150, u64::MAX);
        let first = first_kept(&mut world, &job);
        assert!(first > 1000 && first < 2400, "{first}: what is younger than the window is kept");
        let kept = world.runtime().stats().kept_event_bytes;
        pass(&mut world, &mut raw, 500, u64::MAX);
        let steady = world.runtime().stats().kept_event_bytes;
        assert!(steady < full * 3 / 2 && kept < full * 3 / 2, "{full} {kept} {steady}: it does not grow");
        if let Some(compact) = restarts {
            world.crash_with(world.given().count(), compact);
            let after = first_kept(&mut world, &job);
            assert!(after > first, "{first} {after}");
        }
        world.finish();
    }
}

#[test]
fn one_bad_reading_of_the_wall_clock_lets_no_event_go() {
    for history in [true, false] {
        let mut world = World::configured(9, |config| {
            config.history = history;
            config.timing.heartbeat = None;
            config.timing.resume_window = WINDOW;
            // Sixteen go at once.
            config.limits.history.kept_job_events = 16 << 10;
        });
        let (mut raw, _) = Raw::hello(&mut world, "tok-a");
        let job = raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": ENDLESS}}))["job_id"].clone();
        pass(&mut world, &mut raw, 30, u64::MAX);
        world.set_clock(86_400_000);
        pass(&mut world, &mut raw, 30, u64::MAX);
        world.set_clock(0);
        assert_eq!(first_kept(&mut world, &job), 1, "{history}: what was acknowledged just now is kept");
        pass(&mut world, &mut raw, 150, u64::MAX);
        assert!(first_kept(&mut world, &job) > 1, "{history}: its window is over");
        world.finish();
    }
}

#[test]
fn events_that_were_not_acknowledged_are_kept_whatever_the_time() {
    for history in [true, false] {
        let mut world = world(2, history);
        let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
        let job = raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": ENDLESS}}))["job_id"].clone();
        let seen = pass(&mut world, &mut raw, 500, 1500);
        assert!(seen > 4800, "{seen}");
        let first = first_kept(&mut world, &job);
        assert!((1000..=1500).contains(&first), "{first}: what was acknowledged is gone, and no more");
        world.cut(raw.conn);
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, 1500);
        back.expect(&mut world, "session.welcome");
        world.run_for(Duration::from_secs(1));
        let frames = seqs(&back.take(&world));
        assert!(frames.iter().copied().eq(1501..1501 + frames.len() as u64) && frames.len() > 3300);
        world.finish();
    }
}

#[test]
fn a_subscription_keeps_what_it_is_owed_and_nobody_keeps_nothing() {
    let mut world = world(3, true);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    open.send(&mut world, "subscribe", json!({"filter": {}}));
    open.expect(&mut world, "subscribe.accepted");
    let job = raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": ENDLESS}}))["job_id"].clone();
    pass(&mut world, &mut raw, 400, u64::MAX);
    assert_eq!(first_kept(&mut world, &job), 1, "the subscriber has acknowledged nothing");
    world.cut(open.conn);
    pass(&mut world, &mut raw, 130, u64::MAX);
    assert!(first_kept(&mut world, &job) > 3000, "its session is over");
    world.cut(raw.conn);
    world.run_for(Duration::from_secs(300));
    assert!(first_kept(&mut world, &job) > 6000, "and so are all sessions, but not the job");
    world.finish();
}

#[test]
fn acknowledged_events_are_let_go_from_memory_early() {
    let mut world = World::configured(4, |config| config.timing.heartbeat = None);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let job = raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": ENDLESS}}))["job_id"].clone();
    pass(&mut world, &mut raw, 330, 2000);
    let stats = world.runtime().stats();
    let (held, kept) = (stats.event_bytes as u64, stats.kept_event_bytes);
    assert!(held < kept * 2 / 3 && held > kept / 4, "{held} {kept}: two of three thousand were acknowledged");
    let (mut watcher, _) = Raw::hello(&mut world, "tok-a");
    watcher.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
    watcher.expect(&mut world, "job.subscribed");
    world.run_for(Duration::from_secs(60));
    let frames = seqs(&watcher.take(&world));
    assert!(frames.len() > 3000 && frames[0] == 1, "the store has them: {frames:?}");
    world.finish();
}

#[test]
fn what_came_after_a_message_is_known_though_memory_has_let_it_go() {
    let mut world = World::configured(6, |config| config.timing.heartbeat = None);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "slow", "input": {"ticks": ENDLESS}}));
    pass(&mut world, &mut raw, 100, u64::MAX);
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    open.invoke(&mut world, json!({"tool": "echo", "arguments": 1}));
    let before = pass(&mut world, &mut raw, 5, u64::MAX);
    let last = open.take(&world).last().expect("its end")["id"].clone();
    pass(&mut world, &mut raw, 300, u64::MAX);
    let stats = world.runtime().stats();
    assert!((stats.event_bytes as u64) < stats.kept_event_bytes / 2, "{stats:?}");
    open.send(&mut world, "subscribe", json!({"filter": {}, "since": {"after_message_id": last}}));
    open.expect(&mut world, "subscribe.accepted");
    world.run_for(Duration::from_secs(60));
    let frames = open.take(&world);
    let shown = |frame: &Value| frame["payload"]["event"]["payload"]["current"].as_u64();
    let ticks: Vec<u64> = frames.iter().filter_map(shown).collect();
    let first = ticks.first().copied().expect("there is something");
    assert!(first.abs_diff(before) < 55, "{first} {before}");
    assert!(ticks.iter().copied().eq(first..first + ticks.len() as u64) && ticks.len() > 3000);
    world.finish();
}

/// A world in which a job's first events soon go.
fn hasty(seed: u64, window: u64) -> World {
    World::configured(seed, |config| {
        config.timing.heartbeat = None;
        config.timing.resume_window = Duration::from_secs(window);
        config.limits.history.kept_job_events = 64;
        config.limits.job.running_jobs = 1;
    })
}

#[test]
fn a_job_whose_start_is_no_longer_kept_is_not_started_again() {
    for compact in [true, false] {
        let mut world = hasty(7, 20);
        let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
        // It waits for its turn, and says in no acceptance that it starts.
        raw.submit(&mut world, json!({"agent": "slow"}));
        raw.submit(&mut world, json!({"agent": "ponderer", "input": {"count": 40}}));
        let seen = pass(&mut world, &mut raw, 60, u64::MAX);
        let job = raw.submit(&mut world, json!({"agent": "echo"}))["job_id"].clone();
        assert!(first_kept(&mut world, &job) == 1);
        world.crash_with(world.given().count(), compact);
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, seen);
        back.expect(&mut world, "session.welcome");
        let lost = back.expect_any(&mut world, &["job.error", "job.result"]);
        assert_eq!((code(&lost), &lost["payload"]["retryable"]), ("INTERNAL_ERROR", &json!(true)), "{compact} {lost}");
        world.finish();
    }
}

#[test]
fn a_time_limit_counts_from_a_start_that_is_no_longer_kept() {
    for compact in [true, false] {
        let mut world = hasty(8, 2);
        let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
        let submit = json!({"agent": "stepper", "input": {"steps": 200}, "max_runtime_sec": 15});
        let job = raw.submit(&mut world, submit)["job_id"].clone();
        let seen = pass(&mut world, &mut raw, 10, u64::MAX);
        assert!(first_kept(&mut world, &job) > 16);
        world.crash_with(world.given().count(), compact);
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, seen);
        back.expect(&mut world, "session.welcome");
        let ended = back.until_end(&mut world).pop().expect("its end");
        assert_eq!(code(&ended), "TIMEOUT", "{ended}");
        world.finish();
    }
}

#[test]
fn a_talkative_job_that_is_acknowledged_as_it_goes_holds_little() {
    let mut world = World::seeded(5);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    raw.submit(&mut world, json!({"agent": "chatty", "input": {"count": 20_000}}));
    let (mut seen, mut most) = (0, 0);
    while seen < 20_000 {
        assert!(world.step());
        let frames = seqs(&raw.take(&world));
        if frames.iter().any(|seq| seq % 100 == 0) {
            raw.send(&mut world, "session.ack", json!({"last_processed_seq": seen}));
        }
        seen = frames.last().copied().unwrap_or(seen);
        most = most.max(world.runtime().stats().event_bytes);
    }
    let all = world.runtime().stats().kept_event_bytes;
    assert!(most as u64 * 5 < all, "{most} of {all}");
    world.finish();
}
