//! `GET /stats`: how much there is of everything, for operators and auditors.

use std::net::IpAddr;

use arcp_proto::json::Object;
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::Stats;
use arcp_proto::secret::Secret;

use crate::driver::Driver;
use crate::http::response;

/// The whole response to who asks with this token from an address.
pub(super) fn answer(driver: &mut Driver, bearer: Option<Secret>, address: Option<IpAddr>) -> String {
    let Some(bearer) = bearer else {
        return response(401, "Unauthorized", "give a token: Authorization: Bearer TOKEN");
    };
    match driver.oversees(&Credential::Bearer(bearer), address) {
        Ok(Some(true)) => response(200, "OK", &json(&driver.stats(), driver.unrevoked_credentials())),
        Ok(Some(false)) => response(403, "Forbidden", "this token is of no operator or auditor"),
        Ok(None) => response(501, "Not Implemented", "who asks cannot be told without waiting"),
        Err(wait) => response(429, "Too Many Requests", &wait.message),
    }
}

fn json(stats: &Stats, unrevoked: usize) -> String {
    let Stats {
        connections,
        sessions,
        unfinished_jobs,
        jobs,
        index_runs,
        waiting_jobs,
        running_agents,
        events,
        event_bytes,
        kept_event_bytes,
        read_ahead_bytes,
        rendered_bytes,
        unsent_bytes,
        undurable_bytes,
        store_failed,
    } = *stats;
    let mut all = Object::new();
    for (name, count) in [
        ("connections", connections),
        ("sessions", sessions),
        ("unfinished_jobs", unfinished_jobs),
        ("jobs", jobs),
        ("index_runs", index_runs),
        ("waiting_jobs", waiting_jobs),
        ("running_agents", running_agents),
        ("event_bytes", event_bytes),
        ("read_ahead_bytes", read_ahead_bytes),
        ("rendered_bytes", rendered_bytes),
        ("unsent_bytes", unsent_bytes),
        ("undurable_bytes", undurable_bytes),
    ] {
        all.u64(name, count as u64);
    }
    all.u64("unrevoked_credentials", unrevoked as u64);
    all.u64("events", events).u64("kept_event_bytes", kept_event_bytes).bool("store_failed", store_failed);
    all.done()
}
