//! Checkpoints of random worlds: asked for, begun at by other jobs, and resumed at.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Peer, answered, ask};
use crate::world::World;

/// What was asked about checkpoints, and what came of it.
#[derive(Debug, Default)]
pub struct Checkpoints {
    asked: BTreeMap<String, Wish>,
    /// What came.
    pub came: Came,
}

/// What became of wishes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Came {
    /// Checkpoints that were made because somebody asked.
    pub made: usize,
    /// Jobs that began at one.
    pub restored: usize,
    /// Times that a session was sent what came after one.
    pub resumed: usize,
}

#[derive(Clone, Copy, Debug)]
enum Wish {
    Create,
    Restore,
    Resume,
}

impl Checkpoints {
    /// Notes what was asked for and came.
    pub(super) fn look(&mut self, frame: &Value) {
        let wish = answered(frame).and_then(|request| self.asked.get(request));
        let came = match (wish, frame["type"].as_str()) {
            (Some(Wish::Create), Some("job.checkpoint")) => &mut self.came.made,
            (Some(Wish::Restore), Some("job.accepted")) => &mut self.came.restored,
            (Some(Wish::Resume), Some("ack")) => &mut self.came.resumed,
            _ => return,
        };
        *came += 1;
    }

    /// Asks for a checkpoint of a job, or for a job that begins at one that was told of, or for
    /// what came after it.
    pub(super) fn drive(&mut self, world: &mut World, peer: &mut Peer) {
        let told = peer.raw.as_ref().and_then(|raw| {
            let frames = world.frames_of(raw.conn);
            frames.iter().rev().take(64).find_map(|text| text.split('"').find(|part| part.starts_with("chk_")))
        });
        let told = told.map(String::from);
        let (wish, kind, payload) = match (told, world.below(3)) {
            (Some(id), 0) => (Wish::Restore, "checkpoint.restore", json!({"checkpoint_id": id})),
            (Some(id), 1) if peer.family.has_open_requests() => {
                let streams = world.below(2) == 0;
                (Wish::Resume, "resume", json!({"checkpoint_id": id, "include_open_streams": streams}))
            }
            _ => {
                let job = peer.pick_open_job(world).unwrap_or_else(|| "job_none".into());
                (Wish::Create, "checkpoint.create", json!({"job_id": job, "label": "l"}))
            }
        };
        ask(world, peer, kind, payload);
        self.asked.extend(peer.raw.as_ref().map(|raw| (raw.last_id(), wish)));
    }
}
