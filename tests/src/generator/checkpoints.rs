//! Checkpoints in random worlds: requested, and used to start jobs and to resume sessions.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Peer, answered, ask};
use crate::world::World;

/// Requests about checkpoints, and what came of them.
#[derive(Debug, Default)]
pub struct Checkpoints {
    asked: BTreeMap<String, Wish>,
    /// The counts.
    pub came: Came,
}

/// The outcomes of requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Came {
    /// Checkpoints that were made on request.
    pub made: usize,
    /// Jobs that began at a checkpoint.
    pub restored: usize,
    /// Times that a session was sent the events after a checkpoint.
    pub resumed: usize,
}

#[derive(Clone, Copy, Debug)]
enum Wish {
    Create,
    Restore,
    Resume,
}

impl Checkpoints {
    /// Notes the outcome of a request.
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

    /// Asks for a checkpoint of a job, for a job that begins at a known checkpoint, or for the events after one.
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
