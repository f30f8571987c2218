//! `arcp demo`: the main features in one command.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use arcp_blocking::{Client, Host, Job, JobUpdate, Server, ServerConfig};
use arcp_host::auth::BearerTokens;
use arcp_host::process::ProcessAgent;
use arcp_host::registry::Registry;
use arcp_host::samples;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{EventKind, JobEvent, Terminal};
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::{Credential, Submit, Watch};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;

use crate::exit::{Exit, Failure};
use crate::follow::spoken;

/// The shell command that runs as an agent.
const COMMAND: &str = r#"read input; echo "got $input"
for n in 1 2 3; do echo "{\"kind\":\"progress\",\"body\":{\"current\":$n,\"total\":3}}"; sleep 0.1; done
echo '{"result":{"greeting":"hello from a shell script"}}'"#;
/// How many events the stream has whose connection is cut.
const TICKS: u64 = 120;
const CUT_AT: u64 = 40;

/// Shows each feature, and fails unless each behaved as promised.
pub fn run() -> Result<Exit, Failure> {
    let token = arcp_host::entropy::token()?;
    let (server, target) = start(&token)?;
    let stop = server.handle();
    let thread = std::thread::Builder::new().name("runtime".to_string()).spawn(move || server.run())?;
    let credential = Credential::Bearer(Secret::new(token));
    let config = ClientConfig::new("arcp-demo", env!("CARGO_PKG_VERSION"), credential);
    let client = Client::connect(target.clone(), config.clone())?;
    let mut shown = Shown::default();
    let outcome = play(&client, &mut shown)
        .and_then(|()| Ok(Client::connect(target, ClientConfig { family: Family::Open, ..config })?))
        .and_then(|open| across(&client, &open, &mut shown));
    drop(client);
    stop.shutdown();
    let ended = thread.join();
    outcome?;
    if !matches!(ended, Ok(Ok(_))) {
        return Err(Failure::new(Exit::Failed, "the runtime did not stop in order"));
    }
    shown.verdict()
}

fn start(token: &str) -> Result<(Server, arcp_blocking::Target), Failure> {
    let mut registry = Registry::default();
    samples::add_to(&mut registry);
    registry.add("greet", None, ProcessAgent::shell(COMMAND));
    let mut tokens = BearerTokens::default();
    if let Some(principal) = Principal::new("demo") {
        tokens.add(&Secret::new(token.to_string()), principal);
    }
    let mut config = Config::new("arcp-demo", env!("CARGO_PKG_VERSION"));
    config.timing.cancel_grace = Duration::from_secs(5);
    let host = Host::new(config, registry).with_authenticator(tokens);
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let server =
        Server::bind(&ServerConfig::new(listen), host).map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
    let url = server.url();
    tell(&format!("a runtime listens on {url}"))?;
    let target = url.parse().map_err(|e| Failure::new(Exit::Failed, format!("{e}")))?;
    Ok((server, target))
}

fn play(client: &Client, shown: &mut Shown) -> Result<(), Failure> {
    tell("\n1. a shell script as an agent")?;
    let greeting = shown.run(client, "greet", r#"{"name":"you"}"#, Show::All)?;
    shown.expect("the script's result came", is_inline(&greeting, r#"{"greeting":"hello from a shell script"}"#));

    tell("\n2. progress, live")?;
    let slow = shown.run(client, "slow", r#"{"ms":500}"#, Show::All)?;
    shown.expect("the slow agent finished", is_inline(&slow, r#"{"done":true,"ticks":5}"#));

    tell("\n3. a result in pieces")?;
    let pieces = shown.run(client, "chunker", r#"{"chunks":20,"bytes":5000}"#, Show::Some(3))?;
    let whole = matches!(&pieces.1, ResultData::Streamed { bytes, .. }
        if bytes.len() == 100_000 && bytes.iter().enumerate().all(|(at, b)| *b == b'a' + (at % 26) as u8));
    shown.expect("100,000 bytes in 20 pieces fit together", whole);

    tell(&format!("\n4. a stream of {TICKS} events, and a cable pulled after {CUT_AT}"))?;
    cut(client, shown)?;

    tell("\n5. a cancel")?;
    let job = client.submit(submit("slow", r#"{"ms":60000}"#)?)?;
    shown.note_event(&job)?;
    client.cancel(job.id.clone(), Some("seen enough".to_string()))?;
    let (terminal, _) = shown.until_end(client, &job, Show::All, None)?;
    shown.expect("the cancelled job ended as cancelled", terminal.status == FinalStatus::Cancelled);
    Ok(())
}

fn cut(client: &Client, shown: &mut Shown) -> Result<(), Failure> {
    let input = format!(r#"{{"count":{TICKS},"delay_ms":10}}"#);
    let job = client.submit(submit("chatty", &input)?)?;
    let before = shown.resumed;
    let (terminal, _) = shown.until_end(client, &job, Show::Some(3), Some(CUT_AT))?;
    shown.expect("the stream went on to its end", terminal.status == FinalStatus::Success);
    shown.expect("the same session was resumed", shown.resumed > before);
    let ticks: Vec<u64> = (0..TICKS).collect();
    shown.expect("every tick came once, in order", shown.ticks == ticks);
    Ok(())
}

/// Jobs belong to no family: a client of one family sees the jobs that a client of the other submits.
fn across(hello: &Client, open: &Client, shown: &mut Shown) -> Result<(), Failure> {
    const INPUT: &str = r#"{"count":3,"delay_ms":50}"#;
    let every = |job: &Job| Watch { job: job.id.clone(), after: Some(0), history: Some(true) };
    let ticks: Vec<u64> = (0..3).collect();

    tell("\n6. submitted as `tool.invoke` (open family), watched as `job.event` (hello family)")?;
    let job = open.submit(submit("chatty", INPUT)?)?;
    let seen = hello.watch(every(&job))?;
    shown.ticks.clear();
    let (terminal, _) = shown.until_end(hello, &seen, Show::All, None)?;
    let whole = terminal.status == FinalStatus::Success && shown.ticks == ticks;
    shown.expect("a job of the open family was watched from the hello family", whole);

    tell("\n7. and the other way round")?;
    let job = hello.submit(submit("chatty", INPUT)?)?;
    let seen = open.watch(every(&job))?;
    let mut other = Shown::default();
    let (terminal, _) = other.until_end(open, &seen, Show::All, None)?;
    let whole = terminal.status == FinalStatus::Success && other.ticks == ticks;
    shown.expect("a job of the hello family was watched from the open family", whole);
    shown.until_end(hello, &job, Show::Nothing, None)?;
    Ok(())
}

fn submit(agent: &str, input: &str) -> Result<Submit, Failure> {
    let broken = |e: String| Failure::new(Exit::Failed, e);
    Ok(Submit {
        input: Some(Json::parse(input).map_err(|e| broken(e.to_string()))?),
        ..Submit::new(AgentRef::parse(agent).map_err(|e| broken(e.to_string()))?)
    })
}

fn is_inline((_, result): &(Terminal, ResultData), expected: &str) -> bool {
    matches!(result, ResultData::Inline(json) if json.as_str() == expected)
}

fn tell(line: &str) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// Which of a job's events to print.
#[derive(Clone, Copy)]
enum Show {
    All,
    /// So many, and then a note that there are more.
    Some(usize),
    /// None, because another session printed them.
    Nothing,
}

/// The events that one session received, and whether they were right.
#[derive(Default)]
struct Shown {
    numbers: Vec<u64>,
    ticks: Vec<u64>,
    resumed: u32,
    failed: Vec<&'static str>,
    proven: Vec<&'static str>,
}

impl Shown {
    fn run(
        &mut self,
        client: &Client,
        agent: &str,
        input: &str,
        show: Show,
    ) -> Result<(Terminal, ResultData), Failure> {
        let job = client.submit(submit(agent, input)?)?;
        self.until_end(client, &job, show, None)
    }

    /// Takes one event, so that the agent is known to run.
    fn note_event(&mut self, job: &Job) -> Result<(), Failure> {
        if let Some(JobUpdate::Event { seq, event, .. }) = job.next_update() {
            self.numbers.push(seq);
            tell(&format!("   #{seq} {}", line_of(&event)))?;
        }
        Ok(())
    }

    fn until_end(
        &mut self,
        client: &Client,
        job: &Job,
        show: Show,
        cut_at: Option<u64>,
    ) -> Result<(Terminal, ResultData), Failure> {
        let mut count = 0;
        while let Some(update) = job.next_update() {
            match update {
                JobUpdate::Event { seq, event, .. } => {
                    self.numbers.push(seq);
                    self.tick(&event);
                    count += 1;
                    match show {
                        Show::Some(few) if count == few + 1 => tell("   ...")?,
                        Show::Some(few) if count > few => {}
                        Show::Nothing => {}
                        Show::All | Show::Some(_) => tell(&format!("   #{seq} {}", line_of(&event)))?,
                    }
                    if cut_at == Some(count as u64) {
                        tell(&format!("   -- the connection is cut after #{seq}"))?;
                        client.break_connection()?;
                    }
                }
                JobUpdate::Ended { seq, terminal, result } => {
                    self.numbers.push(seq);
                    if !matches!(show, Show::Nothing) {
                        tell(&format!("   #{seq} ended: {:?}", terminal.status))?;
                    }
                    return Ok((terminal, result));
                }
                JobUpdate::Reconnecting { after, .. } => {
                    tell(&format!("   -- the connection is lost; reconnecting in {} ms", after.as_millis()))?;
                }
                JobUpdate::Reconnected { resumed } => {
                    self.resumed += u32::from(resumed);
                    tell("   -- reconnected; what was missed comes first")?;
                }
                JobUpdate::Missed { events } => tell(&format!("   -- {events} events were missed"))?,
                JobUpdate::Gone(refusal) => return Err(Failure::new(Exit::Failed, refusal.message.to_string())),
                JobUpdate::Lost(end) => return Err(Failure::new(Exit::Lost, end.to_string())),
            }
        }
        Err(Failure::new(Exit::Lost, "the job's updates ended before the job"))
    }

    fn tick(&mut self, event: &JobEvent) {
        if let JobEvent::Emitted { kind: EventKind::Metric, body } = event {
            let members = body.members().unwrap_or_default();
            self.ticks.extend(members.get("value").and_then(|raw| raw.parse::<u64>().ok()));
        }
    }

    fn expect(&mut self, what: &'static str, holds: bool) {
        if holds { self.proven.push(what) } else { self.failed.push(what) }
    }

    fn verdict(self) -> Result<Exit, Failure> {
        let seen: BTreeSet<u64> = self.numbers.iter().copied().collect();
        let last = seen.last().copied().unwrap_or(0);
        let missing = (1..=last).filter(|n| !seen.contains(n)).count();
        let twice = self.numbers.len() - seen.len();
        tell("\nproven:")?;
        for what in &self.proven {
            tell(&format!("   {what}"))?;
        }
        tell(&format!("   {} events seen, {missing} missing, {twice} twice", self.numbers.len()))?;
        if missing == 0 && twice == 0 && self.failed.is_empty() {
            return Ok(Exit::Success);
        }
        Err(Failure::new(Exit::Failed, format!("not as it should be: {}", self.failed.join("; "))))
    }
}

fn line_of(event: &JobEvent) -> String {
    match event {
        JobEvent::Emitted { kind, body } => spoken(kind, body),
        JobEvent::Chunk(chunk) => format!("result chunk {} ({} bytes)", chunk.chunk_seq, chunk.data.len()),
        JobEvent::Started => "status running".to_string(),
        JobEvent::Ended(terminal) => format!("ended {:?}", terminal.status),
    }
}
