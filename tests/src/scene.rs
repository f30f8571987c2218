//! Golden transcripts, which people can read. `ARCP_BLESS=1` writes them anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::raw::Raw;
use crate::world::{Options, World};

/// A scene: the frames that a connection sends and gets, line by line.
#[derive(Debug)]
pub struct Scene {
    /// The world of the scene.
    pub world: World,
    text: String,
    shown: usize,
}

impl Scene {
    /// A new scene in a world with some agents.
    pub fn new(title: &str) -> Scene {
        let mut options = Options::new(7);
        options
            .config
            .agents
            .retain(|agent| ["echo", "slow", "chunker", "kinds", "waiter"].contains(&agent.name.as_str()));
        Scene { world: World::new(options), text: format!("# {title}\n"), shown: 0 }
    }

    /// Sends a frame, and writes down the frames that come.
    pub fn say(&mut self, raw: &mut Raw, kind: &str, payload: Value) {
        let sent = json!({"type": kind, "payload": payload});
        writeln!(self.text, "> {}", sent).expect("a string");
        raw.send(&mut self.world, kind, payload);
        self.hear(raw);
    }

    /// Runs the world until nothing is in flight, and writes down the frames that came.
    pub fn hear(&mut self, raw: &Raw) {
        self.world.settle();
        let frames = self.world.frames_of(raw.conn);
        for frame in &frames[self.shown..] {
            writeln!(self.text, "< {frame}").expect("a string");
        }
        self.shown = frames.len();
        if let Some(reason) = self.world.close_reason(raw.conn) {
            writeln!(self.text, "! closed: {reason:?}").expect("a string");
        }
    }

    /// Writes a heading.
    pub fn note(&mut self, text: &str) {
        writeln!(self.text, "\n# {text}").expect("a string");
    }

    /// Opens another connection.
    pub fn connect(&mut self) -> Raw {
        self.shown = 0;
        Raw::connect(&mut self.world)
    }

    /// Compares the scene with the golden transcript.
    pub fn close(self, name: &str) {
        golden(name, &self.text);
        self.world.finish();
    }
}

/// Compares a text with the golden one of this name; `ARCP_BLESS=1` replaces the golden one.
pub fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("transcripts").join(name);
    if std::env::var_os("ARCP_BLESS").is_some() {
        std::fs::write(&path, text).expect("written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    for (n, (kept, now)) in kept.lines().zip(text.lines()).enumerate() {
        assert_eq!(kept, now, "{name}:{}; ARCP_BLESS=1 accepts the new one", n + 1);
    }
    assert_eq!(kept.lines().count(), text.lines().count(), "{name}; ARCP_BLESS=1 accepts the new one");
}

/// The frames that have come when nothing is in flight, as types and codes.
pub fn answers(world: &mut World, raw: &mut Raw) -> String {
    let shown = raw.settle(world).into_iter().map(|frame| {
        let code = frame["payload"]["code"].as_str().map(|code| format!(" {code}")).unwrap_or_default();
        format!("{}{code}", frame["type"].as_str().unwrap_or_default())
    });
    shown.collect::<Vec<_>>().join(", ")
}
