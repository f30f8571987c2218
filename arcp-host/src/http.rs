//! The HTTP requests that precede WebSockets, and the few other pages: bytes in, bytes out.

use std::io;

use arcp_proto::secret::Secret;
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use crate::client::is_loopback;

/// The largest request head, in bytes.
const HEAD_BYTES: usize = 16 << 10;
const HEADERS: usize = 64;
/// The headers by which a proxy says that it forwards a request.
const FORWARDED: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

/// The content type of a body with one frame per line.
pub const LINES: &str = "application/x-ndjson";

/// The hosts and origins that may make requests, and the path.
#[derive(Clone, Debug)]
pub struct UpgradePolicy {
    pub(crate) path: String,
    /// Host names in addition to those of the loopback.
    pub(crate) hosts: Vec<String>,
    pub(crate) origins: Vec<String>,
}

/// What to do with the bytes of a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The head is not complete.
    More,
    /// The connection becomes a WebSocket: write the response; the request head has so many bytes.
    Upgrade { response: String, head: usize },
    /// A page is requested.
    Page(Page),
    /// Write this response and close.
    Refuse(String),
}

/// A page beside the WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// Whether the runtime works.
    Health,
    /// Whether new jobs are accepted.
    Ready,
    /// Counts of everything, for the holder of this token.
    Stats(Option<Secret>),
    /// The metrics.
    Metrics(Scrape),
}

/// A request for the metrics.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scrape {
    /// The token of the request.
    pub(crate) bearer: Option<Secret>,
    /// Whether the request names this machine and was not forwarded: only then its origin is known
    /// to be the address of the connection.
    pub(crate) direct: bool,
    /// Whether the client accepts OpenMetrics; otherwise it gets Prometheus text.
    pub(crate) open_metrics: bool,
}

impl UpgradePolicy {
    /// Judges a request head.
    pub(crate) fn answer(&self, bytes: &[u8]) -> Answer {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(head)) => self.judge(&request, head),
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES => Answer::More,
            Ok(httparse::Status::Partial) => {
                refuse(431, "Request Header Fields Too Large", "the request head is too large")
            }
            Err(_) => refuse(400, "Bad Request", "not an HTTP request"),
        }
    }

    /// Judges a request for this path that another HTTP server has read. Returns the whole head and
    /// text of the response. Status 101 means that the connection becomes a WebSocket.
    pub fn judge_read<'a>(&self, method: &str, headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
        let mut headers: Vec<httparse::Header<'_>> =
            headers.map(|(name, value)| httparse::Header { name, value }).collect();
        let mut request = httparse::Request::new(&mut headers);
        (request.method, request.path) = (Some(method), Some(self.path.as_str()));
        match self.judge(&request, 0) {
            Answer::Upgrade { response, .. } | Answer::Refuse(response) => response,
            // Only requests for other paths give these.
            Answer::More | Answer::Page(_) => response(404, "Not Found", "nothing is served here"),
        }
    }

    /// Judges a request for an HTTP/2 stream whose bodies hold one frame per line. `authority` is
    /// that of the request.
    ///
    /// # Errors
    ///
    /// The status of the refusal, and what is wrong.
    pub fn judge_stream<'a>(
        &self,
        method: &str,
        path: &str,
        authority: Option<&str>,
        headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<(), (u16, &'static str)> {
        let (mut host, mut origin, mut content_type) = (Ok(authority), Ok(None), Ok(None));
        for (name, value) in headers {
            let held = match name {
                // If `host` and `authority` differed, the judged one might not be the intended one.
                "host" if authority.is_some_and(|authority| authority.as_bytes() == value) => continue,
                "host" => &mut host,
                "origin" => &mut origin,
                "content-type" => &mut content_type,
                _ => continue,
            };
            *held = match (&held, std::str::from_utf8(value)) {
                (Ok(None), Ok(value)) => Ok(Some(value.trim())),
                (Ok(None | Some(_)) | Err(()), _) => Err(()),
            };
        }
        if method != "POST" {
            return Err((405, "only POST is served"));
        }
        if !host.is_ok_and(|host| host.is_some_and(|host| self.allows_host(host))) {
            return Err((421, "this host name is not served here: see --allow-host"));
        }
        if !origin.is_ok_and(|origin| origin.is_none_or(|origin| self.allows_origin(origin))) {
            return Err((403, "this origin is not allowed: see --allow-origin"));
        }
        let path = path.split('?').next().unwrap_or_default();
        if path != self.path && path != "/" {
            return Err((404, "nothing is served at this path"));
        }
        let is_lines = |given: &str| given.split(';').next().is_some_and(|of| of.trim().eq_ignore_ascii_case(LINES));
        if !content_type.is_ok_and(|given: Option<&str>| given.is_some_and(is_lines)) {
            return Err((415, "the body is to have the type application/x-ndjson"));
        }
        Ok(())
    }

    fn judge(&self, request: &httparse::Request<'_, '_>, head: usize) -> Answer {
        let header = |name: &str| {
            let mut found = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
            let first = found.next().and_then(|h| std::str::from_utf8(h.value).ok());
            if found.next().is_some() { None } else { first.map(str::trim) }
        };
        if request.method != Some("GET") {
            return refuse(405, "Method Not Allowed", "only GET is served");
        }
        // Keeps out a web page whose domain name was made to point to this address.
        if !header("host").is_some_and(|host| self.allows_host(host)) {
            return refuse(421, "Misdirected Request", "this host name is not served here: see --allow-host");
        }
        // Browsers always send an origin; other programs do not.
        if request.headers.iter().any(|h| h.name.eq_ignore_ascii_case("origin"))
            && !header("origin").is_some_and(|origin| self.allows_origin(origin))
        {
            return refuse(403, "Forbidden", "this origin is not allowed: see --allow-origin");
        }
        let bearer = || {
            let token = header("authorization").and_then(|given| given.strip_prefix("Bearer "));
            token.map(|token| Secret::new(token.trim().to_string()))
        };
        let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
        match path {
            "/healthz" => Answer::Page(Page::Health),
            "/readyz" => Answer::Page(Page::Ready),
            "/stats" => Answer::Page(Page::Stats(bearer())),
            "/metrics" => {
                let forwarded = |name: &str| FORWARDED.iter().any(|forwarded| name.eq_ignore_ascii_case(forwarded));
                let is_forwarded = request.headers.iter().any(|h| forwarded(h.name));
                let is_named_here = header("host").is_some_and(|host| is_loopback(host_name(host)));
                let accepted = header("accept").unwrap_or_default().split([',', ';']);
                let open_metrics = accepted.map(str::trim).any(|kind| kind == "application/openmetrics-text");
                let direct = is_named_here && !is_forwarded;
                Answer::Page(Page::Metrics(Scrape { bearer: bearer(), direct, open_metrics }))
            }
            // Published clients are given an address without a path, and request `/`.
            path if path == self.path || path == "/" => {
                let version = header("sec-websocket-version") == Some("13");
                let upgrade = header("upgrade").is_some_and(|to| lists(to, "websocket"))
                    && header("connection").is_some_and(|c| lists(c, "upgrade"));
                match header("sec-websocket-key") {
                    Some(key) if upgrade && version && key.len() == 24 => {
                        Answer::Upgrade { response: switch(key), head }
                    }
                    _ => Answer::Refuse(
                        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade, close\r\n\
                         Sec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n"
                            .to_string(),
                    ),
                }
            }
            _ => refuse(404, "Not Found", "nothing is served at this path"),
        }
    }

    fn allows_origin(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed == origin)
    }

    fn allows_host(&self, host: &str) -> bool {
        let name = host_name(host);
        is_loopback(name) || self.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }
}

/// The host name without its port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host
            .rsplit_once(':')
            .map_or(host, |(name, port)| if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host }),
    }
}

fn lists(header: &str, token: &str) -> bool {
    header.split(',').any(|item| item.trim().eq_ignore_ascii_case(token))
}

fn switch(key: &str) -> String {
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

fn refuse(status: u16, name: &str, why: &str) -> Answer {
    Answer::Refuse(response(status, name, why))
}

/// A whole plain-text response; the connection ends after it.
pub(crate) fn response(status: u16, name: &str, text: &str) -> String {
    response_of(status, name, "text/plain; charset=utf-8", &format!("{text}\n"))
}

/// A whole response with another content type.
pub(crate) fn response_of(status: u16, name: &str, content_type: &str, text: &str) -> String {
    format!(
        "HTTP/1.1 {status} {name}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    )
}

/// The request for a WebSocket, and the accept key that the response must have: see [`upgraded`].
pub fn upgrade_request(host: &str, path: &str) -> (String, String) {
    let key = generate_key();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    (request, derive_accept_key(key.as_bytes()))
}

/// A request for a page, with a token.
pub fn page_request(host: &str, path: &str, token: &Secret) -> String {
    let token = token.expose();
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n")
}

/// The text of a whole response with status 200.
pub fn page(bytes: &[u8]) -> Option<&str> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) if response.code == Some(200) => std::str::from_utf8(&bytes[head..]).ok(),
        Ok(httparse::Status::Complete(_) | httparse::Status::Partial) | Err(_) => None,
    }
}

/// Judges the response to an upgrade request: returns the length of its head, once it is complete.
///
/// # Errors
///
/// As [`refused`], or `Unsupported` for bytes that no WebSocket server sends.
pub fn upgraded(bytes: &[u8], accept: &str) -> io::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES => Ok(None),
        Ok(httparse::Status::Complete(head)) if response.code == Some(101) => {
            let given = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case("sec-websocket-accept"));
            match given {
                Some(given) if given.value == accept.as_bytes() => Ok(Some(head)),
                _ => Err(unsupported("the server did not prove that it speaks WebSocket")),
            }
        }
        Ok(httparse::Status::Complete(head)) => {
            let text = String::from_utf8_lossy(&bytes[head..]);
            Err(refused(response.code.unwrap_or(0), &text))
        }
        Ok(httparse::Status::Partial) | Err(_) => Err(unsupported("the server does not speak HTTP")),
    }
}

/// The response of a server that opens no session: `Unsupported` if it would answer the same request in the same way
/// again.
pub fn refused(status: u16, said: &str) -> io::Error {
    let kind = match status {
        // Too late, too early, too many, or a server that restarts.
        408 | 425 | 429 | 500..=599 => io::ErrorKind::Other,
        _ => io::ErrorKind::Unsupported,
    };
    io::Error::new(kind, format!("the server answered {status}: {}", said.trim()))
}

fn unsupported(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_the_text_of_a_whole_answer_that_says_200() {
        assert_eq!(page(response(200, "OK", "it runs").as_bytes()), Some("it runs\n"));
        assert_eq!(page(response(503, "Service Unavailable", "it ends").as_bytes()), None);
        assert_eq!([page(b"HTTP/1.1 200 OK\r\nContent-Le"), page(b"SSH-2.0"), page(b"")], [None; 3]);
    }

    fn policy() -> UpgradePolicy {
        UpgradePolicy {
            path: "/arcp".to_string(),
            hosts: vec!["arcp.example".to_string()],
            origins: vec!["https://ok.example".to_string()],
        }
    }

    fn ask(head: &str) -> Answer {
        let rest = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        policy().answer(format!("{head}{rest}\r\n").as_bytes())
    }

    fn status(answer: &Answer) -> u16 {
        match answer {
            Answer::Refuse(text) => text[9..12].parse().unwrap_or(0),
            Answer::Upgrade { .. } => 101,
            Answer::Page(_) => 200,
            Answer::More => 0,
        }
    }

    #[test]
    fn hosts_and_origins_are_judged_before_the_upgrade() {
        for (head, expected) in [
            ("GET /arcp HTTP/1.1\r\nHost: localhost:7777\r\n", 101),
            ("GET /arcp HTTP/1.1\r\nHost: 127.0.0.1\r\n", 101),
            ("GET /arcp?x=1 HTTP/1.1\r\nHost: [::1]:80\r\n", 101),
            ("GET /arcp HTTP/1.1\r\nHost: [::ffff:127.0.0.1]\r\n", 101),
            ("GET /arcp HTTP/1.1\r\nHost: ARCP.example:1\r\n", 101),
            ("GET /arcp HTTP/1.1\r\nHost: evil.example\r\n", 421),
            ("GET /arcp HTTP/1.1\r\nHost: localhost.evil.example\r\n", 421),
            ("GET /arcp HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", 421),
            ("GET /arcp HTTP/1.1\r\n", 421),
            ("GET /arcp HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n", 403),
            ("GET /arcp HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n", 403),
            ("GET /arcp HTTP/1.1\r\nHost: localhost\r\nOrigin: https://ok.example.evil\r\n", 403),
            ("GET /arcp HTTP/1.1\r\nHost: localhost\r\nOrigin: https://ok.exampl\r\n", 403),
            ("GET /arcp HTTP/1.1\r\nHost: arcp.example.evil\r\n", 421),
            ("GET /arcp HTTP/1.1\r\nHost: localhost\r\nOrigin: https://ok.example\r\n", 101),
            ("GET /arcp/ HTTP/1.1\r\nHost: localhost\r\n", 404),
            ("GET / HTTP/1.1\r\nHost: localhost\r\n", 101),
            ("GET / HTTP/1.1\r\nHost: evil.example\r\n", 421),
            ("POST /arcp HTTP/1.1\r\nHost: localhost\r\n", 405),
            ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n", 200),
            ("GET /readyz HTTP/1.1\r\nHost: localhost\r\n", 200),
            ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n", 421),
            ("GET /stats HTTP/1.1\r\nHost: localhost\r\n", 200),
            ("GET /stats HTTP/1.1\r\nHost: evil.example\r\n", 421),
            ("GET /stats HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n", 403),
            ("nonsense\r\n", 400),
        ] {
            assert_eq!(status(&ask(head)), expected, "{head}");
        }
        let plain = policy().answer(b"GET /arcp HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(status(&plain), 426);
        assert_eq!(policy().answer(b"GET /arcp HT"), Answer::More);
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_BYTES));
        assert_eq!(status(&policy().answer(long.as_bytes())), 431);
    }

    #[test]
    fn a_stream_of_http2_is_judged_as_an_upgrade_and_by_its_type() {
        let lines = ("content-type", LINES);
        for (method, path, authority, headers, expected) in [
            ("POST", "/arcp", Some("localhost:1"), vec![lines], 200),
            ("POST", "/", Some("arcp.example"), vec![lines], 200),
            ("POST", "/arcp?a", None, vec![("host", "localhost"), lines], 200),
            ("POST", "/arcp", Some("localhost"), vec![("host", "localhost"), lines], 200),
            ("POST", "/arcp", Some("localhost"), vec![("origin", "https://ok.example"), lines], 200),
            ("POST", "/arcp", Some("localhost"), vec![("content-type", "Application/X-NDJSON; charset=utf-8")], 200),
            ("GET", "/arcp", Some("localhost"), vec![lines], 405),
            ("POST", "/arcp", Some("evil.example"), vec![lines], 421),
            ("POST", "/arcp", Some("localhost"), vec![("host", "evil.example"), lines], 421),
            ("POST", "/arcp", None, vec![("host", "localhost"), ("host", "localhost"), lines], 421),
            ("POST", "/arcp", None, vec![lines], 421),
            ("POST", "/arcp", Some("localhost"), vec![("origin", "https://evil.example"), lines], 403),
            ("POST", "/healthz", Some("localhost"), vec![lines], 404),
            ("POST", "/arcp", Some("localhost"), vec![("content-type", "text/plain")], 415),
            ("POST", "/arcp", Some("localhost"), vec![], 415),
        ] {
            let given = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
            let status =
                policy().judge_stream(method, path, authority, given).map_or_else(|(status, _)| status, |()| 200);
            assert_eq!(status, expected, "{method} {path} {authority:?} {headers:?}");
        }
    }

    #[test]
    fn a_scrape_is_direct_by_a_name_of_this_machine_that_nobody_passed_on() {
        for (head, direct) in [
            ("GET /metrics HTTP/1.1\r\nHost: localhost:7777\r\n", true),
            ("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n", true),
            ("GET /metrics HTTP/1.1\r\nHost: arcp.example\r\n", false),
            ("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.7\r\n", false),
            ("GET /metrics HTTP/1.1\r\nHost: localhost\r\nforwarded: for=203.0.113.7\r\n", false),
        ] {
            let scrape = Scrape { bearer: None, direct, open_metrics: false };
            assert_eq!(ask(head), Answer::Page(Page::Metrics(scrape)), "{head}");
        }
    }

    #[test]
    fn the_accept_key_is_the_one_of_the_rfc() {
        let Answer::Upgrade { response, .. } = ask("GET /arcp HTTP/1.1\r\nHost: localhost\r\n") else {
            panic!("not upgraded");
        };
        assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        let read = |bytes: &[u8], accept: &str| upgraded(bytes, accept).map_err(|error| error.kind());
        assert_eq!(read(response.as_bytes(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), Ok(Some(response.len())));
        assert_eq!(read(response.as_bytes(), "other"), Err(io::ErrorKind::Unsupported));
        assert_eq!(read(b"SSH-2.0-OpenSSH_9.2\r\n", "x"), Err(io::ErrorKind::Unsupported));
    }

    #[test]
    fn a_server_that_answers_anything_but_later_serves_no_sessions() {
        for (status, kind) in [
            (200, io::ErrorKind::Unsupported),
            (400, io::ErrorKind::Unsupported),
            (404, io::ErrorKind::Unsupported),
            (408, io::ErrorKind::Other),
            (425, io::ErrorKind::Other),
            (429, io::ErrorKind::Other),
            (500, io::ErrorKind::Other),
            (503, io::ErrorKind::Other),
        ] {
            let response = format!("HTTP/1.1 {status} x\r\n\r\nwhy\n");
            let error = upgraded(response.as_bytes(), "x").expect_err("no upgrade");
            assert_eq!((error.kind(), error.to_string()), (kind, format!("the server answered {status}: why")));
        }
    }
}
