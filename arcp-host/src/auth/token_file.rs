//! Bearer tokens in a file, one per line.
//!
//! ```text
//! # principal, SHA-256 of its token, and perhaps when it expires and its roles
//! alice 5ca1ab1e...  expires=2027-01-31T00:00:00Z roles=operator,auditor
//! ```
//!
//! The file holds digests, not tokens. It is read again when it has changed; a file that cannot be
//! read changes nothing. Whoever changes the file locks it and replaces it as a whole.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;
use std::str::FromStr;

use arcp_proto::id::Principal;
use arcp_proto::model::request::Credential;
use arcp_proto::policy::Role;
use arcp_proto::runtime::Verdict;
use arcp_proto::secret::{Secret, SecretDigest};
use arcp_proto::time::UtcMs;

use super::bearer::holder;
use super::watched_file::{CredentialFileError, WatchedFile, read};
use super::{Authenticator, CredentialSource, Roles};
use crate::entropy;
use crate::server_log::log;

/// The prefix of tokens that are made here.
const PREFIX: &str = "arcp_";
/// The first lines of a new file.
const HEAD: &str = "# Tokens of an ARCP runtime: principal, SHA-256 of the token, expires=TIME, roles=operator,auditor.\n\
                    # `arcp token add`, `list` and `revoke` change it; runtimes read it again by themselves.\n";
/// The role of principals that list, watch and cancel everybody's jobs, whatever a policy says.
pub const OPERATOR: &str = "operator";
/// The role of principals that list and watch everybody's jobs, whatever a policy says.
pub const AUDITOR: &str = "auditor";
/// How many digits of a digest identify a token.
const ID_DIGITS: usize = 12;

/// A file of tokens, as it was last read. Clones share it.
#[derive(Clone, Debug)]
pub struct TokenFile(WatchedFile<Vec<TokenEntry>>);

/// A token in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEntry {
    /// Its principal.
    pub principal: Principal,
    /// Its expiry; `None`: it does not expire.
    pub expires_at: Option<UtcMs>,
    /// The roles of its principal: `operator` and `auditor` have the rights of these roles, others
    /// what a policy says.
    pub roles: BTreeSet<Role>,
    digest: SecretDigest,
}

/// A token that was just made.
#[derive(Debug)]
pub struct NewToken {
    /// The token, which is stored nowhere else.
    pub token: Secret,
    /// Its entry in the file.
    pub entry: TokenEntry,
}

impl TokenFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, others may write to it, or a line is invalid.
    pub fn open(path: &Path) -> Result<TokenFile, CredentialFileError> {
        WatchedFile::open(path, parse).map(TokenFile)
    }

    /// The tokens, as they were last read.
    pub fn entries(&self) -> Vec<TokenEntry> {
        self.0.said().to_vec()
    }

    /// Makes a token and adds it to a file, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// If the file cannot be used, or the principal cannot be written in a line.
    pub fn add(
        path: &Path,
        principal: Principal,
        expires_at: Option<UtcMs>,
        roles: BTreeSet<Role>,
    ) -> Result<NewToken, CredentialFileError> {
        let failed = |error: io::Error| CredentialFileError::of(path, &error);
        let token = Secret::new(format!("{PREFIX}{}", entropy::token().map_err(failed)?));
        let entry = TokenEntry { principal, expires_at, roles, digest: token.digest() };
        entry.check_name().map_err(|why| CredentialFileError::whole(path, why))?;
        change(path, true, |mut text| {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            let head = if text.is_empty() { HEAD } else { "" };
            format!("{text}{head}{entry}\n")
        })?;
        Ok(NewToken { token, entry })
    }

    /// Removes every token for which `which` is true from a file; returns these tokens.
    ///
    /// # Errors
    ///
    /// If the file cannot be used.
    pub fn revoke(path: &Path, which: impl Fn(&TokenEntry) -> bool) -> Result<Vec<TokenEntry>, CredentialFileError> {
        let mut gone = Vec::new();
        change(path, false, |text| {
            let stays = |line: &&str| match line.trim().parse::<TokenEntry>() {
                Ok(entry) if which(&entry) => {
                    gone.push(entry);
                    false
                }
                Ok(_) | Err(_) => true,
            };
            text.split_inclusive('\n').filter(stays).collect()
        })?;
        Ok(gone)
    }
}

impl Authenticator for TokenFile {
    fn verify(&self, credential: &Credential) -> Option<Verdict> {
        let Credential::Bearer(token) = credential else {
            return None;
        };
        let entries = self.0.said();
        let entry = holder(entries.iter().map(|entry| (&entry.digest, entry)), token)?;
        let roles = entry.roles.clone().into();
        Some(Verdict { expires_at: entry.expires_at, roles, ..Verdict::from(entry.principal.clone()) })
    }

    fn is_instant(&self) -> bool {
        true
    }
}

impl CredentialSource for TokenFile {
    fn roles(&self) -> Roles {
        let entries = self.0.said();
        let having = |role: &str| {
            let having = entries.iter().filter(|entry| entry.roles.iter().any(|known| known.as_str() == role));
            having.map(|entry| entry.principal.clone()).collect()
        };
        Roles { operators: having(OPERATOR), auditors: having(AUDITOR) }
    }

    fn changed(&mut self) -> Option<BTreeSet<Principal>> {
        match self.0.read_again() {
            Ok(before) => {
                let (before, now) = (before?, self.0.said());
                log(format_args!("arcp: {} was read again: {} tokens", self.0.path().display(), now.len()));
                let revoked = before.iter().filter(|old| !now.iter().any(|new| new.counts_as_long_as(old)));
                Some(revoked.map(|old| old.principal.clone()).collect())
            }
            Err(error) => {
                log(format_args!("arcp: the tokens stay as they were: {error}"));
                None
            }
        }
    }
}

impl TokenEntry {
    /// Its id: the first digits of the digest.
    pub fn id(&self) -> String {
        let mut id = hex(&self.digest);
        id.truncate(ID_DIGITS);
        id
    }

    /// Whether sessions that were opened with `old` may stay if this entry replaces it.
    fn counts_as_long_as(&self, old: &TokenEntry) -> bool {
        let as_long = match (self.expires_at, old.expires_at) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(new), Some(old)) => new >= old,
        };
        as_long && self.digest == old.digest && self.principal == old.principal && self.roles.is_superset(&old.roles)
    }

    /// Checks that the principal can be written in a line.
    fn check_name(&self) -> Result<(), String> {
        let name = self.principal.to_string();
        if name.starts_with('#') || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!(
                "the principal `{name}` cannot stand in a line: take one without spaces and leading #"
            ));
        }
        Ok(())
    }
}

/// Formats the line of the file.
impl fmt::Display for TokenEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.principal, hex(&self.digest))?;
        if let Some(at) = self.expires_at {
            write!(f, " expires={at}")?;
        }
        let roles: Vec<&str> = self.roles.iter().map(|role| role.as_str()).collect();
        if roles.is_empty() { Ok(()) } else { write!(f, " roles={}", roles.join(",")) }
    }
}

impl FromStr for TokenEntry {
    type Err = String;

    fn from_str(line: &str) -> Result<TokenEntry, String> {
        let mut words = line.split_whitespace();
        let name = words.next().ok_or("it is empty")?;
        let principal: Principal =
            name.parse().map_err(|error| format!("`{name}` is no name of a principal: {error}"))?;
        // The wrong word may be the token itself, so it is not shown.
        let digest = words.next().and_then(read_hex).ok_or(
            "the second word must be the SHA-256 of the token, 64 hexadecimal digits: `arcp token add` writes it",
        )?;
        let mut entry = TokenEntry { principal, expires_at: None, roles: BTreeSet::new(), digest };
        for word in words {
            match word.split_once('=') {
                Some(("expires", at)) => {
                    let at = UtcMs::parse(at)
                        .ok_or_else(|| format!("`{word}`: expected a time such as 2030-01-31T12:00:00Z"))?;
                    entry.expires_at = Some(at);
                }
                Some(("roles", roles)) => {
                    let roles = roles.split(',').map(Role::from_str).collect::<Result<_, _>>();
                    entry.roles = roles.map_err(|error| format!("`{word}`: {error}"))?;
                }
                Some(_) | None => {
                    return Err(format!(
                        "word {} is not known: expected expires=TIME or roles=ROLE,ROLE",
                        line_word(line, word)
                    ));
                }
            }
        }
        Ok(entry)
    }
}

/// The number of a word in its line. The word itself may be a token, so it is not shown.
fn line_word(line: &str, word: &str) -> usize {
    line.split_whitespace().position(|other| other == word).map_or(0, |at| at + 1)
}

/// Parses every line that is neither empty nor a comment. A principal must have the same roles in
/// all its tokens.
fn parse(path: &Path, text: &str) -> Result<Vec<TokenEntry>, CredentialFileError> {
    let mut entries: Vec<TokenEntry> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let refused = |why| CredentialFileError { path: path.to_path_buf(), line: Some(at + 1), why };
        let entry: TokenEntry = line.parse().map_err(refused)?;
        if let Some(other) = entries.iter().find(|other| other.digest == entry.digest) {
            return Err(refused(format!(
                "`{}` has this token already: each line needs one of its own",
                other.principal
            )));
        }
        if let Some(other) =
            entries.iter().find(|other| other.principal == entry.principal && other.roles != entry.roles)
        {
            let name = &other.principal;
            return Err(refused(format!(
                "`{name}` has other roles above: roles are the principal's, by each of its tokens"
            )));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Replaces the text of a file atomically, under its lock.
fn change(path: &Path, makes: bool, edit: impl FnOnce(String) -> String) -> Result<(), CredentialFileError> {
    let failed = |error: io::Error| CredentialFileError::of(path, &error);
    let locked = lock(path, makes).map_err(failed)?;
    let text = read(path)?;
    // A file that cannot be read is not overwritten.
    parse(path, &text)?;
    let text = edit(text);
    parse(path, &text)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let replace = || {
        // Only the users that could read the old file may read the new one. A runtime that cannot
        // read it would keep the tokens that it read last.
        let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
        fresh.write_all(text.as_bytes())?;
        let (before, now) = (locked.metadata()?, fresh.as_file().metadata()?);
        if before.gid() != now.gid() {
            fchown(fresh.as_file(), None, Some(before.gid()))?;
        }
        fresh.as_file().set_permissions(before.permissions())?;
        fresh.as_file().sync_all()?;
        fresh.persist(path)?;
        File::open(folder)?.sync_all()
    };
    replace().map_err(failed)
}

/// The locked file. It is the one that has this name, not one that was replaced while waiting for
/// the lock.
fn lock(path: &Path, makes: bool) -> io::Result<File> {
    loop {
        let file = File::options().read(true).write(true).create(makes).truncate(false).mode(0o600).open(path)?;
        file.lock()?;
        let (ours, there) = (file.metadata()?, std::fs::metadata(path));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            return Ok(file);
        }
    }
}

fn hex(digest: &SecretDigest) -> String {
    digest.0.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn read_hex(text: &str) -> Option<SecretDigest> {
    if text.len() != 64 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(SecretDigest(digest))
}

/// Whether a token has the prefix of tokens that are made here.
#[cfg(feature = "oauth")]
pub(super) fn is_one(token: &Secret) -> bool {
    token.expose().starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::process::geteuid;

    use super::*;

    const NEVER: Option<UtcMs> = None;

    fn alice() -> Principal {
        Principal::new("alice").expect("a name")
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).expect("written");
        fs::set_permissions(path, Permissions::from_mode(0o600)).expect("set");
    }

    fn holder_of(file: &TokenFile, token: &Secret) -> Option<String> {
        file.verify(&Credential::Bearer(token.clone())).map(|verdict| verdict.principal.to_string())
    }

    #[test]
    fn who_has_a_token_that_ends_is_known_until_then_and_with_its_roles() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        let roles = BTreeSet::from(["steward".parse().expect("a role")]);
        let end = Some(UtcMs(32_503_680_000_000));
        let made = TokenFile::add(&path, alice(), end, roles.clone()).expect("a token");
        let file = TokenFile::open(&path).expect("it is read");
        let verdict = file.verify(&Credential::Bearer(made.token)).expect("it counts");
        assert_eq!((verdict.principal, verdict.roles, verdict.expires_at), (alice(), roles.into(), end));
    }

    #[test]
    fn a_token_is_shown_once_and_the_file_has_its_hash_for_its_user_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        let made = TokenFile::add(&path, alice(), NEVER, BTreeSet::new()).expect("a token");
        let text = fs::read_to_string(&path).expect("text");
        assert!(!text.contains(made.token.expose()) && text.contains(&hex(&made.token.digest())), "{text}");
        assert!(!format!("{made:?}").contains(made.token.expose()));
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o600);
        let file = TokenFile::open(&path).expect("it is read");
        assert_eq!(holder_of(&file, &made.token).as_deref(), Some("alice"));
        assert_eq!(holder_of(&file, &Secret::new("arcp_".into())), None);
        let debug = format!("{file:?}");
        assert!(!debug.contains(&hex(&made.token.digest())), "{debug}");
        assert_eq!(file.verify(&Credential::Other { scheme: "signed_jwt".into(), token: made.token }), None);
    }

    #[test]
    fn what_stands_in_a_file_is_read_as_it_was_written_and_the_rest_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        let digest = "AB".repeat(32);
        write(&path, &format!("\n# ours\n  bob   {digest} roles=auditor expires=2030-01-31T12:00:00Z"));
        let until = UtcMs::parse("2031-01-01T00:00:00Z");
        TokenFile::add(&path, alice(), until, [OPERATOR, AUDITOR].map(|role| role.parse().expect("a role")).into())
            .expect("a token");
        let file = TokenFile::open(&path).expect("it is read");
        let [bob, added] = &file.entries()[..] else { panic!("{:?}", file.entries()) };
        assert_eq!((bob.id(), bob.expires_at), ("abababababab".to_string(), UtcMs::parse("2030-01-31T12:00:00Z")));
        assert_eq!((&added.principal, added.expires_at), (&alice(), until));
        let Roles { operators, auditors } = file.roles();
        assert_eq!((operators.len(), auditors.len()), (1, 2));
        let gone = TokenFile::revoke(&path, |entry| entry.principal == alice()).expect("it is changed");
        assert_eq!(gone.len(), 1);
        let text = fs::read_to_string(&path).expect("text");
        assert_eq!(text, format!("\n# ours\n  bob   {digest} roles=auditor expires=2030-01-31T12:00:00Z\n"));
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named_and_never_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        let (good, other) = ("ab".repeat(32), "cd".repeat(32));
        for (line, expected) in [
            ("alice".to_string(), "64 hexadecimal digits"),
            ("alice my-secret-token".to_string(), "`arcp token add`"),
            (format!("alice {good} my-secret-token"), "word 3"),
            (format!("alice {good} expires=tomorrow"), "such as 2030-01-31T12:00:00Z"),
            (format!("alice {good} roles=b$ss"), "`roles=b$ss`: expected a role of 1 to 64"),
            (format!("alice {good}\nbob {good}"), "`alice` has this token already"),
            (format!("alice {good} roles=auditor\nalice {other}"), "`alice` has other roles above"),
            (format!("{} {good}", "a".repeat(300)), "no name of a principal"),
        ] {
            write(&path, &format!("# tokens\n{line}\n"));
            let error = TokenFile::open(&path).map(drop).expect_err(&line);
            assert_eq!(error.line, Some(1 + line.lines().count()), "{error}");
            let said = error.to_string();
            assert!(said.contains(expected) && !said.contains("my-secret-token"), "{said}");
            let refused = TokenFile::add(&path, alice(), NEVER, BTreeSet::new());
            assert!(refused.is_err(), "what cannot be read is not written over");
        }
        for name in ["two words", "#comment"] {
            let name = Principal::new(name).expect("a name");
            let error = TokenFile::add(&path, name, NEVER, BTreeSet::new()).expect_err("no line");
            assert!(error.to_string().contains("without spaces"), "{error}");
        }
    }

    #[test]
    fn a_file_that_others_may_write_to_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        write(&path, "");
        for (mode, used) in [(0o600, true), (0o644, true), (0o620, false), (0o602, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
            assert_eq!(TokenFile::open(&path).is_ok(), used, "{mode:o}");
        }
        assert!(TokenFile::open(folder.path()).is_err(), "a folder is none");
        assert!(TokenFile::open(&folder.path().join("none")).is_err());
    }

    #[test]
    fn who_loses_a_credential_is_told_of_and_a_bad_file_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        let mut tokens = Vec::new();
        for name in ["alice", "bob", "carol"] {
            let name = Principal::new(name).expect("a name");
            tokens
                .push(TokenFile::add(&path, name, UtcMs::parse("2040-01-01T00:00:00Z"), BTreeSet::new()).expect("one"));
        }
        let mut file = TokenFile::open(&path).expect("it is read");
        let names = |lost: Option<BTreeSet<Principal>>| lost.map(|lost| lost.iter().map(ToString::to_string).collect());
        let lost = |file: &mut TokenFile| -> Option<Vec<String>> { names(file.changed()) };
        assert_eq!(lost(&mut file), None, "nothing has changed");
        TokenFile::revoke(&path, |entry| entry.principal == alice()).expect("it is changed");
        assert_eq!(lost(&mut file), Some(vec!["alice".to_string()]));
        assert_eq!((lost(&mut file), holder_of(&file, &tokens[0].token)), (None, None));
        // A later expiry takes nothing away; an earlier one does.
        let text = fs::read_to_string(&path).expect("text");
        write(&path, &text.replacen("2040", "2041", 1));
        assert_eq!(lost(&mut file), Some(Vec::new()));
        write(&path, &text.replacen("2040", "2039", 1));
        assert_eq!(lost(&mut file), Some(vec!["bob".to_string()]));
        for bad in ["nonsense\n", "alice my-token\n"] {
            write(&path, bad);
            assert_eq!((lost(&mut file), holder_of(&file, &tokens[1].token).as_deref()), (None, Some("bob")));
        }
        fs::remove_file(&path).expect("it is there");
        assert_eq!((lost(&mut file), lost(&mut file)), (None, None));
        assert_eq!(holder_of(&file, &tokens[1].token).as_deref(), Some("bob"));
        write(&path, "");
        assert_eq!(lost(&mut file), Some(vec!["bob".to_string(), "carol".to_string()]));
        assert_eq!(holder_of(&file, &tokens[1].token), None);
    }

    #[test]
    fn whoever_could_read_the_file_can_after_it_was_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        let made = TokenFile::add(&path, alice(), NEVER, BTreeSet::new()).expect("a token");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("set");
        // Only root may give a file to a group of which it is not a member.
        let group = if geteuid().is_root() { 12_345 } else { fs::metadata(&path).expect("it is there").gid() };
        std::os::unix::fs::chown(&path, None, Some(group)).expect("it may");
        TokenFile::revoke(&path, |entry| entry.id() == made.entry.id()).expect("it is changed");
        let about = fs::metadata(&path).expect("it is there");
        assert_eq!((about.mode() & 0o777, about.gid()), (0o640, group));
    }

    #[test]
    fn whoever_adds_at_the_same_time_loses_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..4 {
                        TokenFile::add(&path, alice(), NEVER, BTreeSet::new()).expect("a token");
                    }
                });
            }
        });
        assert_eq!(TokenFile::open(&path).expect("it is read").entries().len(), 32);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing else is left there");
    }
}
