//! Tokens of jobs, issued and exchanged by whoever has seen one.

use serde_json::{Value, json};

use super::{Peer, ask};
use crate::world::World;

/// The most that are tried again.
const KEPT: usize = 16;

/// Tokens that somebody was given, whosever the job is.
#[derive(Debug, Default)]
pub struct Tokens(Vec<String>);

impl Tokens {
    /// Notes a token that came.
    pub fn look(&mut self, frame: &Value) {
        if frame["type"] == "x-vendor.arcp.job_token" {
            self.0.truncate(KEPT - 1);
            self.0.insert(0, frame["payload"]["token"].as_str().expect("a token").into());
        }
    }

    /// Has one issued, or gives one that perhaps is somebody else's, void or wrong.
    pub fn drive(&self, world: &mut World, peer: &mut Peer) {
        let at = world.below(2 * (self.0.len() as u64 + 1)) as usize;
        match self.0.get(at) {
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
            }
            None => {
                let job = peer.pick_job(world).unwrap_or_else(|| "job_none".into());
                ask(world, peer, "x-vendor.arcp.job_token.issue", json!({"job_id": job}));
            }
        }
    }
}
