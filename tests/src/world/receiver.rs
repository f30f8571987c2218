//! Another runtime of a world, to which jobs can be handed over.

use std::collections::BTreeMap;

use arcp_proto::error::ErrorCode;
use arcp_proto::id::{JobId, OpId};
use arcp_proto::model::handoff::{HandoffAnswer, HandoffOrder};
use arcp_proto::runtime::Input;

use super::{Event, World};

/// How the receiver behaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Says {
    /// It takes the job, and answers.
    #[default]
    Takes,
    /// It takes the job, and its answer is lost.
    TakesInSilence,
    /// It takes the job, and the connection hangs.
    TakesAndHangs,
    /// The request is lost, and the sender does not know.
    IsLost,
    /// It refuses a job that it does not have yet.
    Refuses(ErrorCode),
    /// It cannot be reached.
    IsAway(ErrorCode),
}

/// The receiver and its jobs.
#[derive(Debug, Default)]
pub struct Receiver {
    /// How it behaves from this time on.
    pub says: Says,
    /// The requests, in order.
    pub orders: Vec<HandoffOrder>,
    /// The jobs that it has, by key: the first request, and the job's id there.
    pub has: BTreeMap<String, (HandoffOrder, String)>,
}

impl Receiver {
    /// Whether it has this job.
    pub fn has(&self, job: JobId) -> bool {
        self.has.values().any(|(order, _)| order.job == job)
    }

    /// The id that it gave this job.
    pub fn name_of(&self, job: JobId) -> Option<&str> {
        self.has.values().find(|(order, _)| order.job == job).map(|(_, name)| name.as_str())
    }

    /// Checks that it does not have a job whose agent runs here.
    pub(super) fn must_lack(&self, job: JobId) {
        assert!(!self.has(job), "{job} runs here, and another runtime has it");
    }

    fn take(&mut self, order: &HandoffOrder) -> HandoffAnswer {
        let name = format!("job_there{}", self.has.len());
        let (first, name) = self.has.entry(order.key().as_str().into()).or_insert((order.clone(), name));
        assert_eq!(first.submit(), order.submit(), "it is asked for something else by the same key");
        HandoffAnswer::Taken { job: name.clone() }
    }

    fn answer(&mut self, order: &HandoffOrder) -> Option<HandoffAnswer> {
        let nobody_knows = || Some(HandoffAnswer::Unknown { message: "the line broke".into() });
        let has = self.has.contains_key(order.key().as_str());
        match self.says.clone() {
            Says::Takes => Some(self.take(order)),
            Says::TakesInSilence => {
                self.take(order);
                nobody_knows()
            }
            Says::TakesAndHangs => {
                self.take(order);
                None
            }
            Says::IsLost => nobody_knows(),
            Says::Refuses(_) if has => Some(self.take(order)),
            Says::Refuses(code) => Some(HandoffAnswer::Refused { code, message: "not here".into() }),
            Says::IsAway(code) => Some(HandoffAnswer::NotAsked { code, message: "nobody answers".into() }),
        }
    }
}

impl World {
    pub(super) fn hand_off(&mut self, op: OpId, order: HandoffOrder) {
        self.receiver.orders.push(order.clone());
        if let Some(answer) = self.receiver.answer(&order) {
            self.later(Event::ToRuntime(Input::HandedOff { op, answer }));
        }
    }
}
