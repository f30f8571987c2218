//! Operators: which sessions and jobs of others they may end.

use std::time::Duration;

use arcp_proto::client::{ClientConfig, ClientEvent, SessionEnd};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::{JobId, Principal, SessionId, WireId};
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::job::{FinalStatus, JobStatus};
use arcp_proto::model::request::{Credential, ListQuery, Submit};
use arcp_proto::runtime::{CloseReason, Input, Notice, Operator, Record, Transport};
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, code, hello_payload, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn world(seed: u64) -> World {
    World::configured(seed, |config| {
        config.operators = [Principal::new("boss").expect("a name")].into();
        config.auditors = [Principal::new("clerk").expect("a name")].into();
    })
}

fn session_of(opened: &Value) -> SessionId {
    opened["payload"]["session_id"].as_str().expect("an id").parse().expect("a session's id")
}

fn id_of(job: &Value) -> JobId {
    JobId::parse(job.as_str().expect("an id")).expect("a job's id")
}

#[test]
fn an_operator_principal_cancels_the_job_of_another_and_an_auditor_does_not() {
    let mut world = world(1);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let (mut clerk, _) = Raw::hello(&mut world, "tok-clerk");
    clerk.send(&mut world, "job.cancel", json!({"job_id": job}));
    assert_eq!(code(&clerk.expect(&mut world, "session.error")), "PERMISSION_DENIED");
    let (mut boss, _) = Raw::hello(&mut world, "tok-boss");
    boss.send(&mut world, "session.list_jobs", json!({}));
    let page = boss.expect(&mut world, "session.jobs");
    assert_eq!(page["payload"]["jobs"][0]["job_id"], job);
    boss.send(&mut world, "job.cancel", json!({"job_id": job, "reason": "maintenance"}));
    boss.expect(&mut world, "job.cancelled");
    let frames = owner.until_end(&mut world);
    assert_eq!(frames.last().expect("an end")["payload"]["final_status"], "cancelled");
    world.finish();
}

#[test]
fn the_operator_of_the_program_ends_a_job_that_does_not_want_to() {
    let mut world = world(2);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "stubborn"}))["job_id"].clone();
    world.settle();
    let cancel = Operator::CancelJob { job: id_of(&job), reason: Some("maintenance".into()) };
    world.input(Input::Operator(cancel.clone()));
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.runtime().stats().running_agents, 1, "it has its grace");
    world.run_for(Duration::from_secs(2));
    let frames = owner.take(&world);
    let end = frames.last().expect("an end");
    assert_eq!(end["payload"]["final_status"], "cancelled");
    assert_eq!(world.runtime().stats().running_agents, 0);
    world.input(Input::Operator(cancel));
    owner.submit(&mut world, json!({"agent": "echo"}));
    assert_eq!(owner.until_end(&mut world).last().expect("an end")["payload"]["final_status"], "success");
    world.finish();
}

#[test]
fn a_job_that_an_operator_cancelled_does_not_start_after_a_crash() {
    let mut world = world(3);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    owner.submit(&mut world, json!({"agent": "stepper", "input": {"steps": 100}}));
    world.run_for(Duration::from_secs(1));
    let running = world.started.len();
    let job = owner.take(&world).iter().rev().find_map(|f| f["job_id"].as_str().map(|id| json!(id))).expect("a job");
    world.input(Input::Operator(Operator::CancelJob { job: id_of(&job), reason: None }));
    world.crash_with(1, true);
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.started.len(), running, "it ends as cancelled");
    assert_eq!(world.runtime().stats().unfinished_jobs, 0);
    world.finish();
}

/// Submits a job that waits to be cancelled, by our client.
fn submit_waiter(world: &mut World, client: usize) -> WireId {
    let waiter = Submit::new(AgentRef::parse("waiter").expect("a name"));
    world.until(client, |event| matches!(event, ClientEvent::Accepted { .. }));
    let given = world.command(client, |c| c.session().and_then(|mut s| s.submit(waiter))).expect("given");
    let own = |event: &ClientEvent| matches!(event, ClientEvent::Submitted { handle, .. } if *handle == given);
    let submitted = world.until(client, own);
    let ClientEvent::Submitted { accepted, .. } = submitted else { panic!("{submitted:?}") };
    accepted.job
}

fn cancel(world: &mut World, client: usize, job: &WireId) -> ClientEvent {
    world.until(client, |event| matches!(event, ClientEvent::Accepted { .. }));
    world.command(client, |c| c.session().and_then(|mut session| session.cancel(job.clone(), None))).expect("given");
    let told = |event: &ClientEvent| matches!(event, ClientEvent::CancelTaken { .. } | ClientEvent::Refused { .. });
    world.until(client, told)
}

#[test]
fn another_session_of_our_client_cancels_the_job_of_its_principal_and_of_nobody_else() {
    for family in [Family::Hello, Family::Open] {
        let mut world = World::of(family, 4);
        let terminal = world.add_client("a");
        let job = submit_waiter(&mut world, terminal);
        let stranger = world.add_client("b");
        let refused = cancel(&mut world, stranger, &job);
        let ClientEvent::Refused { refusal, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(refusal.code, ErrorCode::JobNotFound);
        let elsewhere = world.add_client("a");
        let taken = cancel(&mut world, elsewhere, &job);
        assert!(matches!(taken, ClientEvent::CancelTaken { .. }), "{taken:?}");
        let end = world.until(terminal, |event| matches!(event, ClientEvent::JobEnded { .. }));
        let ClientEvent::JobEnded { terminal: end, .. } = end else { panic!("{end:?}") };
        assert_eq!(end.status, FinalStatus::Cancelled);
        world.finish();
    }
}

#[test]
fn a_published_client_cancels_only_what_its_session_submitted_and_is_told_of_no_extension() {
    let mut world = world(5);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let (mut elsewhere, welcome) = Raw::hello(&mut world, "tok-a");
    assert!(!welcome.to_string().contains("x-vendor"), "{welcome}");
    elsewhere.send(&mut world, "job.cancel", json!({"job_id": job}));
    assert_eq!(code(&elsewhere.expect(&mut world, "session.error")), "PERMISSION_DENIED");
    elsewhere.send(&mut world, "session.list_jobs", json!({}));
    let page = elsewhere.expect(&mut world, "session.jobs");
    let entry = page["payload"]["jobs"][0].as_object().expect("an entry");
    assert!(!entry.contains_key("principal") && !entry.contains_key("ended_at"), "{entry:?}");
    world.finish();
}

#[test]
fn a_listing_says_whose_each_job_is_and_when_it_ended_to_who_asked_for_that() {
    for family in [Family::Hello, Family::Open] {
        let mut world = World::of(family, 6);
        let client = world.add_client("a");
        let (ended, going) = (submit_waiter(&mut world, client), submit_waiter(&mut world, client));
        world.run_for(Duration::from_secs(3));
        let before = world.now().utc;
        cancel(&mut world, client, &ended);
        world.until(client, |event| matches!(event, ClientEvent::JobEnded { .. }));
        world.command(client, |c| c.session().and_then(|mut s| s.list(ListQuery::default()))).expect("given");
        let listed = world.until(client, |event| matches!(event, ClientEvent::Jobs { .. }));
        let ClientEvent::Jobs { page, .. } = listed else { panic!("{listed:?}") };
        let entry = |id: &WireId| page.jobs.iter().find(|job| job.job == *id).expect("listed");
        assert_eq!(entry(&going).ended_at, None);
        assert!(entry(&ended).ended_at >= Some(before), "{:?}", entry(&ended));
        assert_eq!(entry(&ended).status, Some(JobStatus::Ended(FinalStatus::Cancelled)));
        assert!([&going, &ended].into_iter().all(|id| entry(id).owner.as_deref() == Some("a")));
        world.finish();
    }
}

#[test]
fn an_operator_takes_a_session_from_its_client_and_its_jobs_go_on() {
    for family in [Family::Hello, Family::Open] {
        let mut world = World::seeded(4);
        let (mut raw, opened) = match family {
            Family::Hello => Raw::hello(&mut world, "tok-a"),
            Family::Open => Raw::open(&mut world, "tok-a"),
        };
        match family {
            Family::Hello => raw.submit(&mut world, json!({"agent": "stepper"})),
            Family::Open => raw.invoke(&mut world, json!({"tool": "stepper"})),
        };
        let session = session_of(&opened);
        let end = Operator::EndSession { session, reason: Some("moved away".into()) };
        world.input(Input::Operator(end.clone()));
        match family {
            Family::Hello => {
                let told = raw.expect(&mut world, "session.error");
                assert_eq!((code(&told), &told["payload"]["message"]), ("CANCELLED", &json!("moved away")));
            }
            Family::Open => {
                let told = raw.expect(&mut world, "session.evicted");
                assert_eq!((code(&told), &told["payload"]["reason"]), ("CANCELLED", &json!("moved away")));
            }
        }
        assert_eq!(world.close_reason(raw.conn), Some(CloseReason::Evicted), "{family}");
        assert!(world.notices.contains(&Notice::SessionEnded { session }));
        let stats = world.runtime().stats();
        assert_eq!((stats.sessions, stats.unfinished_jobs), (0, 1), "{family}: the job goes on");
        // Whoever is ended already stays so.
        world.input(Input::Operator(end));
        world.settle();
        assert_eq!(world.runtime().stats().unfinished_jobs, 0);
        world.finish();
    }
}

#[test]
fn a_session_without_a_connection_that_an_operator_ends_stays_ended_over_a_crash() {
    let mut world = World::seeded(5);
    let (raw, welcome) = Raw::hello(&mut world, "tok-a");
    world.input(Input::Closed { conn: raw.conn });
    let session = session_of(&welcome);
    world.input(Input::Operator(Operator::EndSession { session, reason: None }));
    world.settle();
    assert_eq!(world.runtime().stats().sessions, 0);
    world.crash();
    let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
    let answer = back.expect_any(&mut world, &["session.error", "session.welcome"]);
    assert_eq!(answer["type"], "session.error", "{answer}");
    world.finish();
}

#[test]
fn a_connection_that_is_opened_under_a_number_in_use_is_told_of_and_changes_nothing() {
    let mut world = World::seeded(6);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    let conn = raw.conn;
    world.input(Input::Opened {
        conn,
        transport: Transport::Lines,
        address: None,
        binding: None,
        peer: Principal::new("boss").map(Into::into),
    });
    assert_eq!(world.notices.last(), Some(&Notice::ConnIdInUse { conn }));
    assert_eq!(world.runtime().stats().connections, 1);
    raw.submit(&mut world, json!({"agent": "echo"}));
    raw.until_end(&mut world);
    world.input(Input::Closed { conn });
    let before = world.notices.len();
    world.input(Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None });
    assert!(!world.notices[before..].contains(&Notice::ConnIdInUse { conn }), "it is free again");
    world.input(Input::Closed { conn });
    world.finish();
}

#[test]
fn whose_credential_is_revoked_loses_every_session_and_nobody_else_does() {
    let mut world = world(7);
    let (mut hello, welcome) = Raw::hello(&mut world, "tok-a");
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    let (lost, _) = Raw::hello(&mut world, "tok-a");
    world.input(Input::Closed { conn: lost.conn });
    let (mut other, _) = Raw::hello(&mut world, "tok-b");
    hello.submit(&mut world, json!({"agent": "waiter"}));
    world.input(Input::Operator(Operator::Revoke { principal: Principal::new("a").expect("a name") }));
    assert_eq!(code(&hello.expect(&mut world, "session.error")), "UNAUTHENTICATED");
    assert_eq!(code(&open.expect(&mut world, "session.evicted")), "UNAUTHENTICATED");
    assert_eq!([hello.conn, open.conn].map(|conn| world.close_reason(conn)), [Some(CloseReason::Evicted); 2]);
    assert_eq!(world.runtime().stats().sessions, 1, "the one that had no connection is gone too");
    assert_eq!(world.runtime().stats().unfinished_jobs, 1, "jobs go on");
    // Neither now nor after a restart.
    for _ in 0..2 {
        let mut back = Raw::resume(&mut world, "tok-a", &welcome, 0);
        let answer = back.expect_any(&mut world, &["session.error", "session.welcome"]);
        assert_eq!(answer["type"], "session.error", "{answer}");
        world.settle();
        other.submit(&mut world, json!({"agent": "echo"}));
        other.until_end(&mut world);
        world.crash();
        other = Raw::hello(&mut world, "tok-b").0;
    }
    world.finish();
}

#[test]
fn whose_certificate_counts_no_more_loses_that_session_and_anybody_else_the_connection() {
    let mut world = world(8);
    let vouched = [(), ()].map(|()| Raw::on(world.open_vouched("c")));
    let [mut by_certificate, mut not_yet] = vouched;
    by_certificate.send(&mut world, "session.hello", json!({"client": {"name": "c", "version": "1"}}));
    by_certificate.expect(&mut world, "session.welcome");
    let (by_token, _) = Raw::hello(&mut world, "tok-a");
    let sessions = world.runtime().stats().sessions;
    for conn in [by_certificate.conn, not_yet.conn, by_token.conn] {
        world.input(Input::Operator(Operator::Distrust { conn }));
    }
    assert_eq!(code(&by_certificate.expect(&mut world, "session.error")), "UNAUTHENTICATED");
    assert_eq!(not_yet.settle(&mut world), Vec::<Value>::new());
    let closed = [by_certificate.conn, not_yet.conn, by_token.conn].map(|conn| world.close_reason(conn));
    assert_eq!(closed, [CloseReason::Evicted, CloseReason::Refused, CloseReason::Refused].map(Some));
    assert_eq!(world.runtime().stats().sessions, sessions - 1, "whose token counts may come back");
    world.finish();
}

#[test]
fn who_oversees_may_change_and_whoever_can_do_less_has_to_come_again() {
    let mut world = world(8);
    let (mut owner, _) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter"}))["job_id"].clone();
    let (mut boss, _) = Raw::hello(&mut world, "tok-boss");
    let (mut clerk, _) = Raw::hello(&mut world, "tok-clerk");
    let (mut newcomer, _) = Raw::hello(&mut world, "tok-new");
    let named = |names: &[&str]| names.iter().map(|name| Principal::new(name).expect("a name")).collect();
    let overseers = |operators: &[&str], auditors: &[&str]| {
        Input::Operator(Operator::Overseers { operators: named(operators), auditors: named(auditors) })
    };
    let sees = |raw: &mut Raw, world: &mut World| {
        raw.send(world, "session.list_jobs", json!({}));
        raw.expect(world, "session.jobs")["payload"]["jobs"].as_array().expect("a list").len()
    };
    assert_eq!((sees(&mut clerk, &mut world), sees(&mut newcomer, &mut world)), (1, 0));
    world.input(overseers(&["clerk"], &["new"]));
    assert_eq!(code(&boss.expect(&mut world, "session.error")), "UNAUTHENTICATED");
    assert_eq!((sees(&mut clerk, &mut world), sees(&mut newcomer, &mut world)), (1, 1), "they can do more");
    let (mut boss, _) = Raw::hello(&mut world, "tok-boss");
    assert_eq!(sees(&mut boss, &mut world), 0, "it came again, and is nobody special");
    // Nobody oversees everybody by a credential that is bounded.
    world.ceilings.insert("tok-b".into(), Box::default());
    let (mut bounded, _) = Raw::hello(&mut world, "tok-b");
    world.input(overseers(&["clerk"], &["new", "b"]));
    assert_eq!(code(&bounded.expect(&mut world, "session.error")), "UNAUTHENTICATED");
    // An operator that becomes an auditor can do less.
    world.input(overseers(&[], &["clerk"]));
    assert_eq!(code(&clerk.expect(&mut world, "session.error")), "UNAUTHENTICATED");
    assert_eq!(code(&newcomer.expect(&mut world, "session.error")), "UNAUTHENTICATED");
    owner.send(&mut world, "job.cancel", json!({"job_id": job}));
    owner.until_end(&mut world);
    world.finish();
}

/// What asks for the listing of sessions, in the words of a family.
fn overseeing(family: Family, token: &str) -> Value {
    match family {
        Family::Hello => {
            let mut payload = hello_payload(token);
            payload["capabilities"]["features"].as_array_mut().expect("a list").push("x-vendor.arcp.sessions".into());
            payload
        }
        Family::Open => {
            let mut payload = open_payload(token);
            payload["capabilities"]["extensions"] = json!(["arcpx.arcp.sessions.v1"]);
            payload
        }
    }
}

fn open_as(world: &mut World, family: Family, payload: Value) -> (Raw, SessionId) {
    let mut raw = Raw::connect(world);
    let (open, opened) = match family {
        Family::Hello => ("session.hello", "session.welcome"),
        Family::Open => ("session.open", "session.accepted"),
    };
    raw.send(world, open, payload);
    let opened = raw.expect(world, opened);
    (raw, session_of(&opened))
}

/// Asks for a page of sessions.
fn sessions(world: &mut World, raw: &mut Raw, asked: Value) -> Value {
    raw.send(world, "x-vendor.arcp.sessions.list", asked);
    raw.expect_any(world, &["x-vendor.arcp.sessions", "session.error", "nack"])["payload"].clone()
}

#[test]
fn sessions_are_listed_page_by_page_for_who_oversees_everybody() {
    for family in [Family::Hello, Family::Open] {
        let mut world = world(9);
        let (first, of_first) = open_as(&mut world, family, overseeing(family, "tok-a"));
        world.input(Input::Closed { conn: first.conn });
        let (mut second, of_second) = open_as(&mut world, family, overseeing(family, "tok-b"));
        let (mut clerk, of_clerk) = open_as(&mut world, family, overseeing(family, "tok-clerk"));
        let ids = |page: &Value| -> Vec<String> {
            let entries = page["sessions"].as_array().expect("a list").iter();
            entries.map(|entry| entry["session_id"].as_str().expect("an id").to_string()).collect()
        };
        let page = sessions(&mut world, &mut clerk, json!({"limit": 2}));
        assert_eq!(ids(&page), [of_first, of_second].map(|id| id.to_string()));
        let said = |n: usize| (page["sessions"][n]["principal"].clone(), page["sessions"][n]["connected"].clone());
        assert_eq!([said(0), said(1)], [(json!("a"), json!(false)), (json!("b"), json!(true))]);
        assert!(page["sessions"][0]["opened_at"].is_string(), "{page}");
        let rest = sessions(&mut world, &mut clerk, json!({"after": page["next_after"]}));
        assert_eq!((ids(&rest), &rest["next_after"]), (vec![of_clerk.to_string()], &Value::Null));
        for asked in [json!({"limit": 0}), json!({"limit": 1001}), json!({"after": "x"})] {
            let refused = sessions(&mut world, &mut clerk, asked.clone());
            assert!(refused["code"].as_str().is_some_and(|code| code.starts_with("INVALID_")), "{asked}: {refused}");
        }
        assert_eq!(sessions(&mut world, &mut second, json!({}))["code"], "PERMISSION_DENIED");
        world.finish();
    }
}

#[test]
fn a_page_of_sessions_has_as_many_as_one_frame_holds() {
    let mut world = World::configured(12, |config| {
        config.operators = [Principal::new("boss").expect("a name")].into();
        config.limits.frame.result_frame_bytes = 4096;
    });
    for _ in 0..6 {
        Raw::hello(&mut world, "tok-a");
    }
    let (mut boss, _) = open_as(&mut world, Family::Hello, overseeing(Family::Hello, "tok-boss"));
    let (mut seen, mut asked) = (0, json!({}));
    for pages in 1.. {
        let page = sessions(&mut world, &mut boss, asked);
        seen += page["sessions"].as_array().expect("a list").len();
        asked = json!({"after": page["next_after"]});
        if asked["after"].is_null() {
            assert!(pages > 1 && seen == 7, "{pages} pages with {seen} sessions");
            break;
        }
    }
    world.finish();
}

#[test]
fn an_operator_takes_sessions_by_a_request_whose_clients_are_told_why() {
    for family in [Family::Hello, Family::Open] {
        let mut world = world(10);
        let (mut boss, of_boss) = open_as(&mut world, family, overseeing(family, "tok-boss"));
        let (mut clerk, _) = open_as(&mut world, family, overseeing(family, "tok-clerk"));
        let (mut hello, of_hello) = open_as(&mut world, Family::Hello, hello_payload("tok-a"));
        let (mut open, of_open) = open_as(&mut world, Family::Open, open_payload("tok-a"));
        hello.submit(&mut world, json!({"agent": "waiter"}));
        let (gone, welcome) = Raw::hello(&mut world, "tok-b");
        world.input(Input::Closed { conn: gone.conn });

        let evict = |world: &mut World, raw: &mut Raw, session: &str| {
            let asked = json!({"session_id": session, "reason": "a new laptop"});
            let id = raw.send(world, "x-vendor.arcp.sessions.evict", asked);
            let answer = raw.expect_any(world, &["ack", "session.error", "nack"]);
            (id, answer)
        };
        let (_, refused) = evict(&mut world, &mut clerk, &of_hello.to_string());
        assert_eq!(code(&refused), "PERMISSION_DENIED", "an auditor changes nothing");
        for unknown in ["sess_01ARZ3NDEKTSV4RRFFQ69G5FAV", "x"] {
            let (_, refused) = evict(&mut world, &mut boss, unknown);
            assert!(code(&refused).ends_with("NOT_FOUND"), "{refused}");
        }
        for session in [of_hello, of_open, session_of(&welcome)] {
            let (id, done) = evict(&mut world, &mut boss, &session.to_string());
            assert_eq!((&done["type"], &done["correlation_id"]), (&json!("ack"), &json!(id)));
            let (_, again) = evict(&mut world, &mut boss, &session.to_string());
            assert!(code(&again).ends_with("NOT_FOUND"), "{again}");
        }
        let told = hello.expect(&mut world, "session.error");
        assert_eq!((code(&told), &told["payload"]["message"]), ("CANCELLED", &json!("a new laptop")));
        let told = open.expect(&mut world, "session.evicted");
        assert_eq!((code(&told), &told["payload"]["reason"]), ("CANCELLED", &json!("a new laptop")));
        assert_eq!([hello.conn, open.conn].map(|conn| world.close_reason(conn)), [Some(CloseReason::Evicted); 2]);
        assert_eq!(world.runtime().stats().unfinished_jobs, 1, "{family}: jobs go on");

        let (_, done) = evict(&mut world, &mut boss, &of_boss.to_string());
        assert_eq!(done["type"], "ack", "its own, and it is told first");
        world.settle();
        assert_eq!(world.close_reason(boss.conn), Some(CloseReason::Evicted));
        let kept = world.store.records(true);
        let entries = kept.iter().filter_map(|(_, record)| {
            if let Record::Audited(entry) = record { Some(entry).filter(|entry| entry.refused.is_none()) } else { None }
        });
        let taken = entries.filter(|entry| entry.act.as_str() == "evict").filter_map(|entry| entry.taken);
        assert_eq!(taken.collect::<Vec<_>>(), [of_hello, of_open, session_of(&welcome), of_boss]);
        world.crash();
        let mut back = Raw::resume(&mut world, "tok-b", &welcome, 0);
        let answer = back.expect_any(&mut world, &["session.error", "session.welcome"]);
        assert_eq!(answer["type"], "session.error", "{answer}");
        world.finish();
    }
}

#[test]
fn a_client_of_ours_whose_session_is_taken_ends_with_why_and_does_not_come_back() {
    for (family, revoked) in
        [Family::Hello, Family::Open].into_iter().flat_map(|family| [(family, false), (family, true)])
    {
        let mut world = world(12);
        let credential = Credential::Bearer(Secret::new("tok-a".to_string()));
        let client = world.add_client_with(ClientConfig { family, ..ClientConfig::new("world", "1", credential) });
        let opened = world.until(client, |event| matches!(event, ClientEvent::Accepted { .. }));
        let ClientEvent::Accepted { session, .. } = opened else { panic!("{opened:?}") };
        let submit = Submit::new(AgentRef::parse("waiter").expect("a name"));
        world.command(client, |c| c.session().and_then(|mut s| s.submit(submit))).expect("a session");
        world.until(client, |event| matches!(event, ClientEvent::Submitted { .. }));
        if revoked {
            world.input(Input::Operator(Operator::Revoke { principal: Principal::new("a").expect("a name") }));
        } else {
            let (mut boss, _) = open_as(&mut world, family, overseeing(family, "tok-boss"));
            let asked = json!({"session_id": session.as_str(), "reason": "a new laptop"});
            boss.send(&mut world, "x-vendor.arcp.sessions.evict", asked);
        }
        let ended = world.until(client, |event| matches!(event, ClientEvent::Ended(_)));
        let is_told = if revoked {
            matches!(&ended, ClientEvent::Ended(SessionEnd::Denied(why)) if why.code == ErrorCode::Unauthenticated)
        } else {
            ended == ClientEvent::Ended(SessionEnd::Goodbye("a new laptop".to_string()))
        };
        assert!(is_told, "{family}: {ended:?}");
        let came_back = |event: &ClientEvent| matches!(event, ClientEvent::Reconnecting { .. });
        assert!(!world.events(client).iter().any(came_back), "{family}: {:?}", world.events(client));
        assert_eq!(world.runtime().stats().unfinished_jobs, 1, "{family}: its job goes on");
        world.finish();
    }
}

#[test]
fn sessions_are_neither_listed_nor_taken_by_who_did_not_agree_to_it() {
    let mut world = world(11);
    let (mut boss, welcome) = Raw::hello(&mut world, "tok-boss");
    assert!(!welcome.to_string().contains("sessions"), "{welcome}");
    assert_eq!(sessions(&mut world, &mut boss, json!({}))["code"], "INVALID_REQUEST");
    boss.send(&mut world, "x-vendor.arcp.sessions.evict", json!({"session_id": session_of(&welcome).to_string()}));
    assert_eq!(code(&boss.expect(&mut world, "session.error")), "INVALID_REQUEST");
    world.finish();
}

#[test]
fn an_operator_is_told_of_each_refusal_whose_it_is_and_why_and_of_each_decision_about_authority() {
    let mut world = world(7);
    let (mut owner, welcome) = Raw::hello(&mut world, "tok-a");
    let job = owner.submit(&mut world, json!({"agent": "waiter", "lease_request": {"tool.call": ["a.*"]}}));
    let (session, id) = (session_of(&welcome), id_of(&job["job_id"]));
    let decided = |world: &World, session, refused: Option<ErrorCode>| {
        world.notices.iter().any(|notice| {
            matches!(notice, Notice::Audited(entry)
                if (entry.session, entry.job, &entry.refused) == (Some(session), Some(id), &refused))
        })
    };
    assert!(decided(&world, session, None), "a lease was granted: {:?}", world.notices);
    let (mut clerk, seen) = Raw::hello(&mut world, "tok-clerk");
    clerk.send(&mut world, "job.cancel", json!({"job_id": job["job_id"]}));
    let refused = clerk.expect(&mut world, "session.error");
    assert!(decided(&world, session_of(&seen), Some(ErrorCode::PermissionDenied)), "{:?}", world.notices);
    let told = Notice::Refused {
        conn: clerk.conn,
        principal: Principal::new("clerk"),
        session: Some(session_of(&seen)),
        job: Some(WireId::from(id)),
        code: "PERMISSION_DENIED".into(),
        reason: refused["payload"]["message"].as_str().expect("text").into(),
        told: true,
    };
    assert!(world.notices.contains(&told), "{:?}", world.notices);
    let mut thief = Raw::resume(&mut world, "tok-clerk", &welcome, 0);
    thief.expect(&mut world, "session.error");
    let refused = Notice::ResumeRefused { conn: thief.conn, code: "UNAUTHENTICATED".into() };
    assert!(world.notices.contains(&refused), "{:?}", world.notices);
    world.input(Input::Operator(Operator::CancelJob { job: id, reason: None }));
    world.finish();
}
