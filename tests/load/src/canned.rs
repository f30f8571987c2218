//! A server without logic: it answers each request with prepared frames, into which it writes ids and numbers. The
//! figures of this server are the ceiling of what the load generator can measure for any server.
//!
//! It can be told to misbehave, to prove that the generator notices.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};

use mio::{Events, Interest, Poll, Token};
use serde::Deserialize;

use crate::fault::Fault;
use crate::frames::Family;
use crate::link::{Link, Outbox, Scratch};

/// How many bytes are prepared ahead for one connection.
const AHEAD: usize = 256 << 10;
const LISTENER: Token = Token(usize::MAX);

/// A way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Leaves out the third event of a job, and its number.
    EventMissing,
    /// Leaves out the third event of a job, and numbers the others as if there had been none.
    EventForgotten,
    /// Sends the third event of a job twice.
    EventTwice,
    /// Ends a job before its last event.
    EndsEarly,
    /// Gives every job the result of another one.
    ResultOfAnother,
    /// Sends an end twice.
    EndsTwice,
    /// Leaves out the last byte of each piece.
    PieceCut,
    /// Accepts a request that no client made.
    AcceptsAnother,
    /// Refuses every job.
    Refuses,
    /// Sends half a frame as if it were one.
    HalfAFrame,
    /// Closes the connection instead of an answer.
    Closes,
}

/// The listener, and the state of each connection.
#[derive(Debug)]
pub struct Canned {
    listener: mio::net::TcpListener,
    address: SocketAddr,
    wrong: Option<Wrong>,
    synced: Option<File>,
    peers: Vec<Option<Peer>>,
}

#[derive(Debug)]
struct Peer {
    link: Link,
    said: Saying,
}

/// The state of what is sent on one connection.
#[derive(Debug)]
struct Saying {
    family: Family,
    wrong: Option<Wrong>,
    number: u64,
    job: u64,
    stream: Option<Stream>,
    // These buffers are used again for each frame.
    payload: String,
    text: String,
}

/// A job whose events are being sent.
#[derive(Debug)]
struct Stream {
    request: String,
    job: u64,
    next: u64,
    count: u64,
    /// The piece that is sent each time; `None` for metrics.
    piece: Option<String>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    payload: Asked<'a>,
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(alias = "tool")]
    agent: Option<&'a str>,
    #[serde(alias = "arguments")]
    input: Option<Input>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Input {
    n: u64,
    count: u64,
    chunks: u64,
    bytes: u64,
}

impl Canned {
    /// Listens on a free port.
    ///
    /// # Errors No port is free.
    pub fn bind() -> std::io::Result<Canned> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let listener = mio::net::TcpListener::from_std(listener);
        Ok(Canned { listener, address, wrong: None, synced: None, peers: Vec::new() })
    }

    /// The address at which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes it misbehave.
    #[must_use]
    pub fn that(mut self, wrong: Wrong) -> Canned {
        self.wrong = Some(wrong);
        self
    }

    /// Makes it write everything to a file as well, and sync the file before it sends: once for all that is sent at a
    /// time.
    #[must_use]
    pub fn synced(mut self, file: File) -> Canned {
        self.synced = Some(file);
        self
    }

    /// Serves for ever.
    ///
    /// # Errors
    /// The listener or the file fails.
    pub fn run(mut self) -> std::io::Result<()> {
        let (mut poll, mut ready) = (Poll::new()?, Events::with_capacity(1024));
        let mut scratch = Scratch::default();
        poll.registry().register(&mut self.listener, LISTENER, Interest::READABLE)?;
        loop {
            poll.poll(&mut ready, None)?;
            for event in &ready {
                match event.token() {
                    LISTENER => self.accept(&poll)?,
                    Token(at) if event.is_readable() => {
                        if self.peers[at].as_mut().is_some_and(|peer| peer.hear(&mut scratch).is_err()) {
                            self.peers[at] = None;
                        }
                    }
                    Token(_) => {}
                }
            }
            self.say(&ready)?;
        }
    }

    fn accept(&mut self, poll: &Poll) -> std::io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let Ok(mut link) = Link::accepted(stream.into()) else { continue };
            let free = self.peers.iter().rposition(Option::is_none);
            let at = free.unwrap_or(self.peers.len());
            poll.registry().register(&mut link.stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
            let said = Saying {
                family: Family::Hello,
                wrong: self.wrong,
                number: 0,
                job: 0,
                stream: None,
                payload: String::new(),
                text: String::new(),
            };
            let peer = Some(Peer { link, said });
            match self.peers.get_mut(at) {
                Some(gone) => *gone = peer,
                None => self.peers.push(peer),
            }
        }
    }

    /// Writes to all connections that were read or can take more, until none can.
    fn say(&mut self, ready: &Events) -> std::io::Result<()> {
        let mut more = true;
        while more {
            more = false;
            let mut written = false;
            let heard = || ready.iter().map(|event| event.token()).filter(|token| *token != LISTENER);
            for Token(at) in heard() {
                if let Some(peer) = &mut self.peers[at] {
                    peer.said.go_on(&mut peer.link.outbox);
                    if let Some(file) = &mut self.synced {
                        file.write_all(peer.link.outbox.waiting())?;
                        written |= !peer.link.outbox.is_empty();
                    }
                }
            }
            if let Some(file) = self.synced.as_mut().filter(|_| written) {
                file.sync_data()?;
            }
            for Token(at) in heard() {
                if let Some(peer) = &mut self.peers[at] {
                    match peer.link.flush() {
                        Ok(()) => more |= peer.link.outbox.is_empty() && peer.said.stream.is_some(),
                        Err(_) => self.peers[at] = None,
                    }
                }
            }
        }
        Ok(())
    }
}

impl Peer {
    fn hear(&mut self, scratch: &mut Scratch) -> Result<(), Fault> {
        let said = &mut self.said;
        self.link.receive(scratch, |outbox, text| said.answer(text, outbox))
    }
}

impl Saying {
    fn answer(&mut self, text: &[u8], outbox: &mut Outbox) -> Result<(), Fault> {
        let Request { kind, id, payload } =
            serde_json::from_slice(text).map_err(|error| Fault::Unread(error.to_string()))?;
        match kind {
            "session.hello" => self.welcome(Family::Hello, id, outbox),
            "session.open" => self.welcome(Family::Open, id, outbox),
            _ => return self.job(id, &payload, outbox),
        }
        Ok(())
    }

    fn welcome(&mut self, family: Family, id: &str, outbox: &mut Outbox) {
        self.family = family;
        let text = match family {
            Family::Hello => r#"{"arcp":"1.1","id":"msg_01M81TSK340YTDTV8MG36V026R","type":"session.welcome","session_id":"sess_01M81TSK340YTDTV8MG36V026Q","payload":{"runtime":{"name":"canned","version":"1"},"session_id":"sess_01M81TSK340YTDTV8MG36V026Q","accepted_at":"2026-11-22T14:33:05.892Z","resume_token":"rtk_YW167vpvKft3YG0JwoaTtMkgff7mBN6Lqlk4tOXs_NU","resume_window_sec":600,"capabilities":{"encodings":["json"],"features":["progress","result_chunk"],"agents":[{"name":"chatty","versions":[]},{"name":"chunker","versions":[]},{"name":"echo","versions":["1.0.0","2.0.0"],"default":"2.0.0"}]}}}"#.to_string(),
            Family::Open => format!(r#"{{"arcp":"1.1","id":"msg_01M81TSKBFG4HYJHB5WXYK8PCE","timestamp":"2026-11-22T14:33:06.159Z","session_id":"sess_01M81TSKBEEEA94GMFG73D94RP","correlation_id":"{id}","type":"session.accepted","payload":{{"session_id":"sess_01M81TSKBEEEA94GMFG73D94RP","runtime":{{"kind":"canned","version":"1"}},"capabilities":{{"result_chunk":true,"heartbeat_recovery":"fail","extensions":[],"agents":[{{"name":"chatty","versions":[]}},{{"name":"chunker","versions":[]}},{{"name":"echo","versions":["1.0.0","2.0.0"],"default":"2.0.0"}}]}}}}}}"#),
        };
        outbox.push(text.as_bytes());
    }

    fn job(&mut self, id: &str, asked: &Asked<'_>, outbox: &mut Outbox) -> Result<(), Fault> {
        let (Some(agent), Some(input)) = (asked.agent, &asked.input) else {
            return Err(Fault::Unread("a request for nothing".to_string()));
        };
        if self.wrong == Some(Wrong::Closes) {
            return Err(Fault::Closed);
        }
        self.job += 1;
        let job = self.job;
        self.begin(if self.wrong == Some(Wrong::AcceptsAnother) { "msg_01J7" } else { id }, job, outbox);
        match agent {
            "echo" => {
                let n = input.n + u64::from(self.wrong == Some(Wrong::ResultOfAnother));
                self.end(id, job, &format!(r#""result":{{"n":{n}}}"#), outbox);
            }
            "chunker" => {
                let bytes = input.bytes as usize - usize::from(self.wrong == Some(Wrong::PieceCut));
                let piece = "abcdefghijklmnopqrstuvwxyz".repeat(bytes / 26 + 1)[..bytes].to_string();
                let (request, count) = (id.to_string(), input.chunks);
                self.stream = Some(Stream { request, job, next: 0, count, piece: Some(piece) });
            }
            _ => {
                let (request, count) = (id.to_string(), input.count);
                self.stream = Some(Stream { request, job, next: 0, count, piece: None });
            }
        }
        Ok(())
    }

    /// Writes as much of the job's frames as is prepared ahead.
    fn go_on(&mut self, outbox: &mut Outbox) {
        let Some(mut stream) = self.stream.take() else { return };
        let last = stream.count - u64::from(self.wrong == Some(Wrong::EndsEarly));
        while stream.next < last && outbox.len() < AHEAD {
            self.event(&stream, outbox);
            stream.next += 1;
        }
        if stream.next < last {
            self.stream = Some(stream);
            return;
        }
        let result = match &stream.piece {
            None => format!(r#""result":{{"emitted":{}}}"#, stream.count),
            Some(piece) => format!(r#""result_id":"res_1","result_size":{}"#, stream.count * piece.len() as u64),
        };
        self.end(&stream.request, stream.job, &result, outbox);
    }

    fn begin(&mut self, request: &str, job: u64, outbox: &mut Outbox) {
        if self.wrong == Some(Wrong::Refuses) {
            let text = match self.family {
                Family::Hello => format!(
                    r#"{{"arcp":"1.1","id":"msg_1","type":"session.error","session_id":"sess_1","payload":{{"code":"RESOURCE_EXHAUSTED","message":"not \"now\"","request_id":"{request}"}}}}"#
                ),
                Family::Open => format!(
                    r#"{{"arcp":"1.1","id":"msg_1","type":"nack","correlation_id":"{request}","payload":{{"code":"RESOURCE_EXHAUSTED","message":"not \"now\""}}}}"#
                ),
            };
            return outbox.push(text.as_bytes());
        }
        match self.family {
            Family::Hello => {
                let text = format!(
                    r#"{{"arcp":"1.1","id":"msg_01M81TSK376XG7VK15D6TP5JBH","type":"job.accepted","session_id":"sess_01M81TSK340YTDTV8MG36V026Q","job_id":"job_{job:026}","trace_id":"a955e85f0e7954d110a53079691136d1","payload":{{"job_id":"job_{job:026}","agent":"canned","lease":{{}},"accepted_at":"2026-11-22T14:33:05.894Z","trace_id":"a955e85f0e7954d110a53079691136d1","request_id":"{request}"}}}}"#
                );
                outbox.push(text.as_bytes());
                self.frame(
                    request,
                    job,
                    r#"job.event"#,
                    r#""kind":"status","ts":"2026-11-22T14:33:05.895Z","body":{"phase":"running"}"#,
                    outbox,
                );
            }
            Family::Open => {
                let at =
                    format!(r#""job_id":"job_{job:026}","agent":"canned","accepted_at":"2026-11-22T14:33:06.159Z""#);
                self.frame(request, job, "job.accepted", &at, outbox);
                let at = format!(r#""job_id":"job_{job:026}","started_at":"2026-11-22T14:33:06.159Z""#);
                self.frame(request, job, "job.started", &at, outbox);
            }
        }
    }

    fn event(&mut self, stream: &Stream, outbox: &mut Outbox) {
        let Stream { request, job, next, count, piece } = stream;
        let third = *next == 2;
        if third && self.wrong == Some(Wrong::EventForgotten) {
            return;
        }
        if third && self.wrong == Some(Wrong::EventMissing) {
            self.number += 1;
            return;
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        if self.family == Family::Hello {
            let kind = if piece.is_some() { "result_chunk" } else { "metric" };
            let _ = write!(payload, r#""kind":"{kind}","ts":"2026-11-22T14:33:05.896Z","body":{{"#);
        }
        let _ = match piece {
            None => write!(payload, r#""name":"tick","value":{next},"unit":"count""#),
            Some(piece) => write!(
                payload,
                r#""result_id":"res_1","chunk_seq":{next},"data":"{piece}","encoding":"utf8","more":{}"#,
                next + 1 < *count
            ),
        };
        let kind = match (self.family, piece) {
            (Family::Hello, _) => "job.event",
            (Family::Open, None) => "metric",
            (Family::Open, Some(_)) => "job.result_chunk",
        };
        if self.family == Family::Hello {
            payload.push('}');
        }
        for _ in 0..1 + u8::from(third && self.wrong == Some(Wrong::EventTwice)) {
            self.frame(request, *job, kind, &payload, outbox);
        }
        self.payload = payload;
    }

    fn end(&mut self, request: &str, job: u64, result: &str, outbox: &mut Outbox) {
        for _ in 0..1 + u8::from(self.wrong == Some(Wrong::EndsTwice)) {
            match self.family {
                Family::Hello => {
                    let payload = format!(
                        r#""final_status":"success","job_id":"job_{job:026}",{result},"completed_at":"2026-11-22T14:33:05.896Z""#
                    );
                    self.frame(request, job, "job.result", &payload, outbox);
                }
                Family::Open => self.frame(request, job, "job.completed", result, outbox),
            }
        }
    }

    /// Writes a numbered frame of a job.
    fn frame(&mut self, request: &str, job: u64, kind: &str, payload: &str, outbox: &mut Outbox) {
        self.number += 1;
        let number = self.number;
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let _ = match self.family {
            Family::Hello => write!(
                text,
                r#"{{"arcp":"1.1","id":"msg_01M81TSK37G36V026Q{number:08}","type":"{kind}","session_id":"sess_01M81TSK340YTDTV8MG36V026Q","job_id":"job_{job:026}","trace_id":"a955e85f0e7954d110a53079691136d1","event_seq":{number},"payload":{{{payload}}}}}"#
            ),
            Family::Open => write!(
                text,
                r#"{{"arcp":"1.1","id":"msg_01M81TSKBHG73D94RP{number:08}","timestamp":"2026-11-22T14:33:06.161Z","session_id":"sess_01M81TSKBEEEA94GMFG73D94RP","job_id":"job_{job:026}","trace_id":"9728d3941e71097912c12249f304284e","correlation_id":"{request}","event_seq":{number},"type":"{kind}","payload":{{{payload}}}}}"#
            ),
        };
        if self.wrong == Some(Wrong::HalfAFrame) {
            text.truncate(text.len() / 2);
        }
        outbox.push(text.as_bytes());
        self.text = text;
    }
}
