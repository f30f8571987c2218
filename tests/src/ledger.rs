//! What jobs may do and spend, counted independently from inputs and records. Money is neither made nor lost. A child
//! may do nothing that its parent may not, and an agent is allowed what its job was granted and nothing else.

#![allow(clippy::wildcard_enum_match_arm, reason = "a ledger looks at what it knows")]

use std::collections::{BTreeMap, BTreeSet};

use arcp_proto::id::{CallId, JobId, LogPos};
use arcp_proto::json::Json;
use arcp_proto::lease::{Amount, Budget, Currency, Lease, Namespace, Target};
use arcp_proto::model::credential::CredentialOrder;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::runtime::{AgentCall, AgentReply, Batch, Input, JobRecord, Record};
use arcp_proto::time::{Now, UtcMs};
use arcp_proto::trust::TrustLevel;
use serde_json::Value;

/// Targets with which leases of a random world are compared.
const SAMPLES: [(Namespace, &[&str]); 5] = [
    (Namespace::ToolCall, &["a", "a.b", "a.c", "b", "ab", "x/y"]),
    (Namespace::FsRead, &["/w", "/w/a", "/w/a/b", "/wa", "/etc/passwd"]),
    (Namespace::NetFetch, &["https://h/", "https://h/v1/x", "https://a.h/v1/x", "https://h:8443/v1/x"]),
    (Namespace::AgentDelegate, &["steward", "echo", "failer"]),
    (Namespace::ModelUse, &["m-1", "m-2", "n"]),
];

/// The lease of one job, and what is recorded of its budget.
#[derive(Debug)]
struct Account {
    parent: Option<JobId>,
    children: Vec<JobId>,
    shown: Json,
    lease: Lease,
    ends: Option<UtcMs>,
    left: Budget,
    spent: BTreeMap<Currency, Amount>,
    /// Amounts that people added to its budget or that of a job below it, and what is recorded of that.
    raised: BTreeMap<Currency, Amount>,
    said_raised: Budget,
    over: bool,
    trust: TrustLevel,
    /// Permissions that were granted and have not ended, by id.
    permitted: BTreeMap<String, Permitted>,
}

/// A permission.
#[derive(Debug)]
struct Permitted {
    operation: Namespace,
    lease: Lease,
    until: Option<UtcMs>,
    elevates: Option<TrustLevel>,
}

/// A question of an agent whether it may do something, with a price.
#[derive(Debug)]
struct Asked {
    operation: Namespace,
    target: String,
    price: Budget,
    /// The expected refusal, as of the time of the question.
    refusal: Result<(), String>,
}

/// What happened to permissions, and handoffs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// Permissions that were granted.
    pub granted: usize,
    /// Permissions that elevated a job's trust.
    pub elevated: usize,
    /// Permissions that added to a budget.
    pub raised: usize,
    /// Permissions that were extended.
    pub extended: usize,
    /// Permissions that ended, by the reason in the event.
    pub ended: BTreeMap<String, usize>,
    /// Jobs that were handed over to another principal.
    pub handed_over: usize,
    /// Operations that were allowed only because of an elevated trust.
    pub allowed_elevated: usize,
}

/// What an agent has reserved, according to its answers.
#[derive(Debug, Default)]
struct Reserved {
    /// All prices that it has named.
    named: Vec<Budget>,
    /// Reservations that it was told of and has not settled.
    open: BTreeMap<u64, Budget>,
    /// Whether more may be reserved than it was told: an answer is on its way, or was lost.
    uncertain: bool,
}

/// Watches the leases and budgets of one run.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Whether jobs without a lease may use models.
    pub allows_models: bool,
    /// Operations that need a trust level.
    pub needs_trust: BTreeMap<TrustLevel, Lease>,
    /// The records about leases and budgets, in order.
    records: Vec<(LogPos, Record)>,
    accounts: BTreeMap<JobId, Account>,
    reserved: BTreeMap<JobId, Reserved>,
    /// Questions of agents that are not answered yet.
    asked: BTreeMap<(JobId, CallId), Asked>,
    /// A time that is not later than the runtime's.
    now: UtcMs,
    /// Children that were accepted.
    pub children: usize,
    /// Operations that were allowed.
    pub allowed: usize,
    /// Costs that were counted.
    pub costs: usize,
    /// Values that were ordered to replace those of credentials.
    pub rotations: usize,
    /// What happened to permissions, and handoffs.
    pub authority: Authority,
}

impl Ledger {
    /// Watches an input.
    pub fn input(&mut self, now: Now, input: &Input) {
        self.now = self.now.max(now.utc);
        let Input::AgentAsked { job, id, call: AgentCall::Authorize { operation, target, price } } = input else {
            return;
        };
        let Ok(operation) = operation.parse() else { return };
        let price = Budget::parse(price.iter().map(String::as_str)).unwrap_or_default();
        if !price.is_empty() {
            self.reserved.entry(*job).or_default().named.push(price.clone());
        }
        let refusal = self.must_be_granted(*job, &operation, target);
        self.asked.insert((*job, *id), Asked { operation, target: target.clone(), price, refusal });
    }

    /// Watches the answer to an agent.
    pub fn reply(&mut self, job: JobId, id: CallId, reply: &AgentReply) {
        let Some(Asked { operation, target, price, refusal }) = self.asked.remove(&(job, id)) else { return };
        match reply {
            AgentReply::Allowed { reservation, .. } => {
                self.allowed += 1;
                assert_eq!(refusal, Ok(()), "{job} was allowed {operation} on {target}");
                let target = Target::new(&operation, &target).expect("it was allowed");
                self.authority.allowed_elevated += usize::from(self.lacking(job, &operation, &target).is_some());
                if let Some(number) = reservation {
                    let price = self.accounts[&job].lease.budget().bounding(&price);
                    self.reserved.entry(job).or_default().open.insert(*number, price);
                }
            }
            AgentReply::Refused(_) => {}
            _ => self.reserved.entry(job).or_default().uncertain = true,
        }
    }

    /// Checks that a replacing credential covers no more than what its job may do and has left.
    pub fn ordered(&mut self, order: &CredentialOrder) {
        if order.renews.is_none() {
            return; // The job is not accepted yet.
        }
        self.rotations += 1;
        let (account, lease) = (&self.accounts[&order.job], Lease::parse(&order.lease).expect("a lease"));
        for (namespace, targets) in SAMPLES {
            for target in targets {
                let target = Target::new(&namespace, target).expect("a target");
                let may = |lease: &Lease| lease.permits(&namespace, &target).is_some();
                assert!(
                    may(&account.lease) || !may(&lease),
                    "{}: its credential may {namespace} on {target}",
                    order.job
                );
            }
        }
        assert_eq!(order.expires_at, account.ends, "{}", order.job);
        for (currency, left) in account.left.iter() {
            let most = lease.budget().left(currency.as_str());
            assert!(most.is_some_and(|most| most <= left), "{}: {most:?} {currency}, of {left} left", order.job);
        }
    }

    /// Checks that a client is shown the lease that the job was granted.
    pub fn frame(&self, frame: &Value) {
        let payload = &frame["payload"];
        let shown = matches!(frame["type"].as_str(), Some("job.accepted" | "job.subscribed"));
        let job = payload["job_id"].as_str().and_then(JobId::parse).filter(|_| shown && payload["lease"].is_object());
        if let Some(account) = job.and_then(|job| self.accounts.get(&job)) {
            let granted: Value = serde_json::from_str(account.shown.as_str()).expect("JSON");
            assert_eq!(payload["lease"], granted, "{frame}");
        }
    }

    /// Watches a batch for the store; each is of one input.
    pub fn batch(&mut self, batch: &Batch) {
        let mut touched = BTreeSet::new();
        for (at, record) in batch.entries() {
            let Some(job) = record.job().filter(|_| concerns(record)) else { continue };
            self.records.push((at, record.clone()));
            self.record(record);
            touched.insert(job);
            touched.extend(self.accounts[&job].parent);
        }
        touched.iter().for_each(|job| self.must_balance(*job));
    }

    /// The runtime crashed, with all agents; the store has the log up to `durable`.
    pub fn crash(&mut self, durable: LogPos) {
        let mut records = std::mem::take(&mut self.records);
        records.retain(|(at, _)| *at <= durable);
        (self.accounts, self.now) = (BTreeMap::new(), UtcMs(0));
        self.asked.clear();
        for reserved in self.reserved.values_mut() {
            (reserved.open, reserved.uncertain) = (BTreeMap::new(), true);
        }
        (self.children, self.costs) = (0, 0);
        self.authority = Authority { allowed_elevated: self.authority.allowed_elevated, ..Authority::default() };
        records.iter().for_each(|(_, record)| self.record(record));
        self.records = records;
        self.accounts.keys().for_each(|job| self.must_balance(*job));
    }

    /// Checks that all money of ended jobs came back, except for what was spent.
    pub fn is_settled(&self) {
        self.accounts.keys().for_each(|job| self.must_balance(*job));
        let goes_on: Vec<&JobId> = self.accounts.iter().filter(|(_, job)| !job.over).map(|(id, _)| id).collect();
        assert!(goes_on.is_empty(), "not over: {goes_on:?}");
    }

    /// The longest chain of a job, its parent, and so on.
    pub fn deepest(&self) -> usize {
        let above = |id| std::iter::successors(self.accounts.get(id), |job| self.accounts.get(&job.parent?)).count();
        self.accounts.keys().map(above).max().unwrap_or(0)
    }

    fn record(&mut self, record: &Record) {
        match record {
            Record::JobAccepted(accepted) => self.accept(accepted),
            Record::BudgetLeft { job, left, raised } => {
                let account = self.account(*job);
                (account.left, account.said_raised) = (left.clone(), raised.clone());
            }
            Record::JobEvent { job, event } => match &*event.event {
                JobEvent::Ended(_) => self.account(*job).over = true,
                JobEvent::Emitted { kind: EventKind::Metric, body } => self.metric(*job, body),
                JobEvent::Emitted { kind: EventKind::LeaseGranted, body } => self.permit(*job, body),
                JobEvent::Emitted { kind: EventKind::LeaseExtended, body } => {
                    self.authority.extended += 1;
                    let (id, _, until) = permission(body);
                    let held = self.account(*job).permitted.get_mut(&id).expect("only what is held is prolonged");
                    assert!(until > held.until, "{body:?} is no longer");
                    held.until = until;
                }
                JobEvent::Emitted { kind: EventKind::LeaseRevoked, body } => {
                    let (id, body, _) = permission(body);
                    *self.authority.ended.entry(body["reason"].as_str().expect("why").into()).or_default() += 1;
                    assert!(self.account(*job).permitted.remove(&id).is_some(), "{id} ends twice");
                }
                _ => {}
            },
            Record::HandedOver { .. } => self.authority.handed_over += 1,
            _ => {}
        }
    }

    /// Whether a job was accepted.
    pub fn knows(&self, job: JobId) -> bool {
        self.accounts.contains_key(&job)
    }

    fn account(&mut self, job: JobId) -> &mut Account {
        self.accounts.get_mut(&job).expect("it was accepted before")
    }

    fn accept(&mut self, accepted: &JobRecord) {
        let lease = Lease::parse(&accepted.lease).expect("a lease");
        let (ends, parent) = (accepted.bounds.constraints.expires_at, &accepted.bounds.parent);
        let parent = parent.as_ref().map(|parent| parent.job);
        if let Some(parent) = parent {
            self.children += 1;
            self.must_be_below(parent, accepted, &lease);
            self.account(parent).children.push(accepted.job);
        }
        let left = lease.budget().clone();
        let account = Account {
            parent,
            children: Vec::new(),
            shown: accepted.lease.clone(),
            lease,
            ends,
            left,
            spent: BTreeMap::new(),
            raised: BTreeMap::new(),
            said_raised: Budget::default(),
            over: false,
            trust: accepted.bounds.trust,
            permitted: BTreeMap::new(),
        };
        self.accounts.insert(accepted.job, account);
    }

    /// Checks that a cost is counted in the batch of its report, and settles the reservation that it names.
    fn metric(&mut self, job: JobId, body: &Json) {
        let body: Value = serde_json::from_str(body.as_str()).expect("JSON");
        let Some(kind) = body["name"].as_str().and_then(|name| name.strip_prefix("cost.")) else { return };
        if kind.starts_with("budget") {
            return;
        }
        let account = self.account(job);
        let unit = body["unit"].as_str().unwrap_or(kind);
        let Some(currency) = account.lease.budget().currency(unit).cloned() else { return };
        let amount = Amount::reported(&body["value"].to_string()).expect("what cannot be counted is refused");
        let spent = account.spent.entry(currency).or_default();
        *spent = *spent + amount;
        self.costs += 1;
        if let (Some(number), Some(reserved)) = (body["reservation"].as_u64(), self.reserved.get_mut(&job)) {
            reserved.open.remove(&number);
        }
    }

    fn permit(&mut self, job: JobId, body: &Json) {
        let (id, body, until) = permission(body);
        if body["operation"] == "cost.budget" {
            self.authority.raised += 1;
            return self.raise(job, body["resource"].as_str().expect("amounts"));
        }
        let operation: Namespace = body["operation"].as_str().and_then(|name| name.parse().ok()).expect("an operation");
        let lease = serde_json::json!({ operation.as_str(): [body["resource"]] });
        let lease = Lease::parse(&Json::parse(&lease.to_string()).expect("JSON")).expect("a lease");
        let elevates = body["trust_level"].as_str().map(|level| level.parse().expect("a trust level"));
        self.authority.granted += 1;
        self.authority.elevated += usize::from(elevates.is_some());
        self.account(job).permitted.insert(id, Permitted { operation, lease, until, elevates });
    }

    /// People have added to a job's budget, and thereby to the budgets of the jobs above it.
    fn raise(&mut self, job: JobId, amounts: &str) {
        let amounts = Budget::parse(amounts.split(',')).expect("what cannot be read is not granted");
        let mut next = Some(job);
        while let Some(job) = next {
            let account = self.account(job);
            for (currency, amount) in account.lease.budget().bounding(&amounts).iter() {
                let raised = account.raised.entry(currency.clone()).or_default();
                *raised = *raised + amount;
            }
            next = account.parent;
        }
    }

    /// Checks with samples that a child is allowed nothing that its parent is not, and that its lease ends no later.
    fn must_be_below(&self, parent: JobId, child: &JobRecord, lease: &Lease) {
        let above = &self.accounts[&parent];
        for (namespace, targets) in SAMPLES {
            for target in targets {
                let target = Target::new(&namespace, target).expect("a target");
                let may = |lease: &Lease| lease.permits(&namespace, &target).is_some();
                let escapes = may(lease) && !may(&above.lease);
                assert!(!escapes, "{parent} may not {namespace} on {target}, and its child {} may", child.job);
            }
        }
        if let Some(end) = above.ends {
            let ends = child.bounds.constraints.expires_at;
            assert!(ends.is_some_and(|at| at <= end), "{} ends at {ends:?}, its parent at {end}", child.job);
        }
        for (currency, _) in above.lease.budget().iter() {
            let bounded = lease.budget().left(currency.as_str()).is_some();
            assert!(bounded, "the {currency} of {} are bounded by nothing, those of its parent are", child.job);
        }
    }

    /// The trust level that an operation needs and the job lacks.
    fn lacking(&self, job: JobId, operation: &Namespace, target: &Target) -> Option<TrustLevel> {
        let trust = self.accounts[&job].trust;
        let needed = self.needs_trust.iter().rev().find(|(_, lease)| lease.permits(operation, target).is_some());
        needed.map(|(level, _)| *level).filter(|level| *level > trust)
    }

    /// Checks that the job was granted the operation, by its lease or by a permission that has not ended. If the
    /// operation needs more trust than the job has, a permission must have elevated the job.
    fn must_be_granted(&self, job: JobId, operation: &Namespace, target: &str) -> Result<(), String> {
        let account = &self.accounts[&job];
        let target = Target::new(operation, target).map_err(|why| why.to_string())?;
        let lacking = self.lacking(job, operation, &target);
        let by_people = account.permitted.values().any(|permitted| {
            let holds = permitted.until.is_none_or(|until| self.now < until);
            let is_trusted = lacking.is_none_or(|level| permitted.elevates >= Some(level));
            holds
                && is_trusted
                && permitted.operation == *operation
                && permitted.lease.permits(operation, &target).is_some()
        });
        let granted = account.lease.permits(operation, &target).is_some();
        let by_policy = self.allows_models && *operation == Namespace::ModelUse && account.lease.is_empty();
        if account.ends.is_some_and(|end| end <= self.now) {
            return Err(format!("its lease is over: {:?}", account.ends));
        }
        let may = by_people || lacking.is_none() && (granted || by_policy);
        if may { Ok(()) } else { Err(format!("it was not granted, and lacks {lacking:?}")) }
    }

    /// Checks that a job's budget is exactly the sum of what is left, what it spent, what it reserved, what running
    /// children were granted, and what ended children did not give back.
    fn must_balance(&self, id: JobId) {
        let account = &self.accounts[&id];
        for (currency, granted) in account.lease.budget().iter() {
            let of = |budget: &Budget| budget.left(currency.as_str()).unwrap_or_default();
            let raised = |account: &Account| account.raised.get(currency).copied().unwrap_or_default();
            assert_eq!(raised(account), of(&account.said_raised), "{id}: what people added of {currency}");
            let granted = granted + raised(account);
            let gone = |child: &Account| match child.over {
                true => of(child.lease.budget()) + raised(child) - of(&child.left),
                false => of(child.lease.budget()) + raised(child),
            };
            let below: Amount = account.children.iter().map(|child| gone(&self.accounts[child])).sum();
            let spent = account.spent.get(currency).copied().unwrap_or_default();
            let held = granted - of(&account.left) - spent - below;
            let (least, most) = self.reserved_of(id, currency);
            assert!(least <= held && held <= most, "{id}: {held} {currency} are reserved, not {least} to {most}");
        }
    }

    /// The least and the most that a job may have reserved.
    fn reserved_of(&self, job: JobId, currency: &Currency) -> (Amount, Amount) {
        let Some(reserved) = self.reserved.get(&job) else { return Default::default() };
        let of = |budget: &Budget| {
            let same = |(named, _): &(&Currency, Amount)| named.as_str().eq_ignore_ascii_case(currency.as_str());
            budget.iter().filter(same).map(|(_, amount)| amount).sum::<Amount>()
        };
        let least = reserved.open.values().map(of).sum();
        let waits = self.asked.keys().any(|(asks, _)| *asks == job);
        let most = if reserved.uncertain || waits { reserved.named.iter().map(of).sum() } else { least };
        (least, most)
    }
}

/// Whether a record concerns leases or budgets.
fn concerns(record: &Record) -> bool {
    match record {
        Record::JobAccepted(_) | Record::BudgetLeft { .. } => true,
        Record::JobEvent { event, .. } => match &*event.event {
            JobEvent::Ended(_) => true,
            JobEvent::Emitted { kind, .. } => matches!(
                kind,
                EventKind::Metric | EventKind::LeaseGranted | EventKind::LeaseExtended | EventKind::LeaseRevoked
            ),
            _ => false,
        },
        Record::HandedOver { .. } => true,
        _ => false,
    }
}

/// The permission in an event: its id, its members, and its end.
fn permission(body: &Json) -> (String, Value, Option<UtcMs>) {
    let body: Value = serde_json::from_str(body.as_str()).expect("JSON");
    let until = body["expires_at"].as_str().map(|at| UtcMs::parse(at).expect("a time"));
    (body["lease_id"].as_str().expect("an id").to_string(), body, until)
}
