//! What is asked for by HTTPS, of servers that are trusted and of others.

use std::time::Duration;

use arcp_blocking::Trust;
use arcp_host::https::agent;
use arcp_host::store::MemoryStore;
use arcp_tests::certificates::Pair;
use arcp_tests::server::{PATIENCE, Running};

/// The status of the answer and its text, or why there is none.
fn page(url: &str, trust: Option<&Trust>) -> Result<(u16, String), String> {
    let agent = agent(PATIENCE, trust).expect("what asks");
    let mut answer = agent.get(url).call().map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    Ok((status, answer.body_mut().read_to_string().map_err(|error| error.to_string())?))
}

#[test]
fn pages_come_over_tls_from_whom_is_trusted_and_in_the_clear_where_that_is_asked_for() {
    let pairs = ["shown", "other"].map(|name| Pair::new(&format!("https-{name}"), &["localhost"]));
    let trust = pairs.each_ref().map(|pair| Trust::Authorities(pair.certificate()));
    let host = || Running::host(Box::<MemoryStore>::default(), &[], |_| {});
    let secure = Running::serve_as(host(), |config| config.tls = Some(pairs[0].read()));
    let plain = Running::serve(host());
    let url = |scheme: &str, of: &Running, path: &str| format!("{scheme}://localhost:{}{path}", of.address.port());
    let ok = |status, text: &str| Ok((status, text.to_string()));
    assert_eq!(page(&url("https", &secure, "/healthz"), Some(&trust[0])), ok(200, "ok\n"));
    assert_eq!(page(&url("https", &secure, "/no"), Some(&trust[0])), ok(404, "nothing is served at this path\n"));
    assert_eq!(page(&url("http", &plain, "/healthz"), Some(&trust[0])), ok(200, "ok\n"));
    assert_eq!(page(&url("http", &plain, "/healthz"), None), ok(200, "ok\n"));
    let untrusted = page(&url("https", &secure, "/healthz"), Some(&trust[1])).expect_err("it is not trusted");
    assert!(untrusted.contains("certificate"), "{untrusted}");
    assert!(page(&url("https", &plain, "/healthz"), Some(&trust[0])).is_err(), "there is no TLS");
    let metrics = page(&url("https", &secure, "/metrics"), Some(&trust[0])).expect("a page");
    assert!(metrics.0 == 200 && metrics.1.contains("arcp_sessions 0"), "{metrics:?}");
}

#[test]
fn nobody_is_waited_for_longer_than_is_said() {
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("http://127.0.0.1:{}/", silent.local_addr().expect("an address").port());
    let agent = agent(Duration::from_millis(50), None).expect("what asks");
    assert!(agent.get(&url).call().is_err());
}
