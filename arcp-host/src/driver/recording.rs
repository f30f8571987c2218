//! A recording that is written while the runtime runs.

use std::io::Write;

use arcp_proto::entropy::Seeds;
use arcp_proto::record::Recorder;
use arcp_proto::runtime::{Config, Input, Output};
use arcp_proto::time::Now;

use crate::server_log::log;

pub(super) struct Recording {
    recorder: Recorder,
    out: Box<dyn Write + Send>,
}

impl Recording {
    pub(super) fn new(config: &Config, seeds: &Seeds, now: Now, out: Box<dyn Write + Send>) -> Recording {
        Recording { recorder: Recorder::new(config, seeds, now), out }
    }

    pub(super) fn input(&mut self, now: Now, input: &Input) {
        self.recorder.input(now, input);
    }

    pub(super) fn output(&mut self, output: &Output) {
        self.recorder.output(output);
    }

    /// Writes what was recorded; returns false if writing fails.
    pub(super) fn write(&mut self) -> bool {
        let written = self.out.write_all(self.recorder.take().as_bytes());
        if let Err(error) = &written {
            log(format_args!("arcp: the recording stops here, it cannot be written: {error}"));
        }
        written.is_ok()
    }
}
