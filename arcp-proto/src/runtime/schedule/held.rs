//! Restored schedules, and the bytes that all schedules hold.

use super::{ENTRY, HeldFor, LogPos, Phase, Recount, Schedule, Schedules, Times};
use crate::id::JobId;
use crate::model::schedule::{Missed, Overlap};
use crate::runtime::context::Context;
use crate::runtime::schedule_records::{ScheduleRecord, ScheduleState};

impl Schedules {
    /// Restores a schedule.
    pub(in crate::runtime) fn restore(&mut self, ctx: &mut Context, at: LogPos, record: ScheduleRecord) {
        self.add(ctx, at, record);
    }

    /// Restores the state of a schedule.
    pub(in crate::runtime) fn restore_state(&mut self, at: LogPos, state: ScheduleState) {
        if let Some(schedule) = self.kept.get_mut(&state.schedule) {
            schedule.state = state;
            schedule.state_at = at;
        }
    }

    /// Restores that these schedules were forgotten.
    pub(in crate::runtime) fn restore_forgotten(&mut self, entries: &[LogPos]) {
        for at in entries {
            self.remove(*at);
        }
    }

    /// All schedules are restored: finds out what was missed meanwhile. `goes_on`: whether a job has not ended.
    pub(in crate::runtime) fn on_restored(&mut self, ctx: &mut Context, goes_on: impl Fn(JobId) -> bool) {
        let now = ctx.now.utc;
        for at in self.kept.keys().copied().collect::<alloc::vec::Vec<LogPos>>() {
            let Some(schedule) = self.kept.get_mut(&at) else { continue };
            let waits_for = schedule.state.last.map(|(_, job)| job).filter(|job| goes_on(*job));
            if let (Some(job), Overlap::Queue) = (waits_for, schedule.record.overlap) {
                self.by_job.insert(job, at);
            }
            if let Times::At(once) = schedule.record.times {
                schedule.phase = Phase::Waiting;
                let missed = once <= now && schedule.record.missed == Missed::None;
                if once > schedule.state.upto && !missed && schedule.state.paused.is_none() {
                    schedule.coming.push_back(once);
                }
            } else if schedule.state.paused.is_some() {
                schedule.phase = Phase::Waiting;
            }
            self.plan(ctx, at);
        }
    }

    /// Everything that can be seen from outside, for the digest of the runtime.
    pub(in crate::runtime) fn all(&self) -> impl Iterator<Item = (&ScheduleRecord, &ScheduleState)> {
        self.kept.values().map(|Schedule { record, state, .. }| (record, state))
    }

    pub(in crate::runtime) fn recount(&self, recount: &mut Recount<'_>) {
        for schedule in self.kept.values() {
            let bytes = ENTRY + schedule.record.bytes();
            debug_assert_eq!(schedule.charge.bytes(), bytes, "what it is never changes");
            recount.add(schedule.charge.balance(), HeldFor::Schedules, bytes);
        }
    }
}
