//! `arcp serve --otlp` with the test as its collector, which reads the spans with the published protobuf messages.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::until::until;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector; it keeps what it takes.
struct Collector {
    address: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The status of its answers; `None`: it does not answer.
    status: Mutex<Option<u16>>,
    changed: Condvar,
    heard: Mutex<Heard>,
}

/// What it was sent.
#[derive(Default)]
struct Heard {
    heads: Vec<String>,
    spans: Vec<Span>,
    resource: Vec<(String, String)>,
}

impl Collector {
    fn start(status: Option<u16>) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let inner = Arc::new(Inner { status: Mutex::new(status), ..Inner::default() });
        let shared = inner.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || shared.answer(stream));
            }
        });
        Collector { address, inner }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn answers(&self, status: Option<u16>) {
        *self.inner.status.lock().expect("no panic") = status;
        self.inner.changed.notify_all();
    }

    fn asked(&self) -> usize {
        self.inner.heard.lock().expect("no panic").heads.len()
    }

    fn spans(&self) -> Vec<Span> {
        self.inner.heard.lock().expect("no panic").spans.clone()
    }

    /// The first span that this is true of.
    fn span(&self, what: &str, is_it: impl Fn(&Span) -> bool) -> Span {
        until(what, || self.spans().into_iter().find(&is_it))
    }

    fn job(&self, agent: &str) -> Span {
        self.span(agent, |span| span.name == "arcp.job" && said(span, "arcp.agent").as_deref() == Some(agent))
    }
}

impl Inner {
    fn answer(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).ok().filter(|bytes| *bytes > 0)?;
        }
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.expect("a length")];
        reader.read_exact(&mut body).ok()?;
        self.heard.lock().expect("no panic").heads.push(head);
        let status = self.status.lock().expect("no panic");
        let status = self.changed.wait_while(status, |status| status.is_none()).expect("no panic").expect("a status");
        if status == 200 {
            self.take(&body);
        }
        write!(reader.get_mut(), "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").ok()
    }

    fn take(&self, body: &[u8]) {
        let sent = ExportTraceServiceRequest::decode(body).expect("a request of OTLP");
        let mut heard = self.heard.lock().expect("no panic");
        for of_runtime in sent.resource_spans {
            let text = |value| if let Some(Value::StringValue(text)) = value { text } else { panic!("no text") };
            let attributes = of_runtime.resource.expect("a resource").attributes.into_iter();
            heard.resource =
                attributes.map(|said| (said.key, text(said.value.and_then(|value| value.value)))).collect();
            heard.spans.extend(of_runtime.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
}

/// An attribute that is a text.
fn said(span: &Span, name: &str) -> Option<String> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == name)?;
    let value = attribute.value.as_ref()?.value.as_ref()?;
    if let Value::StringValue(text) = value { Some(text.clone()) } else { Some(format!("{value:?}")) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Submits with these options; its result as text.
fn submitted(home: &Home, args: &[&str]) -> String {
    let output = home.run(&[&["submit"], args].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    stdout(&output).trim().trim_matches('"').to_string()
}

#[test]
fn a_callers_trace_goes_on_through_job_and_child_to_their_programs() {
    let collector = Collector::start(Some(200));
    let mut home = Home::new(ARCP);
    let outer = "outer=read input; \
        echo '{\"kind\":\"tool_call\",\"body\":{\"call_id\":\"c1\",\"tool\":\"grep\",\"args\":{\"of\":\"hidden\"}}}'; \
        echo '{\"kind\":\"tool_result\",\"body\":{\"call_id\":\"c1\",\"result\":\"hidden\"}}'; \
        echo '{\"id\":1,\"kind\":\"authorize\",\"body\":{\"operation\":\"tool.call\",\"target\":\"hidden\"}}'; read may; \
        echo '{\"id\":2,\"kind\":\"delegate\",\"body\":{\"agent\":\"inner\",\"input\":{}}}'; read made; \
        job=$(echo \"$made\" | grep -o 'job_0[0-9A-Z]*' | head -1); \
        echo \"{\\\"id\\\":3,\\\"kind\\\":\\\"await\\\",\\\"body\\\":{\\\"job_id\\\":\\\"$job\\\"}}\"; read ended; \
        echo \"{\\\"result\\\":\\\"$(echo \"$ended\" | grep -o '00-[0-9a-f-]*')\\\"}\"";
    let url = collector.url();
    home.serve(&[
        "--otlp",
        &url,
        "--agent",
        outer,
        "--answered",
        "outer",
        "--agent",
        "inner=echo $TRACEPARENT",
        "--token",
        "s3cret=me",
    ]);
    home.variables.extend([("TRACEPARENT", CALLER), ("ARCP_TOKEN", "s3cret")]);
    let lease = ["--lease", "agent.delegate=*", "--lease", "tool.call=**", "--budget", "USD:2"];
    let told = submitted(&home, &[&["outer", "--input", "\"hidden\""][..], &lease].concat());
    let [outer, inner] = ["outer", "inner"].map(|agent| collector.job(agent));
    let delegation = collector.span("the delegation", |span| span.name == "arcp.delegate");
    let spans = [&outer, &delegation, &inner];
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:?}");
    assert_eq!(hex(&outer.parent_span_id), "00f067aa0ba902b7", "below the caller");
    assert_eq!(delegation.parent_span_id, outer.span_id);
    assert_eq!(inner.parent_span_id, delegation.span_id);
    assert_eq!(told, format!("00-{TRACE}-{}-01", hex(&inner.span_id)), "what the program of the child was told");
    for (name, value) in [
        ("arcp.status", "success"),
        ("arcp.principal", "me"),
        ("arcp.trace_id", TRACE),
        ("arcp.budget.remaining", "{\"USD\":2}"),
    ] {
        assert_eq!(said(&outer, name).as_deref(), Some(value), "{name} of {outer:?}");
    }
    let capabilities = said(&outer, "arcp.lease.capabilities").expect("some");
    assert_eq!(capabilities, "agent.delegate,cost.budget,tool.call");
    assert_eq!(said(&inner, "arcp.parent_job_id"), said(&outer, "arcp.job_id"));
    let (run, tool, may) =
        (agent(&collector, "outer"), named(&collector, "arcp.tool"), named(&collector, "arcp.authorize"));
    assert_eq!((&run.parent_span_id, &tool.parent_span_id), (&outer.span_id, &run.span_id));
    assert_eq!(
        (said(&tool, "arcp.tool").as_deref(), said(&may, "arcp.outcome").as_deref()),
        (Some("grep"), Some("done"))
    );
    assert!(
        tool.start_time_unix_nano >= outer.start_time_unix_nano && outer.end_time_unix_nano >= tool.end_time_unix_nano
    );
    assert_eq!(said(&named(&collector, "arcp.authenticate"), "arcp.outcome").as_deref(), Some("done"));
    home.signal("TERM");
    let shown = format!("{:?}", collector.spans());
    assert!(!shown.contains("hidden") && !shown.contains("s3cret"), "{shown}");
}

/// The run of an agent.
fn agent(collector: &Collector, agent: &str) -> Span {
    collector.span(agent, |span| span.name == "arcp.agent" && said(span, "arcp.agent").as_deref() == Some(agent))
}

/// The first operation of this name.
fn named(collector: &Collector, name: &str) -> Span {
    collector.span(name, |span| span.name == name)
}

#[test]
fn a_trace_that_its_caller_does_not_record_is_not_sent() {
    let collector = Collector::start(Some(200));
    let mut home = Home::new(ARCP);
    home.serve(&["--otlp", &collector.url(), "--agent", "trace=echo $TRACEPARENT", "--samples"]);
    submitted(&home, &["echo", "--input", "1"]);
    home.variables.push(("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"));
    let told = submitted(&home, &["trace", "--input", "1"]);
    assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00"), "{told}");
    home.signal("TERM");
    let traces: Vec<String> = collector.spans().iter().map(|span| hex(&span.trace_id)).collect();
    assert!(collector.spans().iter().any(|span| span.name == "arcp.job") && !traces.contains(&TRACE.to_string()));
}

#[test]
fn a_job_that_outlives_its_runtime_is_one_span_that_begins_when_it_did() {
    let collector = Collector::start(Some(200));
    let mut home = Home::new(ARCP);
    std::fs::create_dir_all(&home.dir).expect("a folder");
    let store = home.dir.join("jobs.db").display().to_string();
    let args = ["--otlp", &collector.url(), "--agent", "stuck=sleep 1000", "--store", &store, "--drain", "0s"];
    let url = home.serve(&args);
    let address = url.trim_start_matches("ws://").trim_end_matches("/arcp").to_string();
    let job = submitted(&home, &["stuck", "--input", "1", "--detach"]);
    until("it runs", || {
        stdout(&home.run(&["ls", "--filter", "status=running", "-o", "id"])).contains(&job).then_some(())
    });
    home.signal("KILL");
    assert!(!collector.spans().iter().any(|span| span.name == "arcp.job"), "it goes on");
    home.serve_at(&address, &args);
    let span = collector.job("stuck");
    assert_eq!((said(&span, "arcp.job_id"), said(&span, "arcp.status").as_deref()), (Some(job.clone()), Some("error")));
    let made = ulid_ms(&job) * 1_000_000;
    assert_eq!(span.start_time_unix_nano, made, "when it was accepted");
    home.signal("TERM");
    let of_job = collector.spans().into_iter().filter(|span| span.name == "arcp.job");
    assert_eq!(of_job.count(), 1, "once");
    assert!(!collector.spans().iter().any(|span| span.name == "arcp.session"), "its session can be resumed yet");
}

/// When an id was made, in milliseconds.
fn ulid_ms(id: &str) -> u64 {
    let digit = |c: char| "0123456789ABCDEFGHJKMNPQRSTVWXYZ".find(c).expect("a digit") as u64;
    id.trim_start_matches("job_").chars().take(10).fold(0, |all, c| all * 32 + digit(c))
}

/// The value of a metric.
fn metric(url: &str, name: &str) -> u64 {
    let address = url.trim_start_matches("ws://").trim_end_matches("/arcp");
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("asked");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("a page");
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

#[test]
fn what_a_collector_refuses_is_counted_and_what_it_takes_too() {
    let collector = Collector::start(Some(400));
    let mut home = Home::new(ARCP);
    let url = home.serve(&["--otlp", &collector.url(), "--samples"]);
    submitted(&home, &["echo", "--input", "1"]);
    until("they are refused", || (metric(&url, "arcp_spans_dropped_total") > 0).then_some(()));
    assert_eq!(metric(&url, "arcp_spans_exported_total"), 0);
    collector.answers(Some(200));
    submitted(&home, &["echo", "--input", "1"]);
    until("they are taken", || (metric(&url, "arcp_spans_exported_total") > 0).then_some(()));
}

#[test]
fn a_collector_that_is_slow_or_away_holds_up_neither_jobs_nor_the_end() {
    let silent = Collector::start(None);
    let away = arcp_tests::ports::free();
    for url in [silent.url(), format!("http://{away}")] {
        let mut home = Home::new(ARCP);
        let server = home.serve(&["--otlp", &url, "--samples"]);
        for _ in 0..3 {
            submitted(&home, &["echo", "--input", "1"]);
        }
        assert_eq!(metric(&server, "arcp_spans_dropped_total"), 0, "they wait");
        let begun = Instant::now();
        assert!(home.signal("TERM").success());
        // The patience of the end is 3 s.
        assert!(begun.elapsed() < Duration::from_secs(30), "{url}: {:?}", begun.elapsed());
    }
}

#[test]
fn spans_are_tried_again_until_their_collector_is_back() {
    let collector = Collector::start(Some(503));
    let mut home = Home::new(ARCP);
    home.serve(&["--otlp", &collector.url(), "--samples"]);
    submitted(&home, &["echo", "--input", "1"]);
    until("it is asked twice", || (collector.asked() >= 2).then_some(()));
    collector.answers(Some(200));
    collector.job("echo@2.0.0");
}

#[test]
fn the_variables_of_exporters_say_where_as_whose_and_with_which_headers() {
    let collector = Collector::start(Some(200));
    let mut home = Home::new(ARCP);
    let url: &'static str = collector.url().leak();
    home.variables.extend([
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret"),
        ("OTEL_SERVICE_NAME", "front"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=other"),
    ]);
    home.serve(&["--samples"]);
    submitted(&home, &["echo", "--input", "1"]);
    collector.job("echo@2.0.0");
    let heard = collector.inner.heard.lock().expect("no panic");
    let head = heard.heads[0].to_lowercase();
    assert!(
        head.starts_with("post /v1/traces ") && head.contains("content-type: application/x-protobuf\r\n"),
        "{head}"
    );
    assert!(head.contains("authorization: bearer s3cret\r\n"), "{head}");
    let names: Vec<(&str, &str)> = heard.resource.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert!(names.contains(&("service.name", "front")) && names.contains(&("deployment.environment.name", "test")));
    assert_eq!(names.iter().filter(|(name, _)| *name == "service.name").count(), 1, "{names:?}");
}

#[test]
fn an_address_that_is_none_is_said_before_anything_is_served() {
    let home = Home::new(ARCP);
    for (url, says) in [("localhost:4318", "--otlp: expected a URL"), ("ftp://collector", "--otlp: expected a URL")] {
        for check in [&["--check"][..], &[]] {
            let output = home.run(&[&["serve", "--listen", "127.0.0.1:0", "--samples", "--otlp", url], check].concat());
            assert!(code(&output) == 2 && stderr(&output).contains(says), "{}", stderr(&output));
        }
    }
}
