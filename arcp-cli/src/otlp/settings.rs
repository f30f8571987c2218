//! Where and as which service spans are sent: from the option, and from the environment variables that [every
//! exporter](https://opentelemetry.io/docs/specs/otel/protocol/exporter/) reads.

use std::path::PathBuf;
use std::time::Duration;

use arcp_host::client::{Trust, is_loopback};
use arcp_host::https;
use arcp_proto::secret::Secret;
use ureq::Agent;
use ureq::http::Uri;
use ureq::http::uri::Scheme;

use crate::args::Serve;
use crate::exit::Failure;

const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
/// The only protocol of OTLP that is implemented.
const SPOKEN: &str = "http/protobuf";
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
/// How long a collector may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The path that is added to the URL of a collector.
const TRACES: &str = "/v1/traces";

/// Where spans are sent, and the attributes of the sender.
pub struct Settings {
    pub url: String,
    /// The URL without its path, which may be secret.
    pub shown: String,
    pub agent: Agent,
    /// The headers of each request; their values may be secrets.
    pub headers: Vec<(String, Secret)>,
    /// The attributes of the runtime, its service name among them.
    pub resource: Vec<(String, String)>,
}

impl Settings {
    /// The settings from the options; `None` if no spans are to be sent.
    pub fn of(args: &Serve) -> Result<Option<Settings>, Failure> {
        let Some(base) = args.observing.otlp.as_deref().filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        let uri = base.parse::<Uri>().ok().filter(|uri| {
            uri.host().is_some_and(|host| !host.is_empty())
                && [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme())
        });
        let expected = "--otlp: expected a URL with http:// or https://, such as http://localhost:4318";
        let uri = uri.ok_or_else(|| Failure::usage(expected))?;
        if let Some(other) = variable(PROTOCOL).filter(|protocol| protocol != SPOKEN) {
            let mend = format!("give {SPOKEN}, and the port where the collector takes that (most have 4318)");
            return Err(Failure::usage(format!("{PROTOCOL}={other}: spans are sent by {SPOKEN} alone: {mend}")));
        }
        let (scheme, host) = (uri.scheme_str().unwrap_or("http"), uri.host().unwrap_or_default());
        let shown = uri.port().map_or_else(|| format!("{scheme}://{host}"), |port| format!("{scheme}://{host}:{port}"));
        let is_own = is_loopback(host.trim_start_matches('[').trim_end_matches(']'));
        if uri.scheme() == Some(&Scheme::HTTP) && !is_own && !args.tls.insecure {
            return Err(Failure::usage(format!(
                "--otlp {shown} is neither TLS nor this machine, so that others could read {HEADERS} and the spans on \
                 their way: give https://, or --insecure where nobody can listen in"
            )));
        }
        let trust = || variable(CERTIFICATE).map(PathBuf::from).map(Trust::Authorities).unwrap_or_default();
        let trust = (uri.scheme() == Some(&Scheme::HTTPS)).then(trust);
        let agent = https::agent(ANSWER, trust.as_ref());
        let agent = agent.map_err(|error| Failure::usage(format!("--otlp {shown}: {error}")))?;
        let base = base.trim_end_matches('/');
        let url = if base.ends_with(TRACES) { base.to_string() } else { format!("{base}{TRACES}") };
        let headers = pairs(HEADERS)?.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
        Ok(Some(Settings { url, shown, agent, headers, resource: resource()? }))
    }
}

/// The attributes of the runtime. The service name comes last, so that it overrides an earlier one.
fn resource() -> Result<Vec<(String, String)>, Failure> {
    let mut resource = pairs(ATTRIBUTES)?;
    let known = |resource: &[(String, String)], name: &str| resource.iter().any(|(known, _)| known == name);
    if let Some(name) = variable("OTEL_SERVICE_NAME") {
        resource.retain(|(known, _)| known != "service.name");
        resource.push(("service.name".to_string(), name));
    }
    for (name, value) in [("service.name", "arcp"), ("service.version", env!("CARGO_PKG_VERSION"))] {
        if !known(&resource, name) {
            resource.push((name.to_string(), value.to_string()));
        }
    }
    Ok(resource)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The pairs of an environment variable: `NAME=VALUE,NAME=VALUE`, with `%XX` in values.
fn pairs(name: &str) -> Result<Vec<(String, String)>, Failure> {
    let text = variable(name).unwrap_or_default();
    // The message leaves out the values, which may be secrets.
    let wrong = || Failure::usage(format!("{name}: expected NAME=VALUE,NAME=VALUE"));
    let parts = text.split(',').filter(|part| !part.trim().is_empty());
    let pairs = parts.map(|part| {
        let (name, value) = part.split_once('=').ok_or_else(wrong)?;
        let value = decoded(value.trim()).ok_or_else(wrong)?;
        let is_sound = !name.trim().is_empty() && !value.contains(char::is_control);
        is_sound.then(|| (name.trim().to_string(), value)).ok_or_else(wrong)
    });
    pairs.collect()
}

/// Decodes `%XX` in a text.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variables_may_be_encoded() {
        assert_eq!(decoded("Bearer%20abc").as_deref(), Some("Bearer abc"));
        assert_eq!(decoded("%C3%A9").as_deref(), Some("é"));
        for wrong in ["%", "%2", "%zz", "%ff", "a%é"] {
            assert_eq!(decoded(wrong), None, "{wrong}");
        }
    }
}
