//! A proxy for models on this machine: it issues keys as LiteLLM documents it, and can misbehave.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use arcp_proto::secret::Secret;
use serde_json::{Value, json};

/// The administrator's key.
pub const MASTER: &str = "sk-master-0123456789";

/// What the proxy does instead of answering `key/generate`, after it has issued the key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It answers with status 500.
    Status500,
    /// It closes the connection.
    Cut,
    /// It answers without JSON.
    Garbage,
    /// It sends less than it announced.
    TooShort,
    /// It sends more than it announced.
    TooLong,
    /// It redirects.
    Redirect,
    /// It answers with megabytes.
    Huge,
    /// It reports that its total budget is used up.
    OverBudget,
}

/// The keys of the proxy, and how it behaves.
#[derive(Default)]
pub struct State {
    /// The valid keys by value, each with the request for it.
    pub keys: BTreeMap<String, Value>,
    /// All requests: method and path, and body.
    pub asked: Vec<(String, Value)>,
    /// How it misbehaves.
    pub fault: Option<Fault>,
    /// Whether requests to delete keys are not answered until [`Proxy::answers_deletes`].
    pub holds_deletes: bool,
    /// Whether it reports that it cannot delete keys.
    pub cannot_delete: bool,
    /// Whether it reports deletions that it has not made.
    pub keeps: bool,
    /// How many keys it has issued.
    pub issued: usize,
}

/// A proxy. It runs for as long as the process.
pub struct Proxy {
    /// The URL at which it listens.
    pub url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panicked")
    }
}

impl Proxy {
    /// Starts a proxy.
    pub fn start() -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::<Shared>::default();
        let own = shared.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let shared = own.clone();
                std::thread::spawn(move || serve(socket, &shared));
            }
        });
        Proxy { url, shared }
    }

    /// The state of the proxy, to be read and changed.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Makes the held deletions, and answers deletions from this time on.
    pub fn answers_deletes(&self) {
        self.state().holds_deletes = false;
        self.shared.released.notify_all();
    }
}

fn serve(mut socket: TcpStream, shared: &Shared) {
    let mut request = Vec::new();
    let mut byte = [0; 1];
    while !request.ends_with(b"\r\n\r\n") {
        if socket.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        request.push(byte[0]);
    }
    let head = String::from_utf8(request).expect("text").to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    socket.read_exact(&mut body).expect("a body");
    assert!(head.contains(&format!("authorization: bearer {MASTER}")), "{head}");
    let path = head.split_whitespace().nth(1).expect("a path").to_string();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let is_held = |state: &mut State| path == "/key/delete" && state.holds_deletes;
    let mut state = shared.released.wait_while(shared.state(), is_held).expect("nobody panicked");
    state.asked.push((path.clone(), body.clone()));
    let (status, answer) = answer(&mut state, &path, &body);
    let fault = state.fault.filter(|_| path == "/key/generate");
    let text = answer.to_string();
    let (status, length, text) = match fault {
        None => (status, text.len(), text),
        Some(Fault::Status500) => (500, text.len(), text),
        Some(Fault::Cut) => return,
        Some(Fault::Garbage) => (200, 9, "<html>...".into()),
        Some(Fault::TooShort) => (200, text.len() + 50, text),
        Some(Fault::TooLong) => (200, 20, text),
        Some(Fault::Redirect) => (307, 0, String::new()),
        Some(Fault::Huge) => (200, 5 << 20, " ".repeat(5 << 20)),
        Some(Fault::OverBudget) => {
            let message = "Budget has been exceeded! Current cost: 5.1, Max budget: 5.0, key sk-1234";
            let text = json!({"error": {"message": message, "type": "budget_exceeded", "code": "400"}}).to_string();
            (400, text.len(), text)
        }
    };
    let location = if status == 307 { "location: /elsewhere\r\n" } else { "" };
    let head = format!("HTTP/1.1 {status} x\r\n{location}content-length: {length}\r\nconnection: close\r\n\r\n");
    let _ = socket.write_all(format!("{head}{text}").as_bytes());
}

/// The answer of a correct proxy.
fn answer(state: &mut State, path: &str, body: &Value) -> (u16, Value) {
    let query = |name: &str| {
        let mut pairs = path.split(['?', '&']).skip(1).filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_string()).unwrap_or_default()
    };
    let hash_of = |value: &str| -> String {
        Secret::new(value.into()).digest().0.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let named = |key: &Value, name: &Value| {
        key["key_alias"].as_str().map(str::to_ascii_lowercase).as_deref()
            == name.as_str().map(str::to_ascii_lowercase).as_deref()
    };
    match path.split('?').next().expect("a path") {
        "/v1/models" => (
            200,
            json!({"data": [{"id": "gpt-4"}, {"id": "gpt-3"}, {"id": "claude-3"}, {"id": "gpt-*"}, {"id": "all-proxy-models"}]}),
        ),
        "/key/generate" => {
            if state.keys.values().any(|key| named(key, &body["key_alias"])) {
                return (400, json!({"error": "Key with alias already exists"}));
            }
            state.issued += 1;
            let own = format!("sk-litellm-{}", state.issued);
            let value = body["key"].as_str().map_or(own, str::to_string);
            let mut key = body.clone();
            key["spend"] = json!(0.0);
            state.keys.insert(value.clone(), key);
            (200, json!({"key": value, "expires": null}))
        }
        "/key/delete" if state.cannot_delete => (500, json!({"error": "out of order"})),
        "/key/delete" => {
            let listed =
                |of: &str, name: &Value| body[of].as_array().is_some_and(|all| all.iter().any(|one| one == name));
            let before = state.keys.len();
            if !state.keeps {
                state.keys.retain(|value, key| {
                    !listed("keys", &json!(hash_of(value))) && !listed("key_aliases", &key["key_alias"])
                });
            }
            match state.keeps || before > state.keys.len() {
                true => (200, json!({"deleted_keys": []})),
                false => (404, json!({"error": "no such key"})),
            }
        }
        "/key/list" => {
            let name = json!(query("key_alias"));
            let keys: Vec<&Value> = state.keys.values().filter(|key| named(key, &name)).collect();
            (200, json!({"keys": keys}))
        }
        "/key/info" => match state.keys.iter().find(|(value, _)| hash_of(value) == query("key")) {
            Some((_, key)) => (200, json!({"info": {"spend": key["spend"], "max_budget": key["max_budget"]}})),
            None => (404, json!({"error": "no such key"})),
        },
        _ => (404, json!({})),
    }
}
