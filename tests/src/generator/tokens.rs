//! Job tokens: issued, and exchanged by any client that has seen one.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Peer, answered, ask};
use crate::raw::Raw;
use crate::world::World;

/// The most tokens that are tried again.
const KEPT: usize = 16;

/// Tokens that were issued, for anybody's jobs.
#[derive(Debug, Default)]
pub struct Tokens {
    given: Vec<String>,
    /// Exchanges of tokens that were requested.
    asked: BTreeSet<String>,
    /// Exchanges that succeeded.
    pub exchanged: usize,
}

impl Tokens {
    /// Notes issued tokens, and exchanges that succeeded.
    pub fn look(&mut self, frame: &Value) {
        let is_asked = answered(frame).is_some_and(|request| self.asked.contains(request));
        self.exchanged += usize::from(is_asked && frame["type"] == "job.subscribed");
        if frame["type"] == "x-vendor.arcp.job_token" {
            self.given.truncate(KEPT - 1);
            self.given.insert(0, frame["payload"]["token"].as_str().expect("a token").into());
        }
    }

    /// Requests a token, or exchanges one that may be another principal's, invalid or wrong.
    pub(super) fn drive(&mut self, world: &mut World, peer: &mut Peer) {
        let at = world.below(2 * (self.given.len() as u64 + 1)) as usize;
        match self.given.get(at) {
            Some(token) => {
                let mut token = token.clone();
                if world.below(8) == 0 {
                    token.replace_range(token.len() - 2.., "AA");
                }
                let wish = match world.below(2) {
                    0 => json!({"token": token}),
                    _ => json!({"token": token, "from_event_seq": world.below(20)}),
                };
                ask(world, peer, "x-vendor.arcp.job_token.exchange", wish);
                self.asked.extend(peer.raw.as_ref().map(Raw::last_id));
            }
            None => {
                let job = peer.pick_job(world).unwrap_or_else(|| "job_none".into());
                ask(world, peer, "x-vendor.arcp.job_token.issue", json!({"job_id": job}));
            }
        }
    }
}
