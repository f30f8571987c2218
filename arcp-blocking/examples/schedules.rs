//! Jobs are submitted at times (RFC §10.6): once after a while, and by a recurrence rule, whether or not a client is
//! connected. A schedule is listed, paused and deleted by its id.
//!
//! ```text
//! cargo run -p arcp-blocking --example schedules
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::sync::mpsc;
use std::time::Duration;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::agent::{Context, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::id::{Principal, WireId};
use arcp_proto::json::Json;
use arcp_proto::model::request::Credential;
use arcp_proto::model::schedule::{Missed, NewSchedule, Overlap, ScheduleChange, ScheduleQuery, ScheduledJob, When};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let (says, greeted) = mpsc::channel();
    let mut registry = Registry::default();
    registry.add("greet", None, move |job: &Context| {
        let whom: String = job.parse()?;
        // Whoever asked for it may have left by now.
        let _ = says.send(whom.clone());
        Outcome::of(&format!("good morning, {whom}"))
    });
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let mut config = Config::new("example", "1.0.0");
    config.timing.schedules = true;
    let server = Server::bind(
        &ServerConfig::new(([127, 0, 0, 1], 0).into()),
        Host::new(config, registry).with_authenticator(tokens),
    )?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let client = Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))?;

    let greet = |whom: &str| -> Result<ScheduledJob, Box<dyn Error>> {
        Ok(ScheduledJob { input: Some(Json::string(whom)), ..ScheduledJob::new("greet".parse()?) })
    };
    // Once, in a second: it is over then.
    client.schedule(NewSchedule::new(greet("bob")?, When::After(Duration::from_secs(1))))?;
    // On working days, by the clock of a wall in Berlin. What is missed while the runtime is down is made up for, up
    // to a bound, and what comes while an earlier job goes on waits for it.
    let rule = "DTSTART;TZID=Europe/Berlin:20260105T083000\nRRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR".parse()?;
    let morning = NewSchedule {
        id: WireId::new("mornings"),
        missed: Missed::All,
        overlap: Overlap::Queue,
        ..NewSchedule::new(greet("carol")?, When::Every(rule))
    };
    let kept = client.schedule(morning.clone())?;
    println!("{} is next at {:?}", kept.id, kept.next.map(|at| at.to_string()));
    // The same wish once more is the same schedule: it may be repeated after a cut.
    assert_eq!(client.schedule(morning)?.id, kept.id);

    assert_eq!(greeted.recv_timeout(Duration::from_secs(30))?, "bob");
    for schedule in client.schedules(ScheduleQuery::default())?.schedules {
        let next: Vec<String> = schedule.next.iter().map(ToString::to_string).collect();
        println!("{}: {} jobs, next at {}", schedule.id, schedule.fired, next.join(", "));
    }

    client.change_schedule(ScheduleChange { id: kept.id.clone(), paused: true })?;
    let all = client.schedules(ScheduleQuery::default())?.schedules;
    let paused = all.iter().find(|schedule| schedule.id == kept.id).ok_or("it is listed")?;
    assert!(paused.paused.is_some() && paused.next.is_empty(), "{paused:?}");
    client.end_schedule(kept.id.clone(), Some("on holiday".into()))?;
    let all = client.schedules(ScheduleQuery::default())?.schedules;
    assert!(all.iter().all(|schedule| schedule.id != kept.id), "{all:?}");

    // A rule that never comes is refused.
    let never = NewSchedule::new(greet("dave")?, When::Every("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30".parse()?));
    let refused = client.schedule(never).err().ok_or("February has no 30th")?;
    println!("{refused}");

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
