//! Policy files in TOML:
//!
//! ```toml
//! # Who may call themselves what by the word of an issuer.
//! [roles]
//! deployer = ["https://login.example#ops-*"]
//!
//! [[rule]]
//! name = "ci"
//! principals = ["ci-*"]
//! agents = ["build", "test-*"]
//! lease = { "fs.read" = ["/srv/**"], "cost.budget" = ["USD:5"] }
//! longest_lease = "8h"
//! jobs = 20
//!
//! [[rule]]
//! name = "leads"
//! roles = ["lead"]
//! watch = ["ci-*"]
//! ```
//!
//! [`Policy`] says what the rules mean.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use arcp_proto::json::Json;
use arcp_proto::lease::{Ceiling, Lease};
use arcp_proto::policy::{Policy, Rule};
use serde::Deserialize;
use toml::Spanned;

use crate::auth::watched_file;

/// Why a file is not a valid policy.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {why}", file.display(), place(*.at))]
pub struct PolicyFileError {
    /// The file.
    pub file: PathBuf,
    /// The line and the column, from 1, if the fault has a place.
    pub at: Option<(usize, usize)>,
    /// The invalid key, if there is one, what is wrong, and how to correct it.
    pub why: String,
}

fn place(at: Option<(usize, usize)>) -> String {
    at.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyTable {
    #[serde(default)]
    models_without_lease: bool,
    #[serde(default)]
    roles: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    #[serde(default)]
    rule: Vec<Spanned<RuleTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    name: Spanned<String>,
    #[serde(default)]
    principals: Vec<Spanned<String>>,
    #[serde(default)]
    roles: Vec<Spanned<String>>,
    #[serde(default)]
    anonymous: bool,
    #[serde(default)]
    agents: Vec<Spanned<String>>,
    #[serde(default)]
    watch: Vec<Spanned<String>>,
    #[serde(default)]
    oversee: Vec<Spanned<String>>,
    lease: Option<Spanned<toml::Table>>,
    longest_lease: Option<Spanned<String>>,
    sessions: Option<NonZeroU32>,
    jobs: Option<NonZeroU32>,
    submits_per_second: Option<NonZeroU32>,
}

/// Reads a policy file. Only its owner may write to it, and the owner must be this user or root.
///
/// # Errors
///
/// The first mistake, with its place.
pub fn read(file: &Path) -> Result<Policy, PolicyFileError> {
    let unreadable = |why| PolicyFileError { file: file.to_path_buf(), at: None, why };
    let text = watched_file::read(file).map_err(|error| unreadable(error.why))?;
    parse(file, &text)
}

/// Parses the text of a policy file.
///
/// # Errors
///
/// The first mistake, with its place.
pub fn parse(file: &Path, text: &str) -> Result<Policy, PolicyFileError> {
    let source = Source { file, text };
    let table: PolicyTable = toml::from_str(text).map_err(|error| source.refused(&error))?;
    let mut policy = Policy { models_without_lease: table.models_without_lease, ..Policy::default() };
    for (role, whose) in &table.roles {
        policy.claims.insert(source.read("roles", role)?, source.list(role.get_ref(), whose)?);
    }
    for rule in &table.rule {
        let name = &rule.get_ref().name;
        if policy.rules.iter().any(|other| other.name == *name.get_ref()) {
            return Err(source.wrong(name.span(), "name", "another rule is called so: give it a name of its own"));
        }
        policy.rules.push(source.rule(rule)?);
    }
    Ok(policy)
}

/// The text in which mistakes are located.
#[derive(Clone, Copy)]
struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn rule(self, table: &Spanned<RuleTable>) -> Result<Rule, PolicyFileError> {
        let rule = table.get_ref();
        let name = rule.name.get_ref();
        if name.is_empty() || name.contains(char::is_control) {
            return Err(self.wrong(rule.name.span(), "name", "expected a text without control characters"));
        }
        if rule.principals.is_empty() && rule.roles.is_empty() && !rule.anonymous {
            let why = "the rule is for nobody: give principals, roles or anonymous = true";
            return Err(self.wrong(rule.name.span(), "name", why));
        }
        Ok(Rule {
            name: name.clone(),
            principals: self.list("principals", &rule.principals)?,
            roles: self.list("roles", &rule.roles)?.into_iter().collect(),
            anonymous: rule.anonymous,
            agents: self.list("agents", &rule.agents)?,
            watch: self.list("watch", &rule.watch)?,
            oversee: self.list("oversee", &rule.oversee)?,
            ceiling: self.ceiling(rule)?,
            sessions: rule.sessions,
            jobs: rule.jobs,
            submits_per_second: rule.submits_per_second,
        })
    }

    /// The bound on the leases of jobs of a rule's agents.
    fn ceiling(self, rule: &RuleTable) -> Result<Option<Ceiling>, PolicyFileError> {
        let longest = rule.longest_lease.as_ref().map(|span| self.span("longest_lease", span)).transpose()?;
        let Some(table) = &rule.lease else {
            return match &rule.longest_lease {
                None => Ok(None),
                Some(span) => {
                    let why = "it bounds the leases that `lease` grants: give that as well";
                    Err(self.wrong(span.span(), "longest_lease", why))
                }
            };
        };
        let wrong = |why: String| self.wrong(table.span(), "lease", &why);
        if rule.agents.is_empty() {
            return Err(wrong("it bounds jobs of the rule's agents, and there are none: give agents".to_string()));
        }
        let json = serde_json::to_string(table.get_ref()).map_err(|error| wrong(error.to_string()))?;
        let json = Json::parse(&json).map_err(|error| wrong(error.to_string()))?;
        let lease = Lease::parse(&json).map_err(|why| wrong(why.to_string()))?;
        Ok(Some(Ceiling { longest, ..Ceiling::new(lease) }))
    }

    fn span(self, key: &str, text: &Spanned<String>) -> Result<Duration, PolicyFileError> {
        let span = humantime::parse_duration(text.get_ref()).ok().filter(|span| *span >= Duration::from_secs(1));
        span.ok_or_else(|| {
            self.wrong(text.span(), key, "expected a time of a second or more, such as \"90s\" or \"8h\"")
        })
    }

    fn list<T: FromStr<Err: ToString>>(self, key: &str, texts: &[Spanned<String>]) -> Result<Vec<T>, PolicyFileError> {
        texts.iter().map(|text| self.read(key, text)).collect()
    }

    fn read<T: FromStr<Err: ToString>>(self, key: &str, text: &Spanned<String>) -> Result<T, PolicyFileError> {
        let read = text.get_ref().parse();
        read.map_err(|error: T::Err| {
            let why = format!("`{}`: {}", text.get_ref(), error.to_string());
            self.wrong(text.span(), key, &why)
        })
    }

    /// The error for a text that is not TOML, or has unknown keys or values.
    fn refused(self, error: &toml::de::Error) -> PolicyFileError {
        let why = error.message().trim();
        let Some(span) = error.span() else {
            return PolicyFileError { file: self.file.to_path_buf(), at: None, why: why.to_string() };
        };
        let line = self.line_of(span.start);
        match line.split_once('=').map(|(key, _)| key.trim()) {
            Some(key) if !key.is_empty() => self.wrong(span, key, why),
            Some(_) | None => PolicyFileError { at: Some(self.place(span.start)), ..self.wrong(span, "", why) },
        }
    }

    fn wrong(self, span: Range<usize>, key: &str, why: &str) -> PolicyFileError {
        let why = if key.is_empty() { why.to_string() } else { format!("{key}: {why}") };
        PolicyFileError { file: self.file.to_path_buf(), at: Some(self.place(span.start)), why }
    }

    /// The line and the column of a byte, from 1.
    fn place(self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }

    fn line_of(&self, at: usize) -> &str {
        let start = self.text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
        self.text[start..].lines().next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use arcp_proto::policy::{Roles, Subject};

    use super::*;

    const WHOLE: &str = r#"
        models_without_lease = true

        [roles]
        deployer = ["https://login.example#ops-*"]

        [[rule]]
        name = "ci"
        principals = ["ci-*", "spiffe://example/ci/*"]
        agents = ["build", "test-*"]
        lease = { "fs.read" = ["/srv/**"], "cost.budget" = ["USD:5"] }
        longest_lease = "8h"
        sessions = 4
        jobs = 20
        submits_per_second = 2

        [[rule]]
        name = "leads"
        principals = ["https://login.example#*"]
        roles = ["lead", "deployer"]
        watch = ["ci-*"]
        oversee = ["**"]

        [[rule]]
        name = "guests"
        anonymous = true
        agents = ["echo"]
    "#;

    #[test]
    fn a_file_is_read_as_it_is_written() {
        let policy = parse(Path::new("p.toml"), WHOLE).expect("it is one");
        let names: Vec<&str> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(names, ["ci", "leads", "guests"]);
        assert!(policy.models_without_lease);
        let (ci, none) = ("ci-1".parse().expect("a name"), Roles::default());
        let who = Subject { principal: &ci, roles: &none };
        let rule = policy.submit(who, "test-unit").expect("it may");
        let ceiling = rule.ceiling.as_ref().expect("it is bounded");
        assert_eq!(ceiling.longest, Some(Duration::from_secs(8 * 3600)));
        assert_eq!(ceiling.lease.to_json().as_str(), r#"{"fs.read":["/srv/**"],"cost.budget":["USD:5"]}"#);
        assert_eq!(
            [rule.sessions, rule.jobs, rule.submits_per_second].map(|n| n.map(NonZeroU32::get)),
            [Some(4), Some(20), Some(2)]
        );
        let dora = "https://login.example#ops-dora".parse().expect("a principal");
        let says: Roles = ["lead", "deployer"].iter().map(|role| role.parse().expect("a role")).collect();
        let counting = policy.counting(&dora, &says);
        assert_eq!(format!("{counting:?}"), r#"{"deployer"}"#, "an issuer does not make leads");
        assert!(policy.oversee(Subject { principal: &dora, roles: &counting }, &ci).is_some());
        assert_eq!(parse(Path::new("p.toml"), "").expect("it denies everything"), Policy::default());
    }

    #[test]
    fn each_mistake_is_told_with_its_place_its_key_and_what_to_do() {
        let rule = |lines: &str| format!("[[rule]]\nname = \"r\"\nprincipals = [\"a\"]\n{lines}\n");
        for (text, said) in [
            ("[[rule]\n".to_string(), "p.toml:1:8: "),
            ("rules = 1\n".into(), "p.toml:1:1: rules: unknown field `rules`"),
            ("[[rule]]\nprincipals = [\"a\"]\n".into(), "p.toml:1:1: missing field `name`"),
            (rule("agnets = [\"b\"]"), "p.toml:4:1: agnets: unknown field `agnets`, expected one of"),
            (rule("agents = \"b\""), "p.toml:4:10: agents: invalid type: string \"b\", expected a sequence"),
            (rule("agents = [\"ok\", \"a//b\"]"), "p.toml:4:17: agents: `a//b`: it has an empty segment"),
            (rule("watch = [\"/x\"]"), "p.toml:4:10: watch: `/x`: a name does not begin with `/`"),
            (rule("oversee = [\"x**\"]"), "p.toml:4:12: oversee: `x**`: `**` is a whole segment"),
            (rule("roles = [\"a b\"]"), "p.toml:4:10: roles: `a b`: expected a role of 1 to 64 letters"),
            (rule("jobs = 0"), "p.toml:4:8: jobs: "),
            (rule("jobs = -1"), "p.toml:4:8: jobs: "),
            (
                rule("agents = [\"b\"]\nlease = { \"fs.raed\" = [\"/a\"] }"),
                "p.toml:5:9: lease: `lease_request`: `fs.raed`",
            ),
            (rule("agents = [\"b\"]\nlease = { \"fs.read\" = [\"a\"] }"), "p.toml:5:9: lease: "),
            (rule("agents = [\"b\"]\nlease = { \"fs.read\" = \"/a\" }"), "p.toml:5:9: lease: "),
            (rule("lease = { \"fs.read\" = [\"/a\"] }"), "p.toml:4:9: lease: it bounds jobs of the rule's agents"),
            (rule("agents = [\"b\"]\nlongest_lease = \"8h\""), "p.toml:5:17: longest_lease: it bounds the leases that"),
            (
                rule("agents = [\"b\"]\nlease = {}\nlongest_lease = \"soon\""),
                "p.toml:6:17: longest_lease: expected a time of a second or more",
            ),
            ("[[rule]]\nname = \"r\"\nagents = [\"a\"]\n".into(), "p.toml:2:8: name: the rule is for nobody: give"),
            (format!("{}{}", rule(""), rule("")), "p.toml:6:8: name: another rule is called so"),
            ("[roles]\n\"a b\" = [\"x\"]\n".into(), "p.toml:2:1: roles: `a b`: expected a role"),
            ("[roles]\ndev = [\"\"]\n".into(), "p.toml:2:8: dev: ``: it is empty"),
        ] {
            let refused = parse(Path::new("p.toml"), &text).expect_err(&text).to_string();
            assert!(refused.starts_with(said), "{text}\n{refused}");
        }
    }

    #[test]
    fn a_file_that_others_may_write_to_is_no_policy() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("policy.toml");
        std::fs::write(&file, WHOLE).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).expect("set");
        let refused = read(&file).expect_err("anybody could give himself everything").to_string();
        assert!(refused.contains("others may write to it"), "{refused}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("set");
        assert_eq!(read(&file).expect("it is read").rules.len(), 3);
    }
}
