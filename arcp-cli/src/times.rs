//! Times as people read them: in local time, and how long ago.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arcp_proto::time::UtcMs;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The time of this machine's clock.
pub fn now() -> UtcMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UtcMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A time in the time zone of this machine; in UTC if it has none.
pub fn local(at: UtcMs) -> String {
    let moment = i64::try_from(at.0).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    let moment = moment.map(|at| at.to_zoned(TimeZone::try_system().unwrap_or(TimeZone::UTC)));
    moment.map_or_else(|| at.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// A time, and how long ago it was.
pub fn local_and_age(at: UtcMs) -> String {
    format!("{} ({} ago)", local(at), age(Some(at)))
}

/// How long ago it was, in the largest fitting unit.
pub fn age(since: Option<UtcMs>) -> String {
    let Some(since) = since else {
        return "-".to_string();
    };
    span(Duration::from_millis(now().0.saturating_sub(since.0)))
}

/// A span in the largest fitting unit.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
