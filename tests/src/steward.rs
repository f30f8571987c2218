//! An agent of random worlds that does everything that needs authority. It asks whether it may do something, spends,
//! rotates its credentials, delegates to other agents and to stewards, and asks people for more. The seed in its input
//! decides what it does, so that a steward that is started again does the same.

use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::json::Json;
use arcp_proto::model::event::JobError;
use arcp_proto::model::prompt::{PermissionRequest, Question};
use arcp_proto::runtime::{AgentCall, AgentExit, AgentSpec, Delegation};
use arcp_proto::secret::Secret;
use serde_json::{Value, json};

use crate::canaries::CANARY;
use crate::script::{Step, say, success};

/// Operations that it may ask about; its lease allows some of them.
const OPERATIONS: [(&str, &str); 11] = [
    ("tool.call", "a"),
    ("tool.call", "a.b"),
    ("tool.call", "b"),
    ("fs.read", "/w/a"),
    ("fs.read", "/w/a/b"),
    ("fs.read", "/w/../etc/passwd"),
    ("net.fetch", "https://h/v1/x"),
    ("net.fetch", "https://a.h/v1/x"),
    ("model.use", "m-1"),
    ("agent.delegate", "echo"),
    ("fs.delete", "/w/a"),
];
/// What it asks people for: a permission, its operation and resource, and the target that it uses then.
const ASKED: [(&str, &str, &str, &str); 7] = [
    ("more", "tool.call", "b", "b"),
    ("more", "fs.read", "/w/**", "/w/a/b"),
    ("more", "net.fetch", "https://h/**", "https://h/v1/x"),
    ("more", "fs.read", "w", "/w/a"),
    ("trust.elevate.privileged", "tool.call", "a.b", "a.b"),
    ("trust.elevate.trusted", "fs.read", "/w/**", "/w/a/b"),
    ("trust.elevate.privileged", "fs.read", "/w/a/b", "/w/a/b"),
];
/// From this index on, the permissions elevate its trust.
const ELEVATES: usize = 4;
const PRICES: [&str; 7] = ["USD:0.5", "USD:1", "USD:40", "usd:0.25", "EUR:0.125", "GBP:3", "USD:"];
const COSTS: [(&str, &str, Option<&str>); 7] = [
    ("cost.t", "0.25", Some("USD")),
    ("cost.t", "1e-1", Some("usd")),
    ("cost.t", "3", Some("USD")),
    ("cost.EUR", "0.5", None),
    ("cost.t", "-1", Some("USD")),
    ("cost.t", "1", Some("GBP")),
    ("cost.budget.left", "9", Some("USD")),
];

/// Random numbers from a seed.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Starts with a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// A random lease request with its constraints.
pub fn lease(mut chance: impl FnMut(usize) -> usize) -> (Value, Value) {
    const GRANTS: [(&str, &[&str]); 12] = [
        ("tool.call", &["a", "a.*"]),
        ("tool.call", &["a.b"]),
        ("tool.call", &["*"]),
        ("fs.read", &["/w/**"]),
        ("fs.read", &["/w/*", "/w/a/?"]),
        ("net.fetch", &["https://h/v1/**"]),
        ("net.fetch", &["https://*.h/**"]),
        ("agent.delegate", &["*"]),
        ("agent.delegate", &["**"]),
        ("agent.delegate", &["steward", "echo"]),
        ("model.use", &["m-*"]),
        ("model.use", &["m-1"]),
    ];
    const BUDGETS: [&[&str]; 6] = [&["USD:10"], &["USD:4", "EUR:2"], &["usd:2"], &["USD:1"], &["EUR:1"], &["USD:0.5"]];
    let mut lease = json!({});
    for (namespace, patterns) in GRANTS {
        if chance(3) > 0 {
            lease[namespace] = json!(patterns);
        }
    }
    if chance(3) > 0 {
        lease["cost.budget"] = json!(BUDGETS[chance(BUDGETS.len())]);
    }
    let mut constraints = json!({});
    if chance(4) == 0 {
        constraints["expires_in_s"] = json!(1 + chance(40));
    }
    if chance(6) == 0 {
        constraints["x-vendor.arcp.budget_hard"] = json!(true);
    }
    (lease, constraints)
}

/// Its steps, from its last checkpoint on.
pub fn script(spec: &AgentSpec) -> Vec<Step> {
    let input: Value = serde_json::from_str(spec.input.as_str()).expect("JSON");
    let number = |name: &str| input[name].as_u64().unwrap_or(0);
    let (mut dice, depth) = (Dice::new(number("seed")), number("depth"));
    let done = spec.checkpoint.as_deref().map_or(0, |state| usize::from(state[0]));
    let rounds = 2 + dice.below(7);
    let all: Vec<Vec<Step>> = (0..rounds).map(|n| round(&mut dice, n, depth, spec)).collect();
    let mut steps = if done == 0 { says_value(spec) } else { Vec::new() };
    steps.extend(all.into_iter().skip(done).flatten());
    steps.push(match dice.below(5) {
        0 => Step::Exit(AgentExit::Failure(JobError::new(ErrorCode::Internal, "boom"))),
        1 => Step::Exit(AgentExit::Lost),
        _ => success("7"),
    });
    steps
}

fn round(dice: &mut Dice, n: usize, depth: u64, spec: &AgentSpec) -> Vec<Step> {
    match dice.below(14) {
        0..3 => {
            let priced = dice.below(2) == 0;
            let price = if priced { vec![dice.of(&PRICES).to_string()] } else { Vec::new() };
            let settles = dice.below(3) as u64;
            vec![authorize(dice, price), Step::Ask(cost(dice, Some(settles)))]
        }
        3 => vec![Step::Call(cost(dice, None)), Step::Ask(AgentCall::Remaining)],
        4 => vec![Step::Ask(emit("tool_call", json!({"tool": dice.of(&["a", "b", "x/y"]), "call_id": "c"})))],
        5 => vec![say("tool_call", r#"{"tool":"b","call_id":"c"}"#), Step::Ask(cost(dice, None))],
        6 | 8..12 if raises(spec) => ask_budget(dice),
        6 | 8..11 if elevates(spec) => ask_people(dice, &ASKED[ELEVATES..]),
        6 | 8 => ask_people(dice, &ASKED),
        7 => vec![Step::Ask(AgentCall::Checkpoint { state: vec![n as u8 + 1], label: None })],
        9 => vec![Step::Sleep(Duration::from_millis(200 * dice.below(20) as u64))],
        10 | 11 => rotate(dice, n, spec),
        _ if depth == 0 => vec![Step::Ask(AgentCall::Delegate(Delegation::new("steward")))],
        _ => delegate(dice, (n, depth), raises(spec)),
    }
}

/// Emits the value of a credential of its job, as careless programs do.
fn says_value(spec: &AgentSpec) -> Vec<Step> {
    let Some(value) = spec.credentials.first().map(|one| one.value.expose()) else {
        return Vec::new();
    };
    let line = json!({"level": "info", "message": format!("ARCP_CREDENTIALS=[{{\"value\":\"{value}\"}}]")});
    let escaped = line.to_string().replace("sk-", "\\u0073k\\u002d");
    let target = format!("search/{value}");
    let asks = AgentCall::Authorize { operation: "tool.call".into(), target, price: Vec::new() };
    vec![say("log", &line.to_string()), say("log", &escaped), Step::Ask(asks)]
}

/// Whether it asks people for a larger budget.
fn raises(spec: &AgentSpec) -> bool {
    spec.input.as_str().contains("\"raises\":true")
}

/// Whether it asks people for trust.
fn elevates(spec: &AgentSpec) -> bool {
    spec.input.as_str().contains("\"elevates\":true")
}

fn emit(kind: &str, body: Value) -> AgentCall {
    AgentCall::Emit { kind: kind.into(), body: parsed(&body) }
}

fn parsed(value: &Value) -> Json {
    Json::parse(&value.to_string()).expect("JSON")
}

fn authorize(dice: &mut Dice, price: Vec<String>) -> Step {
    let (operation, target) = dice.of(&OPERATIONS);
    Step::Ask(AgentCall::Authorize { operation: operation.into(), target: target.into(), price })
}

/// A cost, which may settle a reservation.
fn cost(dice: &mut Dice, settles: Option<u64>) -> AgentCall {
    let (name, value, unit) = dice.of(&COSTS);
    let mut body = format!(r#"{{"name":"{name}","value":{value}"#);
    body.extend(unit.map(|unit| format!(r#","unit":"{unit}""#)));
    body.extend(settles.map(|number| format!(r#","reservation":{number}"#)));
    AgentCall::Emit { kind: "metric".into(), body: Json::parse(&(body + "}")).expect("JSON") }
}

/// Replaces the value of a credential, with a value of its own or an issued one, and sometimes another at once. The
/// credential may not exist.
fn rotate(dice: &mut Dice, n: usize, spec: &AgentSpec) -> Vec<Step> {
    let id = match spec.credentials.len() {
        0 => "cred-1".to_string(),
        some => spec.credentials[dice.below(some)].id.clone(),
    };
    // A value contains the id of its job.
    let named = spec.credentials.first().and_then(|one| one.value.expose().get(..CANARY.len() + 30));
    let mut renew = |k| {
        let value = named.filter(|_| dice.below(3) == 0).map(|named| Secret::new(format!("{named}-own{n}.{k}")));
        Step::Ask(AgentCall::RenewCredential { id: id.clone(), value })
    };
    let (first, again) = (renew(0), renew(1));
    match dice.below(3) {
        0 => vec![first, again],
        1 => vec![first, Step::Sleep(Duration::from_secs(1)), again],
        _ => vec![first, Step::Ask(cost(dice, None))],
    }
}

/// Asks people for a permission, and does what it would allow, at once and later.
fn ask_people(dice: &mut Dice, asked: &[(&str, &str, &str, &str)]) -> Vec<Step> {
    let (permission, operation, resource, target) = dice.of(asked);
    let question = Question::Permission(PermissionRequest {
        permission: permission.into(),
        resource: resource.into(),
        operation: operation.into(),
        reason: None,
        lease_seconds: dice.of(&[None, Some(2), Some(600)]),
    });
    let ask = AgentCall::Ask { question: Box::new(question), timeout_ms: Some(25_000) };
    let (operation, target) = (operation.to_string(), target.to_string());
    let uses = Step::Ask(AgentCall::Authorize { operation, target, price: Vec::new() });
    let wait = Step::Sleep(Duration::from_millis(500 * dice.below(8) as u64));
    vec![Step::Ask(ask), uses.clone(), wait, uses]
}

/// Asks people for a larger budget, which it may not need, and spends.
fn ask_budget(dice: &mut Dice) -> Vec<Step> {
    const AMOUNTS: [&str; 8] =
        ["USD:5", "USD:0.25", "usd:1,EUR:2", "USD:1", "USD:2", "GBP:1", "USD:0", "USD:999999999999999"];
    let question = Question::Permission(PermissionRequest {
        permission: "cost.budget".into(),
        resource: dice.of(&AMOUNTS).into(),
        operation: "cost.budget".into(),
        reason: None,
        lease_seconds: dice.of(&[None, None, None, None, None, None, None, Some(2)]),
    });
    let ask = AgentCall::Ask { question: Box::new(question), timeout_ms: Some(25_000) };
    let price = vec![dice.of(&PRICES).to_string()];
    vec![Step::Ask(ask), authorize(dice, price), Step::Ask(cost(dice, Some(1)))]
}

/// Makes a child, by a call or by an event, and sometimes waits for it.
fn delegate(dice: &mut Dice, (n, depth): (usize, u64), raises: bool) -> Vec<Step> {
    let agent = dice.of(&["steward", "steward", "echo", "failer", "slow", "waiter"]);
    let (lease, mut constraints) = lease(|bound| dice.below(bound));
    // An agent that ends only when told to stop ends with its lease.
    if agent == "waiter" {
        constraints["expires_in_s"] = json!(5);
    }
    let mut input = json!({"seed": dice.below(1 << 30), "depth": depth - 1, "ticks": 3});
    if raises {
        input["raises"] = json!(true);
    }
    if n % 4 == 3 {
        // Where inputs are checked, this one is refused.
        input["bad"] = json!(n);
    }
    let name = format!("d{}", if dice.below(4) == 0 { 0 } else { n });
    let step = match dice.below(4) {
        0 => say(
            "delegate",
            &json!({"agent": agent, "delegate_id": name, "input": input, "lease_request": lease,
                "lease_constraints": constraints})
            .to_string(),
        ),
        _ => Step::Ask(AgentCall::Delegate(Delegation {
            input: Some(parsed(&input)),
            lease_request: Some(parsed(&lease)),
            lease_constraints: Some(parsed(&constraints)),
            delegate_id: Some(name),
            ..Delegation::new(agent)
        })),
    };
    if dice.below(2) == 0 { vec![step, Step::AwaitChild] } else { vec![step] }
}
