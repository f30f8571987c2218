//! What is kept between runs, in the user's state directory: stores and tokens of runtimes, the
//! [entries](crate::runtimes) of runtimes, and submissions with their keys and the sessions that were left open.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use arcp_host::replace_file::replace_file;
use arcp_proto::id::{IdempotencyKey, WireId};
use arcp_proto::json::Json;
use arcp_proto::model::request::ResumeClaim;
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::lease::Asked;

/// How many submissions are kept; the oldest are deleted.
const KEPT: usize = 1000;

/// The file with the keys of known runtimes.
pub const KNOWN_RUNTIMES: &str = "known_runtimes";

/// The state directory.
#[derive(Clone, Debug)]
pub struct State(PathBuf);

/// A submitted job: what is needed to submit it again with its key.
#[derive(Debug, Serialize, Deserialize)]
pub struct Submission {
    /// The URL of the runtime.
    pub url: String,
    /// The agent as it was requested.
    pub agent: String,
    /// The input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Json>,
    /// The key.
    pub key: IdempotencyKey,
    /// The time limit in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runtime: Option<std::num::NonZeroU32>,
    /// The authority as it was requested.
    #[serde(default, skip_serializing_if = "Asked::is_nothing")]
    pub authority: Asked,
    /// The parent job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<WireId>,
    /// The session that submitted it, if it was left open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<KeptSession>,
}

/// A session that was left open. Some runtimes let only the session that submitted a job cancel it.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeptSession {
    /// Its family.
    pub family: Family,
    /// Its id.
    pub id: WireId,
    /// The token that resumes it.
    pub token: Secret,
    /// The last event sequence that was received.
    pub last_seq: u64,
}

impl KeptSession {
    /// The session that a client left, if the claim names it.
    pub fn of(family: Family, claim: ResumeClaim) -> Option<KeptSession> {
        Some(KeptSession { family, id: claim.session?, token: claim.token, last_seq: claim.last_seq })
    }

    /// The claim that resumes it.
    pub fn claim(&self) -> ResumeClaim {
        ResumeClaim { session: Some(self.id.clone()), token: self.token.clone(), last_seq: self.last_seq }
    }
}

impl State {
    /// The user's state directory: `ARCP_STATE_DIR`, else
    /// `XDG_STATE_HOME/arcp`, else `~/.local/state/arcp`.
    pub fn of_user() -> Option<State> {
        let own = std::env::var_os("ARCP_STATE_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let xdg =
            || std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty()).map(|dir| Path::new(&dir).join("arcp"));
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state/arcp"));
        own.or_else(xdg).or_else(home).map(State)
    }

    /// A state directory at this path.
    #[cfg(test)]
    pub fn at(folder: PathBuf) -> State {
        State(folder)
    }

    /// The directory.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// The file with the keys of known runtimes that use TLS.
    pub fn known_runtimes(&self) -> PathBuf {
        self.0.join(KNOWN_RUNTIMES)
    }

    /// The default store of a runtime at this place.
    pub fn store(&self, place: &str) -> io::Result<PathBuf> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        Ok(self.0.join(format!("store-{place}.db")))
    }

    /// The token of runtimes at this place, which is usually a port: clients of an earlier runtime there can use it
    /// again.
    pub fn token(&self, place: &str, make: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
        if let Some(token) = self.token_at(place) {
            return Ok(token);
        }
        let token = make()?;
        self.put_token(place, &token)?;
        Ok(token)
    }

    /// The token that was generated for this place. `None` if others can read the file, or another user owns it.
    fn token_at(&self, place: &str) -> Option<String> {
        self.token_of(place, geteuid().as_raw())
    }

    fn token_of(&self, place: &str, user: u32) -> Option<String> {
        self.private_of(&token_file(place), user).filter(|token: &String| !token.is_empty())
    }

    /// The value in a file. `None` if others can read the file, or another user owns it.
    pub fn private<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Option<T> {
        self.private_of(name, geteuid().as_raw())
    }

    fn private_of<T: for<'de> Deserialize<'de>>(&self, name: &str, user: u32) -> Option<T> {
        let file = File::open(self.0.join(name)).ok()?;
        let about = file.metadata().ok().filter(|about| about.uid() == user && about.mode() & 0o077 == 0);
        about.and_then(|_| serde_json::from_reader(file).ok())
    }

    /// Locks a folder for as long as the returned file is open.
    pub fn lock(&self, folder: &str) -> io::Result<File> {
        let folder = self.0.join(folder);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    /// Keeps a token, and returns its file.
    pub fn put_token(&self, place: &str, token: &str) -> io::Result<PathBuf> {
        let name = token_file(place);
        self.write(&name, &token)?;
        Ok(self.0.join(name))
    }

    /// Deletes the token of a place.
    pub fn remove_token(&self, place: &str) {
        let _ = fs::remove_file(self.0.join(token_file(place)));
    }

    /// Keeps a submission under the id of its job.
    pub fn put_submission(&self, job: &str, submission: &Submission) -> io::Result<()> {
        if let Some(name) = file_name(job) {
            self.write(&name, submission)?;
            self.prune()?;
        }
        Ok(())
    }

    /// The submission of this job.
    pub fn submission(&self, job: &str) -> Option<Submission> {
        self.read(&file_name(job)?)
    }

    fn prune(&self) -> io::Result<()> {
        let mut files: Vec<_> = fs::read_dir(self.0.join("jobs"))?.flatten().map(|entry| entry.path()).collect();
        if files.len() > KEPT {
            // Ids begin with their time, so that the oldest come first.
            files.sort();
            for file in &files[..files.len() - KEPT] {
                let _ = fs::remove_file(file);
            }
        }
        Ok(())
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Option<T> {
        let text = fs::read_to_string(self.0.join(name)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Writes a file atomically, readable by the user alone.
    pub fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let path = self.0.join(name);
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        replace_file(&path, 0o600, serde_json::to_string(value)?.as_bytes())
    }
}

fn token_file(place: &str) -> String {
    format!("token-{place}.json")
}

/// The file of a job. Ids come from runtimes, so only harmless ones are used as file names.
fn file_name(job: &str) -> Option<String> {
    let tame =
        !job.is_empty() && job.len() <= 100 && job.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    tame.then(|| format!("jobs/{job}.json"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_that_somebody_else_could_read_or_has_put_there_is_not_taken() {
        let folder = std::env::temp_dir().join(format!("arcp-tokens-{}", std::process::id()));
        let state = State::at(folder.clone());
        let file = state.put_token("7", "made").expect("a folder");
        let own = geteuid().as_raw();
        assert_eq!((state.token_of("7", own).as_deref(), state.token_of("7", own + 1)), (Some("made"), None));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
        assert_eq!(state.token_at("7"), None);
        assert_eq!(state.token("7", || Ok("another".to_string())).expect("written"), "another");
        assert_eq!(state.token_at("7").as_deref(), Some("another"));
        fs::remove_dir_all(folder).expect("it is there");
    }
}
