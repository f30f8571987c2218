//! An identity provider on the loopback, whose answers a test determines, faulty ones too.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use arcp_host::auth::form_fields;
use serde_json::Value;

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// The fields of the query or the form.
    pub form: BTreeMap<String, String>,
    /// The header `authorization`.
    pub authorization: Option<String>,
    /// The header `host`.
    pub host: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Answering {
    /// A JSON document with this status.
    Json(u16, Value),
    /// This text.
    Text(String),
    /// A redirect.
    Redirect(String),
    /// No answer, until the provider is dropped.
    Never,
    /// So many bytes, as long as the client reads.
    Endless(usize),
}

/// A provider. It ends when this is dropped.
pub struct Provider {
    /// The address at which it listens.
    pub address: SocketAddr,
    inner: Arc<Inner>,
    accepting: Option<JoinHandle<()>>,
}

struct Inner {
    answer: Box<dyn Fn(&Asked) -> Answering + Send + Sync>,
    asked: AtomicUsize,
    gone: AtomicBool,
    /// Requests that are never answered wait for the provider's end.
    end: (Mutex<bool>, Condvar),
}

impl Provider {
    /// A provider that answers by this function.
    pub fn start(answer: impl Fn(&Asked) -> Answering + Send + Sync + 'static) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let inner = Arc::new(Inner {
            answer: Box::new(answer),
            asked: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
            end: (Mutex::new(false), Condvar::new()),
        });
        let shared = inner.clone();
        let accept = move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if shared.gone.load(Ordering::SeqCst) {
                    return;
                }
                let shared = shared.clone();
                // Errors of a client that has gone do not matter.
                std::thread::spawn(move || shared.serve(&socket));
            }
        };
        Provider { address, inner, accepting: Some(std::thread::spawn(accept)) }
    }

    /// The URL of this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How many requests have come.
    pub fn asked(&self) -> usize {
        self.inner.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.inner.gone.store(true, Ordering::SeqCst);
        *self.inner.end.0.lock().expect("no panic") = true;
        self.inner.end.1.notify_all();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Inner {
    fn serve(&self, socket: &TcpStream) -> Option<()> {
        let asked = read(socket)?;
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut socket = socket;
        let head = |status: u16, more: &str, length: usize| {
            format!("HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\nconnection: close\r\n{more}\r\n")
        };
        match (self.answer)(&asked) {
            Answering::Json(status, document) => {
                let text = document.to_string();
                let head = head(status, "content-type: application/json\r\n", text.len());
                socket.write_all(format!("{head}{text}").as_bytes()).ok()
            }
            Answering::Text(text) => socket.write_all(format!("{}{text}", head(200, "", text.len())).as_bytes()).ok(),
            Answering::Redirect(to) => socket.write_all(head(302, &format!("location: {to}\r\n"), 0).as_bytes()).ok(),
            Answering::Never => {
                let ended = self.end.0.lock().ok()?;
                let _ended = self.end.1.wait_while(ended, |ended| !*ended).ok()?;
                Some(())
            }
            Answering::Endless(length) => {
                socket.write_all(head(200, "", length).as_bytes()).ok()?;
                (0..length / 1024).try_for_each(|_| socket.write_all(&[b' '; 1024]).ok())
            }
        }
    }
}

fn read(socket: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(socket);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
    let (mut length, mut authorization, mut host) = (0, None, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = Some(value.to_string()),
            "host" => host = value.to_string(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let body = String::from_utf8(body).ok()?;
    let form = form_fields(query).into_iter().chain(form_fields(&body)).collect();
    Some(Asked { method, path: path.to_string(), form, authorization, host })
}
