//! The audit trail of commands: each has its own name, and says what it was about.

use std::time::Duration;

use arcp_proto::id::JobId;
use arcp_proto::runtime::{AuditEntry, Record};
use arcp_tests::raw::{Raw, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn open(world: &mut World, token: &str) -> Raw {
    let mut payload = open_payload(token);
    for name in ["scheduled_jobs", "checkpoints", "interrupt", "subscriptions"] {
        payload["capabilities"][name] = json!(true);
    }
    Raw::open_with(world, payload).0
}

/// The name of what was done, the job, the reason, what was granted, and whether it was refused.
type Shown = (String, Option<JobId>, Option<String>, Option<String>, bool);

/// What was written down since `from` entries, without who did it and where.
fn since(world: &World, from: usize) -> Vec<Shown> {
    let shown = |entry: &AuditEntry| {
        let granted = entry.granted.as_ref().map(ToString::to_string);
        (entry.act.as_str().to_string(), entry.job, entry.reason.clone(), granted, entry.refused.is_some())
    };
    all(world).iter().skip(from).map(shown).collect()
}

fn all(world: &World) -> Vec<AuditEntry> {
    let records = world.store.records(false).into_iter();
    records.filter_map(|(_, record)| if let Record::Audited(entry) = record { Some(*entry) } else { None }).collect()
}

fn say(world: &mut World, raw: &mut Raw, kind: &str, payload: Value) -> usize {
    let before = all(world).len();
    raw.send(world, kind, payload);
    raw.settle(world);
    before
}

#[test]
fn each_command_is_written_down_under_its_name_with_its_job_and_its_reason() {
    let mut world = World::configured(1, |config| {
        config.timing.schedules = true;
        config.timing.heartbeat = None;
        config.restartable_agents.insert("waiter".into());
        let waiter = config.agents.iter_mut().find(|entry| entry.name == "waiter").expect("it is hosted");
        waiter.gives_checkpoints = true;
    });
    let mut raw = open(&mut world, "tok-a");
    let lease = json!({"tool.call": ["search.*"]});
    let accepted = raw.invoke(&mut world, json!({"tool": "waiter", "lease_request": lease}));
    raw.settle(&mut world);
    let job = accepted["job_id"].as_str().and_then(JobId::parse);
    let granted = Some(lease.to_string());
    assert_eq!(since(&world, 0), [("submit".into(), job, None, granted.clone(), false)]);
    assert!(all(&world)[0].session.is_some() && all(&world)[0].principal.is_some());

    let wish = json!({"job": {"type": "tool.invoke", "payload": {"tool": "echo", "lease_request": lease}},
        "when": {"after": 3600}, "schedule_id": "s"});
    let before = say(&mut world, &mut raw, "job.schedule", wish);
    assert_eq!(since(&world, before), [("schedule".into(), None, Some("s".into()), granted.clone(), false)]);
    for (kind, act) in [("pause", "pause_schedule"), ("resume", "resume_schedule")] {
        let kind = format!("x-vendor.arcp.schedules.{kind}");
        let before = say(&mut world, &mut raw, &kind, json!({"schedule_id": "s"}));
        assert_eq!(since(&world, before), [(act.into(), None, Some("s".into()), None, false)]);
    }
    let before = say(&mut world, &mut raw, "checkpoint.create", json!({"job_id": job, "label": "l"}));
    world.run_for(Duration::from_secs(31));
    let entries = since(&world, before);
    assert!(matches!(&entries[..], [(act, of, ..)] if act == "checkpoint" && *of == job), "{entries:?}");
    let cancel = json!({"target": "job", "target_id": job, "reason": "enough"});
    let before = say(&mut world, &mut raw, "cancel", cancel);
    assert_eq!(since(&world, before), [("cancel".into(), job, Some("enough".into()), None, false)]);
    world.finish();
}

#[test]
fn who_watches_a_job_of_its_own_is_not_written_down() {
    let mut world = World::seeded(2);
    let mut raw = open(&mut world, "tok-a");
    let accepted = raw.invoke(&mut world, json!({"tool": "waiter"}));
    let mut other = open(&mut world, "tok-a");
    other.send(&mut world, "job.subscribe", json!({"job_id": accepted["job_id"], "history": true}));
    other.settle(&mut world);
    other.send(&mut world, "subscribe", json!({"filter": {}}));
    other.settle(&mut world);
    assert_eq!(since(&world, 0), [], "a job without a lease is granted nothing");
    world.finish();
}
