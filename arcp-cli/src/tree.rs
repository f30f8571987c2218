//! `arcp tree`: a job with its children and their children.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use arcp_blocking::Client;
use arcp_proto::id::WireId;
use arcp_proto::json::Object;
use arcp_proto::lease::{Amount, Budget, Currency, Lease};
use arcp_proto::model::job::{JobStatus, JobSummary};
use arcp_proto::model::request::ListQuery;
use arcp_proto::runtime::Wait;
use arcp_proto::time::UtcMs;

use crate::args::Where;
use crate::connect::Chosen;
use crate::exit::{Exit, Failure};
use crate::list::{self, AROUND_MS, all, summary};
use crate::output::{self, Cell, Format, Printing, Row};
use crate::values;

const HEADER: [&str; 4] = ["JOB", "STATUS", "AGENT", "BUDGET"];

/// Show a job and its children, with their status and budgets.
///
/// `child to come` marks a job whose agent requested a child that is not accepted yet. Of
/// each budget, `below` is held by unfinished children, and `spent` was spent by the job
/// and its finished children.
#[derive(Debug, clap::Args)]
pub struct Tree {
    /// The job.
    #[arg(value_parser = values::id)]
    pub job: String,
    /// The output format.
    #[command(flatten)]
    pub printing: Printing,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Shows a job and all jobs below it.
pub fn run(args: &Tree) -> Result<Exit, Failure> {
    let client = Chosen::of(&args.place)?.connect()?;
    let first = summary(&client, &args.job)?;
    let family = Family::of(&first, younger(&client, &first)?);
    match args.printing.output {
        Format::Json => family.write_nested()?,
        Format::Table | Format::Jsonl | Format::Id => output::rows(args.printing, &HEADER, &family.rows())?,
    }
    Ok(Exit::Success)
}

/// The jobs that can be below `first`: a child is accepted after its parent.
fn younger(client: &Client, first: &JobSummary) -> Result<Vec<JobSummary>, Failure> {
    let since = first.created_at.map(|at| UtcMs(at.0.saturating_sub(AROUND_MS)));
    Ok(all(client, ListQuery { created_after: since, ..ListQuery::default() })?)
}

/// A job and all jobs below it, each before its children.
struct Family(Vec<Member>);

struct Member {
    job: JobSummary,
    /// How many jobs are above it.
    depth: usize,
    /// The tree's lines before its id.
    lines: String,
    funds: Vec<Fund>,
}

/// A budget of a job, in one currency.
struct Fund {
    currency: String,
    granted: Amount,
    spent: Amount,
    below: Amount,
    left: Amount,
}

impl Family {
    /// Builds the tree. It is finite for any listing: each job has one parent, and the parent of `first` is ignored.
    fn of(first: &JobSummary, listed: Vec<JobSummary>) -> Family {
        let mut by_parent: BTreeMap<WireId, Vec<JobSummary>> = BTreeMap::new();
        for job in listed.into_iter().filter(|job| job.job != first.job) {
            if let Some(parent) = job.parent.clone() {
                by_parent.entry(parent).or_default().push(job);
            }
        }
        let mut members = Vec::new();
        let mut next = vec![(first.clone(), 0, String::new(), String::new())];
        while let Some((job, depth, lines, beneath)) = next.pop() {
            let children = by_parent.remove(&job.job).unwrap_or_default();
            // In reverse order, because they are popped from the end.
            for (at, child) in children.into_iter().rev().enumerate() {
                let (branch, trunk) = if at == 0 { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                next.push((child, depth + 1, format!("{beneath}{branch}"), format!("{beneath}{trunk}")));
            }
            members.push(Member { job, depth, lines, funds: Vec::new() });
        }
        let mut family = Family(members);
        family.count();
        family
    }

    /// Computes the budgets, from the bottom up: what the children of an ended child hold still counts against the
    /// parent of that child.
    fn count(&mut self) {
        let mut held: Vec<BTreeMap<String, Amount>> = Vec::new();
        for member in self.0.iter_mut().rev() {
            held.resize_with(member.depth + 2, BTreeMap::new);
            let below = held.pop().unwrap_or_default();
            let granted = granted(&member.job);
            let of = |currency: &str| below.get(currency).copied().unwrap_or(Amount::ZERO);
            let fund = |(currency, granted): (&Currency, Amount)| {
                let (below, left) =
                    (of(currency.as_str()), member.job.budget.left(currency.as_str()).unwrap_or(granted));
                Fund { currency: currency.to_string(), granted, spent: granted - left - below, below, left }
            };
            member.funds = granted.iter().map(fund).collect();
            let has_ended = matches!(member.job.status, Some(JobStatus::Ended(_)));
            let above = held.last_mut().into_iter();
            above.for_each(|above| {
                for fund in &member.funds {
                    let holds = if has_ended { fund.below } else { fund.granted };
                    let sum = above.entry(fund.currency.clone()).or_insert(Amount::ZERO);
                    *sum = *sum + holds;
                }
            });
        }
    }

    fn rows(&self) -> Vec<Row> {
        self.0.iter().map(Member::row).collect()
    }

    /// Prints the tree as one JSON object; children are nested in their parents.
    fn write_nested(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let mut open = 0;
        for member in &self.0 {
            let closes = open - member.depth.min(open);
            let before = if open == 0 {
                ""
            } else if closes > 0 {
                ",\n"
            } else {
                "\n"
            };
            let json = member.json().done();
            let begun = json.strip_suffix('}').unwrap_or(&json);
            write!(out, "{}{before}{}{begun},\"children\":[", "]}".repeat(closes), "  ".repeat(member.depth))?;
            open = member.depth + 1;
        }
        writeln!(out, "{}", "]}".repeat(open))?;
        out.flush()
    }
}

impl Member {
    fn row(&self) -> Row {
        let funds: Vec<String> = self.funds.iter().map(Fund::words).collect();
        let budget = if funds.is_empty() { "-".to_string() } else { funds.join("; ") };
        Row {
            id: self.job.job.to_string(),
            cells: vec![
                Cell::from(format!("{}{}", self.lines, self.job.job)),
                self.status(),
                Cell::from(&self.job.agent),
                Cell::from(budget),
            ],
            json: self.json().done(),
        }
    }

    /// The status of the job, and whether a child is to come, which has no id before the host has answered.
    fn status(&self) -> Cell {
        let status = list::status(&self.job);
        let awaits_child = self.job.waits.what.iter().any(|word| word == Wait::Delegation.as_str());
        if awaits_child { status.followed_by(", child to come") } else { status }
    }

    /// The entry of the listing, with the budgets.
    fn json(&self) -> Object {
        let mut json = list::json(&self.job);
        for (name, amount) in [
            ("granted", (|fund| fund.granted) as fn(&Fund) -> Amount),
            ("spent", |fund| fund.spent),
            ("below", |fund| fund.below),
        ] {
            if !self.funds.is_empty() {
                json.object(name, |out| {
                    for fund in &self.funds {
                        out.member(&fund.currency, &amount(fund).to_string());
                    }
                });
            }
        }
        json
    }
}

impl Fund {
    fn words(&self) -> String {
        let Fund { currency, granted, spent, below, left } = self;
        let below = if *below == Amount::ZERO { String::new() } else { format!("{below} below, ") };
        format!("{granted} {currency}: {spent} spent, {below}{left} left")
    }
}

/// The budget of a job, with what people have added.
fn granted(job: &JobSummary) -> Budget {
    let mut granted = Lease::parse(&job.lease).map(|lease| lease.budget().clone()).unwrap_or_default();
    granted.give_back(&job.raised);
    granted
}

#[cfg(test)]
mod tests {
    use arcp_proto::json::Json;
    use arcp_proto::lease::Constraints;
    use arcp_proto::model::job::{FinalStatus, JobWaits};

    use super::*;

    fn job(id: &str, parent: Option<&str>, status: JobStatus, (granted, left): (&str, &str)) -> JobSummary {
        let lease = format!(r#"{{"cost.budget":["USD:{granted}"]}}"#);
        JobSummary {
            job: WireId::new(id).expect("an id"),
            agent: "it".to_string(),
            status: Some(status),
            lease: Json::parse(&lease).expect("JSON"),
            constraints: Constraints::default(),
            budget: Budget::parse([format!("USD:{left}").as_str()]).expect("a budget"),
            raised: Budget::default(),
            parent: parent.and_then(WireId::new),
            created_at: None,
            trace: None,
            last_event: 0,
            ended_at: None,
            owner: None,
            trust: None,
            waits: JobWaits::default(),
        }
    }

    #[test]
    fn what_people_added_was_granted_wherever_it_was_asked_for() {
        let raised = |job: JobSummary, more: &str| JobSummary {
            raised: Budget::parse([format!("USD:{more}").as_str()]).expect("a budget"),
            ..job
        };
        // It was granted 1 and gave all of it to its child, which was granted 2 more and spent 2.5.
        let first = raised(job("a", None, JobStatus::Running, ("1", "0")), "2");
        let child = raised(job("a1", Some("a"), JobStatus::Running, ("1", "0.5")), "2");
        let family = Family::of(&first, vec![child]);
        let shown: Vec<String> = family.0.iter().map(|member| member.funds[0].words()).collect();
        assert_eq!(shown, ["3 USD: 0 spent, 3 below, 0 left", "3 USD: 2.5 spent, 0.5 left"]);
    }

    #[test]
    fn what_children_hold_is_below_until_they_end_wherever_they_stand() {
        let (goes_on, ended) = (JobStatus::Running, JobStatus::Ended(FinalStatus::Success));
        let first = job("a", None, goes_on, ("10", "3.5"));
        let listed = vec![
            job("stranger", None, goes_on, ("9", "9")),
            first.clone(),
            // It was given 4 of its parent's 10; its own child holds 1 of these.
            job("a1", Some("a"), goes_on, ("4", "2.75")),
            // It had 2 and gave 0.5 back. Its child still runs and holds 1: 0.5 are spent.
            job("a2", Some("a"), ended, ("2", "0.5")),
            job("a11", Some("a1"), goes_on, ("1", "1")),
            job("a21", Some("a2"), goes_on, ("1", "0.25")),
            job("another", Some("stranger"), goes_on, ("1", "1")),
        ];
        let family = Family::of(&first, listed);
        let shown: Vec<String> = family
            .0
            .iter()
            .map(|member| format!("{}{} {}", member.lines, member.job.job, member.funds[0].words()))
            .collect();
        assert_eq!(
            shown,
            [
                "a 10 USD: 1.5 spent, 5 below, 3.5 left",
                "├─ a1 4 USD: 0.25 spent, 1 below, 2.75 left",
                "│  └─ a11 1 USD: 0 spent, 1 left",
                "└─ a2 2 USD: 0.5 spent, 1 below, 0.5 left",
                "   └─ a21 1 USD: 0.75 spent, 0.25 left",
            ]
        );
    }

    #[test]
    fn a_job_whose_child_waits_for_the_host_says_so() {
        let mut first = job("a", None, JobStatus::Running, ("1", "1"));
        let status = |job: &JobSummary| Family::of(job, Vec::new()).0[0].status();
        assert_eq!(status(&first), Cell::status(Some(JobStatus::Running)));
        first.waits.what = vec!["child".to_string(), "delegation".to_string()];
        assert_eq!(status(&first), Cell::status(Some(JobStatus::Running)).followed_by(", child to come"));
    }

    #[test]
    fn jobs_that_are_listed_in_a_circle_are_shown_once() {
        let both = |id, parent| job(id, Some(parent), JobStatus::Running, ("1", "1"));
        let (first, other) = (both("a", "b"), both("b", "a"));
        let family = Family::of(&first, vec![first.clone(), other]);
        let ids: Vec<&str> = family.0.iter().map(|member| member.job.job.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
    }
}
