//! `GET /stats`: how much there is of everything, for operators and auditors.

use std::time::Duration;

use arcp_proto::json::Object;
use arcp_proto::runtime::Stats;

/// The page. The pair is the number of jobs with unrevoked credentials, and how long the oldest has
/// been due.
pub(super) fn json(stats: &Stats, (unrevoked, longest): (usize, Duration)) -> String {
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
    all.u64("unrevoked_for_seconds", longest.as_secs());
    all.u64("events", events).u64("kept_event_bytes", kept_event_bytes).bool("store_failed", store_failed);
    all.done()
}
