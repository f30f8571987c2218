//! Requests by HTTPS, to servers that are trusted and to others.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use arcp_blocking::Trust;
use arcp_host::https::agent;
use arcp_host::store::MemoryStore;
use arcp_tests::certificates::Pair;
use arcp_tests::server::{PATIENCE, Running};
use rustls::{ServerConnection, StreamOwned};

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
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("http://127.0.0.1:{}/", silent.local_addr().expect("an address").port());
    let agent = agent(Duration::from_millis(50), None).expect("what asks");
    assert!(agent.get(&url).call().is_err());
}

#[test]
fn an_answer_whose_head_comes_in_several_pieces_is_read_whole() {
    let pair = Pair::new("https-pieces", &["localhost"]);
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("https://localhost:{}/", listener.local_addr().expect("an address").port());
    let config = pair.read().config_for(b"http/1.1");
    let answering = thread::spawn(move || {
        let (socket, _) = listener.accept().expect("somebody asks");
        let mut stream = StreamOwned::new(ServerConnection::new(config).expect("a session"), socket);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("it asks");
            request.extend(byte);
        }
        // Longer than what TLS takes for one.
        let padding = "x".repeat(24 << 10);
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nx-padding: {padding}\r\n\r\nok\n");
        stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).expect("it is read");
    });
    let trust = Trust::Authorities(pair.certificate());
    assert_eq!(page(&url, Some(&trust)), Ok((200, "ok\n".to_string())));
    answering.join().expect("it was answered");
}
