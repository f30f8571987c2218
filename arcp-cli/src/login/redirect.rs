//! Where a browser brings the answer of a provider: a port of this machine that listens
//! for one sign-in (RFC 8252 §7.3).

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use arcp_host::auth::form_fields;
use arcp_proto::secret::{Secret, SecretDigest};

const PATH: &str = "/callback";
/// The longest request line, in bytes.
const LINE: u64 = 16 * 1024;
/// How long a browser may take to send that line.
const SAYING: Duration = Duration::from_secs(5);

/// A port that waits for one answer.
pub(super) struct Redirect {
    port: u16,
    answers: Receiver<Result<Secret, String>>,
}

/// What a valid answer contains.
struct Expected {
    state: SecretDigest,
    issuer: String,
    answers: SyncSender<Result<Secret, String>>,
}

impl Redirect {
    /// Listens for the answer to a request with this state.
    pub(super) fn listen(state: &Secret, issuer: &str) -> io::Result<Redirect> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let (answered, answers) = sync_channel(1);
        let expected = Arc::new(Expected { state: state.digest(), issuer: issuer.to_string(), answers: answered });
        // Browsers open connections on which they send nothing: each connection has a thread, and all threads end with
        // this program.
        let accept = move || {
            for browser in listener.incoming().map_while(Result::ok) {
                let expected = expected.clone();
                let _ = std::thread::Builder::new().spawn(move || expected.answer(&browser));
            }
        };
        std::thread::Builder::new().name("redirect".to_string()).spawn(accept)?;
        Ok(Redirect { port, answers })
    }

    /// The redirect URL.
    pub(super) fn address(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// Waits for the authorization code, or the error of the provider.
    pub(super) fn wait(&self, patience: Duration) -> Result<Secret, String> {
        self.answers.recv_timeout(patience).unwrap_or_else(|_| Err("nobody signed in".to_string()))
    }
}

impl Expected {
    /// Answers a browser. A request that is no answer to our own has no effect.
    fn answer(&self, mut browser: &TcpStream) {
        let (status, page) = match target(browser).and_then(|target| self.read(&target)) {
            Some(answer) => {
                // After the first answer nobody waits for another.
                let _ = self.answers.try_send(answer);
                ("200 OK", "arcp has the answer: you can close this page.")
            }
            None => ("400 Bad Request", "this is not the answer that arcp waits for."),
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncache-control: no-store\r\n");
        let length = page.len();
        let _ =
            browser.write_all(format!("{head}content-length: {length}\r\nconnection: close\r\n\r\n{page}").as_bytes());
    }

    /// The code or the error in a request target; `None` if it is not about our request.
    fn read(&self, target: &str) -> Option<Result<Secret, String>> {
        let query = target.strip_prefix(PATH)?.strip_prefix('?')?;
        let fields = form_fields(query);
        let field = |name: &str| fields.iter().find(|(named, _)| named == name).map(|(_, value)| value.as_str());
        if Secret::new(field("state")?.to_string()).digest() != self.state {
            return None;
        }
        // RFC 9207: an answer of another provider is refused.
        if field("iss").is_some_and(|iss| iss != self.issuer) {
            return Some(Err("the answer is of another provider".to_string()));
        }
        if let Some(error) = field("error") {
            return Some(Err(error.chars().filter(|c| !c.is_control()).take(200).collect()));
        }
        field("code").map(|code| Ok(Secret::new(code.to_string())))
    }
}

/// The target in the first line of a browser's request.
fn target(browser: &TcpStream) -> Option<String> {
    browser.set_read_timeout(Some(SAYING)).ok()?;
    let mut reader = BufReader::new(browser.take(LINE));
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.strip_prefix("GET ")?.split(' ');
    let target = words.next()?.to_string();
    // If the rest were left unread, closing the connection could discard the answer.
    let mut rest = String::new();
    while reader.read_line(&mut rest).ok()? > 2 {
        rest.clear();
    }
    Some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_our_own_request_is_one() {
        let (answers, _kept) = sync_channel(1);
        let state = Secret::new("st4te".to_string());
        let expected = Expected { state: state.digest(), issuer: "https://login.example".into(), answers };
        let code = |target: &str| expected.read(target).map(|answer| answer.map(|code| code.expose().to_string()));
        assert_eq!(code("/callback?code=a%20b&state=st4te"), Some(Ok("a b".to_string())));
        assert_eq!(code("/callback?state=st4te&code=c&iss=https%3A%2F%2Flogin.example"), Some(Ok("c".to_string())));
        assert!(matches!(code("/callback?state=st4te&code=c&iss=https://evil.example"), Some(Err(_))));
        assert_eq!(code("/callback?error=access_denied&state=st4te"), Some(Err("access_denied".to_string())));
        for other in [
            "/callback?code=c",
            "/callback?code=c&state=other",
            "/callback?state=st4te",
            "/callback",
            "/",
            "/favicon.ico",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }
}
