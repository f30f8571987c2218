//! Checks of restarts, and of what the runtime holds.

use arcp_host::store::Store as _;
use arcp_proto::runtime::{Input, Runtime, miscounts};

use super::{World, seeds};

impl World {
    /// Checks that a restart from the log gives the state of the runtime, whatever the store has deleted.
    pub fn restores(&self) {
        self.counts();
        // Without a store that loads events, nothing survives the process.
        if !self.options.config.history {
            return;
        }
        let lived = self.runtime.digest();
        self.oracle.artifacts.is_counted(&self.runtime, lived.at);
        let mut store = self.store.clone();
        store.mend();
        // After a failure, the store may have a part of what it is given again.
        if store.commit(&self.given).is_err() || store.last() != lived.at {
            return;
        }
        for compact in [false, true] {
            let mut restored =
                Runtime::new(self.options.config.clone(), seeds(0), self.now).expect("the configuration works");
            for (at, record) in store.records(compact) {
                restored.handle(self.now, Input::Restore { at, record });
            }
            let differences = lived.differences(&restored.digest());
            assert!(differences.is_empty(), "a restart, tidied: {compact}, comes to something else: {differences:#?}");
            assert_eq!(miscounts(&restored), [], "what is counted after a restart is there");
            let kept = |runtime: &Runtime| runtime.stats().kept_event_bytes;
            // A compacted history counts as much as before events of its job were last deleted, which is more than one
            // that is loaded in full.
            let as_heavy = !compact || kept(&self.runtime) <= kept(&restored);
            assert!(as_heavy, "the same events weigh the same after a restart");
        }
    }

    /// Checks that no account counts anything when everybody has read everything and all is durable.
    pub(super) fn owes_nothing(&self) {
        let stats = self.runtime.stats();
        assert_eq!((stats.unsent_bytes, stats.undurable_bytes), (0, 0), "bytes not sent, and not durable");
        self.counts();
    }

    /// Checks that the accounts count what is held.
    pub fn counts(&self) {
        assert_eq!(miscounts(&self.runtime), [], "what is counted is there");
    }
}
