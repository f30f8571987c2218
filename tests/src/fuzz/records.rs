//! Stored and recorded data. Bytes that a disk has corrupted cause no panic, and data that can be read stays the same
//! when it is written again.

use arcp_proto::entropy::Seeds;
use arcp_proto::id::LogPos;
use arcp_proto::record::replay;
use arcp_proto::runtime::{Config, Input, Record, Runtime};
use arcp_proto::time::{Now, Timestamp, UtcMs};

use super::bytes::Bytes;

/// If the first byte is even, each line is a record of an earlier run; otherwise the input is a recording.
pub(super) fn records(data: &[u8]) {
    let mut data = Bytes(data);
    if data.byte() & 1 == 1 {
        let Ok(text) = std::str::from_utf8(data.0) else { return };
        // The recording replays, or the error says why not.
        let _ = replay(text);
        return;
    }
    let now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
    let mut config = Config::new("fuzz", "1").with_agent("echo", &[]);
    config.history = true;
    let mut runtime = Runtime::new(config, Seeds { public: [1; 32], secret: [2; 32] }, now).expect("a configuration");
    let mut last = 0;
    while !data.is_empty() {
        let Ok(record) = serde_json::from_slice::<Record>(data.line()) else { continue };
        let written = serde_json::to_string(&record).expect("a record can be written");
        let again: Record = serde_json::from_str(&written).unwrap_or_else(|e| panic!("{e}: {written}"));
        assert_eq!(record, again);
        last += 1;
        runtime.handle(now, Input::Restore { at: LogPos(last), record });
    }
    runtime.handle(now, Input::Restored { last: LogPos(last) });
    while runtime.poll_output().is_some() {}
}
