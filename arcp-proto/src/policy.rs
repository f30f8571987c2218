//! Policy: who may submit which agents, under which terms, and who may see or end the jobs of
//! others. What no rule allows is denied.
//!
//! Rules are read from the top. Of the rules that apply to a subject, the first one counts that
//! decides the question: the first that names the agent, the first that names the owner of a job,
//! the first that has a bound.
//!
//! A policy is data, and answers only these questions. The runtime itself decides what a principal
//! may do to its own jobs, and what operators and auditors may do.

mod pattern;
mod role;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::id::Principal;
use crate::lease::Ceiling;
pub use pattern::{AgentPattern, PrincipalPattern};
pub use role::{Role, Roles};

/// Who may do what in a runtime.
///
/// ```
/// use arcp_proto::id::Principal;
/// use arcp_proto::policy::{Policy, Roles, Rule, Subject};
/// let rule = Rule {
///     principals: vec!["ci-*".parse().unwrap()],
///     agents: vec!["build".parse().unwrap()],
///     ..Rule::new("builders")
/// };
/// let policy = Policy { rules: vec![rule], ..Policy::default() };
/// let (ci, roles) = (Principal::new("ci-7").unwrap(), Roles::default());
/// let who = Subject { principal: &ci, roles: &roles };
/// assert_eq!(policy.submit(who, "build").map(|rule| rule.name.as_str()), Some("builders"));
/// assert!(policy.submit(who, "deploy").is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The rules, in the order in which they are read.
    pub rules: Vec<Rule>,
    /// Which principals may have a role on the word of their issuer. Roles that are not listed here
    /// do not count if an issuer names them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<Role, Vec<PrincipalPattern>>,
    /// Whether jobs without any lease may use every model (no), as
    /// [`Models::allowed_without_lease`](crate::runtime::Models::allowed_without_lease) says.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub models_without_lease: bool,
}

/// What some principals may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// The name by which operators know it.
    pub name: String,
    /// The principals that it applies to; empty: all that have a credential and one of the roles.
    pub principals: Vec<PrincipalPattern>,
    /// The roles one of which these principals must have; empty: no role is needed.
    pub roles: BTreeSet<Role>,
    /// Whether it also applies to anonymous principals.
    pub anonymous: bool,
    /// Agents that they may submit.
    pub agents: Vec<AgentPattern>,
    /// Principals whose jobs they may list, watch and subscribe to, besides their own.
    pub watch: Vec<PrincipalPattern>,
    /// Principals whose jobs they may watch, cancel, interrupt, answer questions of and hand over.
    pub oversee: Vec<PrincipalPattern>,
    /// The most that jobs of these agents are granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Ceiling>,
    /// Sessions that one principal may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<NonZeroU32>,
    /// Unfinished jobs that one principal may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<NonZeroU32>,
    /// Jobs that one principal may submit per second, and the same number in a burst.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submits_per_second: Option<NonZeroU32>,
}

/// The principal about which a policy is asked.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The principal.
    pub principal: &'a Principal,
    /// Its roles that count.
    pub roles: &'a Roles,
}

/// A bound of a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota<'a> {
    /// The bound.
    pub most: NonZeroU32,
    /// The name of the rule that sets it.
    pub rule: &'a str,
}

impl Policy {
    /// The rule that lets a subject submit an agent, named without its version.
    pub fn submit(&self, who: Subject<'_>, agent: &str) -> Option<&Rule> {
        self.rules_of(who).find(|rule| rule.agents.iter().any(|pattern| pattern.matches(agent)))
    }

    /// The rule that lets a subject see the jobs of another principal.
    pub fn watch(&self, who: Subject<'_>, owner: &Principal) -> Option<&Rule> {
        self.rules_of(who).find(|rule| names(&rule.watch, owner) || names(&rule.oversee, owner))
    }

    /// The rule that lets a subject end the jobs of another principal, and act for it.
    pub fn oversee(&self, who: Subject<'_>, owner: &Principal) -> Option<&Rule> {
        self.rules_of(who).find(|rule| names(&rule.oversee, owner))
    }

    /// Whether a subject may see the jobs of any other principal.
    pub fn watches_anybody(&self, who: Subject<'_>) -> bool {
        self.rules_of(who).any(|rule| !rule.watch.is_empty() || !rule.oversee.is_empty())
    }

    /// How many sessions a subject may have; `None`: no bound.
    pub fn sessions(&self, who: Subject<'_>) -> Option<Quota<'_>> {
        self.quota(who, |rule| rule.sessions)
    }

    /// How many unfinished jobs a subject may have; `None`: no bound.
    pub fn jobs(&self, who: Subject<'_>) -> Option<Quota<'_>> {
        self.quota(who, |rule| rule.jobs)
    }

    /// How many jobs a subject may submit per second; `None`: no bound.
    pub fn submits_per_second(&self, who: Subject<'_>) -> Option<Quota<'_>> {
        self.quota(who, |rule| rule.submits_per_second)
    }

    /// The roles that count among those that a credential names. Of a principal of the runtime's
    /// own configuration, all of them; of an issuer's subject, those that the policy lets the
    /// issuer name.
    #[must_use]
    pub fn counting(&self, principal: &Principal, named: &Roles) -> Roles {
        if principal.issuer().is_none() {
            return named.clone();
        }
        let says = |role: &&Role| self.claims.get(*role).is_some_and(|whose| names(whose, principal));
        named.iter().filter(says).cloned().collect()
    }

    /// The rules that apply to a subject.
    pub fn rules_of(&self, who: Subject<'_>) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| rule.is_for(who))
    }

    fn quota(&self, who: Subject<'_>, of: impl Fn(&Rule) -> Option<NonZeroU32>) -> Option<Quota<'_>> {
        self.rules_of(who).find_map(|rule| of(rule).map(|most| Quota { most, rule: &rule.name }))
    }
}

impl Rule {
    /// A rule that applies to nobody and allows nothing.
    pub fn new(name: &str) -> Rule {
        Rule { name: name.into(), ..Rule::default() }
    }

    /// Whether the rule applies to a subject.
    pub fn is_for(&self, who: Subject<'_>) -> bool {
        if who.principal.is_anonymous() {
            return self.anonymous;
        }
        let is_named = names(&self.principals, who.principal);
        let has_role = self.roles.iter().any(|role| who.roles.has(role));
        match (self.principals.is_empty(), self.roles.is_empty()) {
            (true, true) => false,
            (false, true) => is_named,
            (true, false) => has_role,
            (false, false) => is_named && has_role,
        }
    }
}

fn names(patterns: &[PrincipalPattern], principal: &Principal) -> bool {
    patterns.iter().any(|pattern| pattern.matches(principal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    use crate::id::{Issuer, SessionId};
    use ulid::Ulid;

    fn principal(text: &str) -> Principal {
        text.parse().expect("a principal")
    }

    fn patterns<T: core::str::FromStr<Err = crate::lease::Refused>>(texts: &[&str]) -> Vec<T> {
        texts.iter().map(|text| text.parse().expect("a pattern")).collect()
    }

    fn roles(names: &[&str]) -> Roles {
        names.iter().map(|name| name.parse::<Role>().expect("a role")).collect()
    }

    fn roles_of_rule(names: &[&str]) -> BTreeSet<Role> {
        names.iter().map(|name| name.parse().expect("a role")).collect()
    }

    fn of(rules: Vec<Rule>) -> Policy {
        Policy { rules, ..Policy::default() }
    }

    #[test]
    fn a_pattern_means_principals_of_its_own_issuer_and_kind_only() {
        let login = "https://login.example";
        for (pattern, principals, means) in [
            ("ci-*", "ci-7", true),
            ("ci-*", "xci-7", false),
            ("ci-*", "https://login.example#ci-7", false),
            ("*", "team/alice", false),
            ("team/*", "team/alice", true),
            ("https://login.example#*", "https://login.example#alice", true),
            ("https://login.example#*", "https://login.example.evil#alice", false),
            ("https://login.example#ops-*", "https://login.example#alice", false),
            ("https://login.example#*", "alice", false),
            // A subject whose path is ambiguous matches only its own text and `**`.
            ("https://login.example#*", "https://login.example#a/../b", false),
            ("https://login.example#**", "https://login.example#a/../b", true),
            ("https://login.example#a/../b", "https://login.example#a/../b", true),
            ("spiffe://example/ns/*/ci", "spiffe://example/ns/prod/ci", true),
            ("spiffe://example/ns/*/ci", "spiffe://other/ns/prod/ci", false),
            ("spiffe://example/ns/*/ci", "spire://example/ns/prod/ci", false),
            ("**", "spiffe://example/ns/prod/ci", true),
            ("**", "https://login.example#alice", true),
        ] {
            let read: PrincipalPattern = pattern.parse().expect("a pattern");
            assert_eq!(read.matches(&principal(principals)), means, "{pattern} {principals}");
        }
        let nobody = Principal::anonymous(SessionId::from_ulid(Ulid::from_parts(1, 2)), None);
        for pattern in ["**", "anonymous-*", &nobody.to_string().to_lowercase()] {
            let read: PrincipalPattern = pattern.parse().expect("a pattern");
            assert!(!read.matches(&nobody), "{pattern}");
        }
        assert!(Issuer::new(login).is_some());
        for wrong in ["", "/ci", "a//b", "a/../b*", "x**", "https://login.example#a**"] {
            assert!(wrong.parse::<PrincipalPattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rule_is_for_whom_it_names_and_who_has_one_of_its_roles() {
        let named = Rule { principals: patterns(&["ci-*"]), ..Rule::new("named") };
        let role = Rule { roles: roles_of_rule(&["dev", "ops"]), ..Rule::new("role") };
        let both = Rule { principals: patterns(&["ci-*"]), ..role.clone() };
        for (who, has, expected) in [
            ("ci-1", &[][..], [true, false, false]),
            ("ci-1", &["ops"], [true, true, true]),
            ("alice", &["ops"], [false, true, false]),
            ("alice", &["other"], [false; 3]),
        ] {
            let (who, has) = (principal(who), roles(has));
            let who = Subject { principal: &who, roles: &has };
            assert_eq!([&named, &role, &both].map(|rule| rule.is_for(who)), expected, "{who:?}");
            assert!(!Rule::new("of nobody").is_for(who));
        }
    }

    #[test]
    fn nobody_without_a_credential_is_meant_unless_a_rule_says_so() {
        let nobody = Principal::anonymous(SessionId::from_ulid(Ulid::from_parts(1, 2)), None);
        let who = Subject { principal: &nobody, roles: &roles(&["dev"]) };
        let all = Rule { principals: patterns(&["**"]), ..Rule::new("all") };
        assert!(!all.is_for(who));
        assert!(!Rule { roles: roles_of_rule(&["dev"]), ..Rule::new("role") }.is_for(who));
        assert!(Rule { anonymous: true, ..all }.is_for(who));
    }

    #[test]
    fn the_first_rule_that_says_something_of_what_is_asked_counts() {
        let most = |n| NonZeroU32::new(n);
        let policy = of(alloc::vec![
            Rule { principals: patterns(&["bob"]), agents: patterns(&["**"]), jobs: most(1), ..Rule::new("bob") },
            Rule { principals: patterns(&["a*"]), agents: patterns(&["build"]), jobs: most(2), ..Rule::new("build") },
            Rule {
                principals: patterns(&["alice"]),
                agents: patterns(&["b*"]),
                watch: patterns(&["bob"]),
                oversee: patterns(&["eve"]),
                jobs: most(3),
                sessions: most(4),
                ..Rule::new("more")
            },
        ]);
        let (alice, none) = (principal("alice"), Roles::default());
        let who = Subject { principal: &alice, roles: &none };
        let named = |rule: Option<&Rule>| rule.map(|rule| rule.name.clone());
        assert_eq!(named(policy.submit(who, "build")).as_deref(), Some("build"));
        assert_eq!(named(policy.submit(who, "bake")).as_deref(), Some("more"));
        assert_eq!(named(policy.submit(who, "deploy")), None);
        assert_eq!(policy.jobs(who).map(|quota| (quota.most.get(), quota.rule)), Some((2, "build")));
        assert_eq!(policy.sessions(who).map(|quota| quota.most.get()), Some(4));
        assert_eq!(policy.submits_per_second(who), None);
        let watched = ["bob", "eve", "ann"].map(|owner| policy.watch(who, &principal(owner)).is_some());
        let overseen = ["bob", "eve", "ann"].map(|owner| policy.oversee(who, &principal(owner)).is_some());
        assert_eq!((watched, overseen), ([true, true, false], [false, true, false]));
        assert!(policy.watches_anybody(who));
        let bob = principal("bob");
        assert!(!policy.watches_anybody(Subject { principal: &bob, roles: &none }));
    }

    #[test]
    fn an_issuer_says_those_roles_only_that_the_policy_lets_it_say() {
        let claims = [("dev", "https://login.example#*"), ("ops", "https://login.example#dora")];
        let claims = claims.map(|(role, whose)| (role.parse().expect("a role"), patterns(&[whose]))).into();
        let policy = Policy { claims, ..Policy::default() };
        let said = roles(&["dev", "ops", "root"]);
        for (who, counting) in [
            ("https://login.example#alice", &["dev"][..]),
            ("https://login.example#dora", &["dev", "ops"]),
            ("https://other.example#dora", &[]),
            ("dora", &["dev", "ops", "root"]),
        ] {
            assert_eq!(policy.counting(&principal(who), &said), roles(counting), "{who}");
        }
        assert_eq!(Policy::default().counting(&principal("https://login.example#a"), &said), Roles::default());
    }

    #[test]
    fn a_policy_is_recorded_as_text_and_read_again() {
        let rule = Rule { principals: patterns(&["a*"]), agents: patterns(&["x"]), ..Rule::new("r") };
        let policy =
            Policy { claims: [("dev".parse().expect("a role"), patterns(&["**"]))].into(), ..of(alloc::vec![rule]) };
        let text = serde_json::to_string(&policy).expect("it can be written");
        assert_eq!(serde_json::from_str::<Policy>(&text).expect("it can be read"), policy, "{text}");
        assert!(serde_json::from_str::<Policy>(r#"{"rules":[{"agents":["a//b"]}]}"#).is_err());
    }
}
