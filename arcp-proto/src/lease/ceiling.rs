//! Ceilings: the policy's bounds on requested leases. The lease of a job may be reduced when the
//! job is accepted, never widened.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::automaton::{self, BYTES, Containment, Program, TooComplex};
use super::fuel::{Fuel, Spent};
use super::{Constraints, Lease, Namespace, Pattern, Target};
use crate::error::{ErrorCode, Violation};
use crate::json::{Json, Object};
use crate::time::UtcMs;

/// The most that leases may grant, whatever is requested.
///
/// ```
/// use arcp_proto::{json::Json, lease::{Ceiling, Fuel, Lease}};
/// let lease = |text: &str| Lease::parse(&Json::parse(text).unwrap()).unwrap();
/// let ceiling = Ceiling::new(lease(r#"{"fs.read":["/srv/**"],"cost.budget":["USD:5"]}"#));
/// let asked = lease(r#"{"fs.read":["/**"],"tool.call":["x"],"cost.budget":["USD:9"]}"#);
/// let (cut, taken) = ceiling.cut(&asked, &mut Fuel::default()).unwrap();
/// assert_eq!(cut, lease(r#"{"fs.read":["/srv/**"],"cost.budget":["USD:5"]}"#));
/// assert_eq!(taken, ["fs.read=/**", "tool.call=x", "cost.budget=USD:9"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ceiling {
    /// The most that a lease may grant. Its budget bounds each job separately: amounts of several
    /// jobs are not added up.
    pub lease: Lease,
    /// The latest end of every lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UtcMs>,
    /// The longest duration of a lease from the acceptance of its job; less than a second counts as
    /// one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest: Option<Duration>,
    /// Whether a job ends as soon as a budget of it is exhausted.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub budget_is_hard: bool,
}

/// Why a lease cannot be reduced to a ceiling exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uncut {
    /// Only a part of what the pattern matches may be granted, and no pattern of either lease
    /// matches exactly that part.
    InPart {
        /// The namespace.
        namespace: Namespace,
        /// The requested pattern.
        pattern: String,
        /// The pattern of the ceiling.
        ceiling: String,
        /// A target that both match.
        target: Target,
    },
    /// The patterns are too complex for a proof.
    TooComplex {
        /// The namespace.
        namespace: Namespace,
        /// The requested pattern.
        pattern: String,
    },
}

impl Ceiling {
    /// A ceiling of patterns and amounts alone.
    pub fn new(lease: Lease) -> Ceiling {
        Ceiling { lease, ..Ceiling::default() }
    }

    /// The exact intersection of the ceiling and a requested lease, with a list of the patterns and
    /// amounts that were not granted as requested. A pattern that reaches beyond the ceiling is
    /// replaced by those patterns of the ceiling that it contains.
    ///
    /// # Errors
    ///
    /// If no patterns of either lease match exactly the intersection, or that cannot be proved with
    /// this fuel.
    pub fn cut(&self, asked: &Lease, fuel: &mut Fuel) -> Result<(Lease, Vec<String>), Uncut> {
        let (mut cut, mut taken) = (Lease::default(), Vec::new());
        for (namespace, patterns) in &asked.grants {
            let most = self.lease.grants.get(namespace).map(Vec::as_slice).unwrap_or_default();
            let mut kept: Vec<Pattern> = Vec::new();
            for pattern in patterns {
                let within = patterns_within(namespace, pattern, most, fuel)?;
                if within != [pattern] {
                    taken.push(alloc::format!("{namespace}={pattern}"));
                }
                // Each pattern is compared with all kept ones, whose beginning may be the same.
                let texts: usize = within.iter().map(|pattern| 1 + pattern.as_str().len() / BYTES).sum();
                fuel.burn(texts.saturating_mul(kept.len())).map_err(|Spent| too_complex(namespace, pattern))?;
                let new = |pattern: &&Pattern| !kept.contains(pattern);
                let new: Vec<Pattern> = within.into_iter().filter(new).cloned().collect();
                kept.extend(new);
            }
            if !kept.is_empty() {
                cut.grants.insert(namespace.clone(), kept);
            }
        }
        cut.budget = asked.budget.at_most(&self.lease.budget);
        let less =
            |(currency, amount): &(&super::Currency, super::Amount)| cut.budget.left(currency.as_str()) < Some(*amount);
        taken.extend(
            asked
                .budget
                .iter()
                .filter(less)
                .map(|(currency, amount)| alloc::format!("cost.budget={currency}:{amount}")),
        );
        Ok((cut, taken))
    }

    /// Adds the bounds of the ceiling to the constraints of a lease.
    #[must_use]
    pub fn bound(&self, mut constraints: Constraints, now: UtcMs) -> Constraints {
        let longest = self.longest.map(|longest| now.plus(longest.max(Duration::from_secs(1))).min(UtcMs::MAX));
        self.expires_at.into_iter().chain(longest).for_each(|end| constraints.end_by(end));
        constraints.budget_is_hard |= self.budget_is_hard;
        constraints
    }

    /// Bytes that it holds, approximately.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Ceiling>() + self.lease.to_json().as_str().len()
    }

    /// Whether it has ended and grants nothing.
    pub fn is_over(&self, now: UtcMs) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// Patterns that together match the intersection of a pattern and others: the pattern itself, or
/// those of the others that it contains.
fn patterns_within<'a>(
    namespace: &Namespace,
    pattern: &'a Pattern,
    most: &'a [Pattern],
    fuel: &mut Fuel,
) -> Result<Vec<&'a Pattern>, Uncut> {
    let mut contained =
        |inner: &Program, outer: &[&Program]| match automaton::contained(namespace.shape(), inner, outer, fuel) {
            Containment::Contained => Ok(true),
            Containment::Witness(_) => Ok(false),
            Containment::TooComplex => Err(too_complex(namespace, pattern)),
        };
    let programs: Vec<&Program> = most.iter().map(Pattern::program).collect();
    if contained(pattern.program(), &programs)? {
        return Ok(alloc::vec![pattern]);
    }
    let (mut within, mut beside) = (Vec::new(), Vec::new());
    for other in most {
        match contained(other.program(), &[pattern.program()])? {
            true => within.push(other),
            false => beside.push(other),
        }
    }
    for other in beside {
        let shared = automaton::shared(namespace.shape(), pattern.program(), other.program(), fuel);
        if let Some(text) = shared.map_err(|TooComplex| too_complex(namespace, pattern))? {
            return Err(Uncut::InPart {
                namespace: namespace.clone(),
                pattern: pattern.to_string(),
                ceiling: other.to_string(),
                target: Target::from_canonical(text),
            });
        }
    }
    Ok(within)
}

fn too_complex(namespace: &Namespace, pattern: &Pattern) -> Uncut {
    Uncut::TooComplex { namespace: namespace.clone(), pattern: pattern.to_string() }
}

impl Uncut {
    /// The details of an error.
    pub fn to_json(&self) -> Json {
        let mut out = Object::new();
        match self {
            Uncut::InPart { namespace, pattern, ceiling, target } => {
                out.display("namespace", namespace).str("pattern", pattern);
                out.str("ceiling", ceiling).display("example", target);
            }
            Uncut::TooComplex { namespace, pattern } => {
                out.display("namespace", namespace).str("pattern", pattern);
            }
        }
        out.json()
    }
}

impl core::fmt::Display for Uncut {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Uncut::InPart { namespace, pattern, ceiling, target } => write!(
                f,
                "`{namespace}`: of `{pattern}` only what `{ceiling}` means as well may be granted, such as `{target}`, and no pattern of either says just that: ask for a pattern within `{ceiling}`"
            ),
            Uncut::TooComplex { namespace, pattern } => write!(
                f,
                "`{namespace}`: `{pattern}` is too involved to say which part of it may be granted: use fewer wildcards"
            ),
        }
    }
}

impl From<Uncut> for Violation {
    fn from(uncut: Uncut) -> Violation {
        Violation::new(ErrorCode::PermissionDenied, uncut.to_string()).with_details(uncut.to_json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(text: &str) -> Lease {
        Lease::parse(&Json::parse(text).expect("JSON")).expect("a lease")
    }

    fn cut(ceiling: &str, asked: &str) -> Result<String, Uncut> {
        Ceiling::new(lease(ceiling))
            .cut(&lease(asked), &mut Fuel::default())
            .map(|(cut, _)| cut.to_json().as_str().to_string())
    }

    #[test]
    fn what_is_cut_is_exactly_what_both_permit() {
        let paths = r#"{"fs.read":["/srv/**","/tmp/*"]}"#;
        for (asked, left) in [
            (r#"{"fs.read":["/srv/a"]}"#, r#"{"fs.read":["/srv/a"]}"#),
            (r#"{"fs.read":["/**"]}"#, r#"{"fs.read":["/srv/**","/tmp/*"]}"#),
            (r#"{"fs.read":["/tmp/**","/tmp/a","/etc/*"]}"#, r#"{"fs.read":["/tmp/*","/tmp/a"]}"#),
            (r#"{"fs.read":["/srv","/tmp/a/b"]}"#, "{}"),
            (r#"{"fs.write":["/srv/a"]}"#, "{}"),
        ] {
            assert_eq!(cut(paths, asked).as_deref(), Ok(left), "{asked}");
        }
        let hosts = r#"{"net.fetch":["https://*.example.com/v1/**"]}"#;
        for (asked, left) in [
            (r#"{"net.fetch":["https://a.example.com/v1/x"]}"#, r#"{"net.fetch":["https://a.example.com/v1/x"]}"#),
            (r#"{"net.fetch":["https://**.example.com/**"]}"#, hosts),
            (r#"{"net.fetch":["http://a.example.com/v1/x","https://example.com/v1/x"]}"#, "{}"),
        ] {
            assert_eq!(cut(hosts, asked).as_deref(), Ok(left), "{asked}");
        }
        // A pattern within the ceiling is kept, although another pattern of the ceiling matches a
        // part of it.
        assert_eq!(
            cut(r#"{"tool.call":["a*","?"]}"#, r#"{"tool.call":["a*"]}"#).as_deref(),
            Ok(r#"{"tool.call":["a*"]}"#)
        );
    }

    #[test]
    fn what_is_taken_from_a_lease_is_named_and_what_is_left_as_it_was_is_not() {
        let ceiling = Ceiling::new(lease(r#"{"fs.read":["/srv/**"],"cost.budget":["USD:5","EUR:1"]}"#));
        for (asked, expected) in [
            (r#"{"fs.read":["/srv/a"],"cost.budget":["USD:5","EUR:0.5"]}"#, alloc::vec![]),
            (r#"{"fs.read":["/srv/a","/tmp/a"],"cost.budget":["USD:5"]}"#, alloc::vec!["fs.read=/tmp/a"]),
            (r#"{"cost.budget":["USD:5.01","EUR:1"]}"#, alloc::vec!["cost.budget=USD:5.01"]),
        ] {
            let (_, taken) = ceiling.cut(&lease(asked), &mut Fuel::default()).expect("it can be cut");
            assert_eq!(taken, expected, "{asked}");
        }
    }

    #[test]
    fn what_no_pattern_says_exactly_is_refused_and_not_approximated() {
        let refused = cut(r#"{"tool.call":["search.*"]}"#, r#"{"tool.call":["*.web"]}"#);
        let Err(uncut @ Uncut::InPart { .. }) = refused else { panic!("{refused:?}") };
        assert!(
            uncut.to_string().contains("such as `search..web`") || uncut.to_string().contains("`search.web`"),
            "{uncut}"
        );
        let wildcards = "?".repeat(13);
        let ceiling = alloc::format!(r#"{{"tool.call":["*a{wildcards}","*b{wildcards}","x"]}}"#);
        let involved = alloc::format!(r#"{{"tool.call":["c?{wildcards}*"]}}"#);
        let refused = cut(&ceiling, &involved);
        assert!(matches!(refused, Err(Uncut::TooComplex { .. })), "{refused:?}");
        // The requested pattern contains the whole ceiling, which is the intersection.
        assert_eq!(cut(&ceiling, r#"{"tool.call":["?*"]}"#).as_deref(), Ok(ceiling.as_str()));
    }

    #[test]
    fn what_is_kept_is_compared_for_as_much_as_its_texts_are_long() {
        let used = |bytes: usize| {
            let name = |n| alloc::format!(r#""/{}/{n:04}""#, "a".repeat(bytes));
            let names: Vec<String> = (0..100).map(name).collect();
            let asked = lease(&alloc::format!(r#"{{"fs.read":[{}]}}"#, names.join(",")));
            let mut fuel = Fuel::default();
            let (cut, _) = Ceiling::new(lease(r#"{"fs.read":["/**"]}"#)).cut(&asked, &mut fuel).expect("it is within");
            assert_eq!(cut, asked);
            fuel.used()
        };
        assert!(used(3000) > 10 * used(30), "{} and {}", used(3000), used(30));
    }

    #[test]
    fn amounts_and_ends_are_the_least_of_both() {
        let ceiling = r#"{"cost.budget":["USD:5","EUR:1"]}"#;
        for (asked, left) in [
            ("{}", r#"{"cost.budget":["EUR:1","USD:5"]}"#),
            (r#"{"cost.budget":["usd:2","USD:2"]}"#, r#"{"cost.budget":["EUR:1","USD:4"]}"#),
            (r#"{"cost.budget":["usd:9","GBP:3"]}"#, r#"{"cost.budget":["EUR:1","GBP:3","USD:5"]}"#),
        ] {
            assert_eq!(cut(ceiling, asked).as_deref(), Ok(left), "{asked}");
        }
        let ceiling =
            Ceiling { expires_at: Some(UtcMs(9000)), longest: Some(Duration::from_secs(5)), ..Ceiling::default() };
        let none = Constraints::default();
        let ends = |asked: Option<u64>, now| {
            ceiling.bound(Constraints { expires_at: asked.map(UtcMs), ..none }, UtcMs(now)).expires_at
        };
        assert_eq!(
            [ends(None, 1000), ends(None, 6000), ends(Some(2000), 1000)],
            [6000, 9000, 2000].map(|at| Some(UtcMs(at)))
        );
        assert_eq!([8999, 9000].map(|now| ceiling.is_over(UtcMs(now))), [false, true]);
    }

    #[test]
    fn a_ceiling_is_stored_as_an_object_and_read_again() {
        let ceiling = Ceiling {
            expires_at: Some(UtcMs(9)),
            ..Ceiling::new(lease(r#"{"fs.read":["/a"],"cost.budget":["USD:1"]}"#))
        };
        let text = serde_json::to_string(&ceiling).expect("it can be written");
        assert_eq!(text, r#"{"lease":{"fs.read":["/a"],"cost.budget":["USD:1"]},"expires_at":9}"#);
        assert_eq!(serde_json::from_str::<Ceiling>(&text).expect("it can be read"), ceiling);
        assert!(serde_json::from_str::<Ceiling>(r#"{"lease":{"fs.read":[]}}"#).is_err());
        assert!(serde_json::from_str::<Ceiling>(r#"{"leash":{}}"#).is_err());
    }
}
