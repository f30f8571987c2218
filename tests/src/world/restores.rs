//! What a restart comes to, and what is held.

use arcp_host::store::Store as _;
use arcp_proto::runtime::{Input, Runtime, miscounts};

use super::{World, seeds};

impl World {
    /// A restart from the log as it stands, whatever the store has let go of,
    /// comes to what the runtime is.
    pub fn restores(&self) {
        self.counts();
        // Without a store that gives events back, nothing outlives the process.
        if !self.options.config.history {
            return;
        }
        let lived = self.runtime.digest();
        self.oracle.artifacts.is_counted(&self.runtime, lived.at);
        let mut store = self.store.clone();
        store.mend();
        // Of what was given again after a failure it may have a part.
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
            // A tidied history weighs as much as before its job's last events went: more than one that is read whole.
            let as_heavy = !compact || kept(&self.runtime) <= kept(&restored);
            assert!(as_heavy, "the same events weigh the same after a restart");
        }
    }

    /// Once everybody has read everything and all is durable, no account has a
    /// rest.
    pub(super) fn owes_nothing(&self) {
        let stats = self.runtime.stats();
        assert_eq!((stats.unsent_bytes, stats.undurable_bytes), (0, 0), "bytes not sent, and not durable");
        self.counts();
    }

    /// What the accounts say is held is held.
    pub fn counts(&self) {
        assert_eq!(miscounts(&self.runtime), [], "what is counted is there");
    }
}
