//! Sign-in on another device (RFC 8628): a code is shown, and the provider is polled until the user has entered it
//! there.

use std::time::{Duration, Instant};

use arcp_host::auth::ProviderError;
use arcp_host::stderr::say;
use arcp_proto::secret::Secret;
use serde::Deserialize;

use super::metadata::Metadata;
use super::{Asking, Granted, failed, tokens};
use crate::exit::Failure;

/// The time between two polls, unless the provider says otherwise.
const INTERVAL: Duration = Duration::from_secs(5);
/// How much longer the time becomes when the provider asks for it (RFC 8628 §3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// The longest time between two polls that a provider may ask for.
const SLOWEST: Duration = Duration::from_secs(60);
/// The longest life of a code.
const LONGEST: Duration = Duration::from_secs(30 * 60);

#[derive(Deserialize)]
struct Shown {
    device_code: Secret,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: f64,
    interval: Option<f64>,
}

/// Has the user sign in on another device.
pub(super) fn grant(asking: &Asking, metadata: &Metadata) -> Result<Granted, Failure> {
    let fields = asking.fields();
    let form: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let shown: Shown = metadata.device()?.post(&form, None).and_then(|answer| answer.json()).map_err(failed)?;
    let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(2048).collect::<String>();
    let (at, code) = (plain(&shown.verification_uri), plain(&shown.user_code));
    say(format_args!("arcp: sign in at\n{at}\nwith the code {code}"));
    if let Some(complete) = &shown.verification_uri_complete {
        say(format_args!("or at\n{}", plain(complete)));
    }
    let seconds = |n: f64| Duration::try_from_secs_f64(n.max(0.0)).unwrap_or(LONGEST);
    let until = Instant::now() + seconds(shown.expires_in).min(LONGEST);
    let mut interval = shown.interval.map_or(INTERVAL, seconds).min(SLOWEST);
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", shown.device_code.expose()),
        ("client_id", &asking.client_id),
    ];
    while Instant::now() + interval < until {
        std::thread::sleep(interval);
        match tokens(metadata.token(), &form) {
            Ok(Ok(granted)) => return granted.checked(),
            Ok(Err(refused)) => match refused.error.as_str() {
                "authorization_pending" => {}
                "slow_down" => interval = slower(interval),
                _ => return Err(failed(refused.shown())),
            },
            // RFC 8628 §3.5: a provider that does not answer is polled less often.
            Err(ProviderError::Silent(_)) => interval = (interval * 2).clamp(INTERVAL, SLOWEST),
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed("nobody signed in before the code expired"))
}

/// The time between two polls after the provider has asked to slow down.
fn slower(interval: Duration) -> Duration {
    (interval + SLOWER).min(SLOWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_told_to_slow_down_does_by_five_seconds_each_time() {
        assert_eq!(slower(INTERVAL), Duration::from_secs(10));
        assert_eq!(slower(slower(INTERVAL)), Duration::from_secs(15));
        assert_eq!(slower(SLOWEST), SLOWEST);
    }
}
