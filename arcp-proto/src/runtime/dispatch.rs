//! Routes what one part says to those that it concerns.

use super::Runtime;
use super::effect::Effect;
use crate::id::JobId;
use crate::model::event::EventClass;

impl Runtime {
    /// Carries what parts have said to the others, until nobody says anything.
    pub(super) fn carry(&mut self) {
        while let Some(effect) = self.ctx.next_effect() {
            match effect {
                Effect::Appended { job, n, class, grown } => self.on_appended(job, n, class, grown),
            }
        }
    }

    /// An event is numbered for everyone who is shown its job, and perhaps
    /// others make room for it.
    fn on_appended(&mut self, id: JobId, n: u64, class: EventClass, grown: bool) {
        for at in 0.. {
            let Some(watcher) = self.jobs.get(id).and_then(|job| job.watchers.get(at).copied()) else {
                break;
            };
            self.index_event(watcher, id, n);
        }
        self.index_for_observers(id, n);
        self.bound_events(id);
        if grown {
            self.on_history_grown(id);
        }
        if !class.is_end() {
            self.check_readers(id);
        }
    }
}
