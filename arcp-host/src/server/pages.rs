//! The HTTP pages beside the WebSocket: health, readiness, counts and metrics.

use std::net::IpAddr;
use std::time::Duration;

use arcp_proto::model::request::Credential;
use arcp_proto::secret::{Secret, SecretDigest};
use subtle::ConstantTimeEq as _;

use super::stats;
use crate::driver::Driver;
use crate::http::{Page, Scrape, response, response_of};
use crate::metrics::prometheus_text;

/// The content types by which a scraper chooses its parser.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The whole response to a request for a page. `metrics_token` is the token for `/metrics`.
pub(super) fn answer(
    page: Page,
    driver: &mut Driver,
    metrics_token: Option<&SecretDigest>,
    address: Option<IpAddr>,
) -> String {
    match page {
        Page::Health => health(driver),
        Page::Ready => ready(driver),
        Page::Stats(bearer) => match check_overseer(driver, bearer, address) {
            Ok(()) => response(200, "OK", &stats::json(&driver.stats(), unrevoked(driver))),
            Err(refused) => refused,
        },
        Page::Metrics(scrape) => match check_scrape(driver, &scrape, metrics_token, address) {
            Ok(()) if scrape.open_metrics => response_of(200, "OK", OPEN_METRICS, &driver.metrics()),
            Ok(()) => response_of(200, "OK", PROMETHEUS, &prometheus_text(&driver.metrics())),
            Err(refused) => refused,
        },
    }
}

/// Whether the runtime works.
fn health(driver: &mut Driver) -> String {
    if driver.stats().store_failed {
        return response(503, "Service Unavailable", "the store is failing");
    }
    match unrevoked(driver) {
        (0, _) => response(200, "OK", "ok"),
        (jobs, longest) => {
            let seconds = longest.as_secs();
            let shown = format!("ok\nunrevoked credentials: of {jobs} job(s), the first for {seconds} s");
            response(200, "OK", &shown)
        }
    }
}

/// The number of jobs with unrevoked credentials, and how long the oldest has been due.
fn unrevoked(driver: &mut Driver) -> (usize, Duration) {
    (driver.unrevoked_credentials(), driver.longest_unrevoked())
}

/// Whether new jobs are accepted: the store works, and the server does not drain.
fn ready(driver: &Driver) -> String {
    let why = match (driver.is_draining(), driver.stats().store_failed) {
        (true, _) => "no new jobs are accepted: the runtime is about to end",
        (false, true) => "the store is failing",
        (false, false) => return response(200, "OK", "ready"),
    };
    response(503, "Service Unavailable", why)
}

/// Checks that the token is that of an operator or auditor.
///
/// # Errors
///
/// The whole response of the refusal.
fn check_overseer(driver: &mut Driver, bearer: Option<Secret>, address: Option<IpAddr>) -> Result<(), String> {
    let Some(bearer) = bearer else {
        return Err(response(401, "Unauthorized", "give a token: Authorization: Bearer TOKEN"));
    };
    match driver.oversees(&Credential::Bearer(bearer), address) {
        Ok(Some(true)) => Ok(()),
        Ok(Some(false)) => Err(response(403, "Forbidden", "this token is of no operator or auditor")),
        Ok(None) => Err(response(501, "Not Implemented", "who asks cannot be told without waiting")),
        Err(wait) => Err(response(429, "Too Many Requests", &wait.message)),
    }
}

/// Checks whether a client may see the metrics. Without a metrics token, any client on this machine
/// may; otherwise it needs that token, or the token of an operator or auditor.
///
/// # Errors
///
/// The whole response of the refusal.
fn check_scrape(
    driver: &mut Driver,
    Scrape { bearer, direct, .. }: &Scrape,
    token: Option<&SecretDigest>,
    address: Option<IpAddr>,
) -> Result<(), String> {
    let is_local = *direct && address.is_some_and(|address| address.to_canonical().is_loopback());
    let has_token = |token: &SecretDigest| bearer.as_ref().is_some_and(|given| token.0.ct_eq(&given.digest().0).into());
    let may = match token {
        Some(token) => has_token(token),
        None => is_local && bearer.is_none(),
    };
    if may { Ok(()) } else { check_overseer(driver, bearer.clone(), address) }
}
