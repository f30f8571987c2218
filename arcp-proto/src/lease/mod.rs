//! Leases: what a job may do, and for how much (1.1 §9).
//!
//! Pure and exact. A [`Lease`] grants [`Pattern`]s by [`Namespace`]; a [`Target`] that has
//! no single meaning is refused before it is compared. [`Lease::permits`] says which
//! pattern decides, [`Lease::covers`] whether a child's lease is within this one, by
//! construction, with a target that is not if it is not.
//!
//! ```
//! use arcp_proto::json::Json;
//! use arcp_proto::lease::{Lease, Namespace, Target};
//! let lease = Lease::parse(&Json::parse(r#"{"tool.call":["search.*"],"cost.budget":["USD:1.00"]}"#).unwrap())?;
//! let target = Target::new(&Namespace::ToolCall, "search.web").unwrap();
//! assert!(lease.permits(&Namespace::ToolCall, &target).is_some());
//! let child = Lease::parse(&Json::parse(r#"{"tool.call":["search.w*"],"cost.budget":["USD:0.50"]}"#).unwrap())?;
//! assert_eq!(lease.covers(&child), Ok(()));
//! assert!(child.covers(&lease).is_err());
//! # Ok::<(), arcp_proto::error::Violation>(())
//! ```

mod automaton;
mod ceiling;
mod constraints;
mod fuel;
mod money;
mod namespace;
mod pattern;
mod target;

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use automaton::Containment;
pub use ceiling::{Ceiling, Uncut};
pub use constraints::Constraints;
pub use fuel::Fuel;
pub use money::{Amount, Budget, Currency};
pub use namespace::Namespace;
pub use pattern::{Pattern, Port};
pub use target::{Refused, Target};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Violation;
use crate::json::{Json, Object};

/// Patterns of one lease.
const MOST: usize = 1024;

/// What a job may do. What no pattern means, it may not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    grants: BTreeMap<Namespace, Vec<Pattern>>,
    budget: Budget,
}

/// Why a child's lease is not within its parent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Excess {
    /// The child's pattern means this, and no pattern of the parent does.
    Wider {
        /// Where.
        namespace: Namespace,
        /// The child's pattern.
        pattern: String,
        /// What it means and the parent does not.
        target: Target,
    },
    /// Patterns so involved that it could not be proved.
    TooComplex {
        /// Where.
        namespace: Namespace,
        /// The child's pattern.
        pattern: String,
    },
    /// The child may spend more of this, or any amount, as it does not name it.
    Budget(Currency),
}

impl Lease {
    /// Reads a lease: an object of lists of patterns, and of amounts in `cost.budget`.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` that names the namespace and the pattern.
    pub fn parse(json: &Json) -> Result<Lease, Violation> {
        let invalid = |text: String| Violation::invalid(alloc::format!("`lease_request`: {text}"));
        let members = json.members().map_err(|error| invalid(error.to_string()))?;
        let mut lease = Lease::default();
        for (name, list) in &members.0 {
            let shown: String = name.chars().take(64).collect();
            let patterns: Vec<String> = serde_json::from_str(list)
                .map_err(|_| invalid(alloc::format!("`{shown}` must be a list of strings")))?;
            if patterns.is_empty() {
                return Err(invalid(alloc::format!("`{shown}` has no pattern: leave it out, or say what it grants")));
            }
            if name == "cost.budget" {
                lease.budget = Budget::parse(patterns.iter().map(String::as_str))?;
                continue;
            }
            let namespace: Namespace =
                name.parse().map_err(|error| invalid(alloc::format!("`{shown}` is no namespace: {error}")))?;
            for text in &patterns {
                let pattern = Pattern::new(&namespace, text).map_err(|refused| {
                    let text: String = text.chars().take(128).collect();
                    invalid(alloc::format!("`{namespace}`: the pattern `{text}` cannot be used: {refused}"))
                })?;
                lease.grants.entry(namespace.clone()).or_default().push(pattern);
            }
        }
        if lease.grants.values().map(Vec::len).sum::<usize>() > MOST {
            return Err(invalid(alloc::format!("it has more than {MOST} patterns")));
        }
        Ok(lease)
    }

    /// What either permits. Of a currency, what both allow is added.
    #[must_use]
    pub fn with(mut self, other: Lease) -> Lease {
        for (namespace, patterns) in other.grants {
            self.grants.entry(namespace).or_default().extend(patterns);
        }
        self.budget = self.budget.with(&other.budget);
        self
    }

    /// The pattern by which it permits this; `None` if it does not.
    pub fn permits(&self, namespace: &Namespace, target: &Target) -> Option<&Pattern> {
        self.grants.get(namespace)?.iter().find(|pattern| pattern.matches(target))
    }

    /// As [`permits`](Self::permits), with so much work.
    ///
    /// # Errors
    ///
    /// [`Excess::TooComplex`] with the pattern that took too much.
    pub fn permits_with(
        &self,
        namespace: &Namespace,
        target: &Target,
        fuel: &mut Fuel,
    ) -> Result<Option<&Pattern>, Excess> {
        for pattern in self.grants.get(namespace).into_iter().flatten() {
            match pattern.matches_with(target, fuel) {
                Ok(true) => return Ok(Some(pattern)),
                Ok(false) => {}
                Err(_) => {
                    let (namespace, pattern) = (namespace.clone(), pattern.to_string());
                    return Err(Excess::TooComplex { namespace, pattern });
                }
            }
        }
        Ok(None)
    }

    /// Whether everything that `child` permits is permitted by this, and its budget is
    /// within this one's: of each currency that is bounded here it names an amount, and not
    /// more. That is proved, pattern by pattern, with the [usual](Fuel::USUAL) amount of work.
    ///
    /// # Errors
    ///
    /// As [`covers_with`](Self::covers_with).
    pub fn covers(&self, child: &Lease) -> Result<(), Excess> {
        self.covers_with(child, &mut Fuel::default())
    }

    /// As [`covers`](Self::covers), with so much work.
    ///
    /// # Errors
    ///
    /// What is not, or [`Excess::TooComplex`] with the pattern that took too much: so
    /// do many wildcards behind `*` on both sides.
    pub fn covers_with(&self, child: &Lease, fuel: &mut Fuel) -> Result<(), Excess> {
        self.permits_all_of(child, fuel)?;
        match self.budget.first_beyond(&child.budget) {
            Some(currency) => Err(Excess::Budget(currency.clone())),
            None => Ok(()),
        }
    }

    /// The same, whatever either may spend.
    pub(crate) fn permits_all_of(&self, child: &Lease, fuel: &mut Fuel) -> Result<(), Excess> {
        for (namespace, patterns) in &child.grants {
            let above = self.grants.get(namespace).map(Vec::as_slice).unwrap_or_default();
            let outer: Vec<_> = above.iter().map(Pattern::program).collect();
            // Mostly a child asks for what its parent has, in its order.
            let asked = patterns.iter().enumerate().filter(|(at, pattern)| above.get(*at) != Some(*pattern));
            for (_, pattern) in asked {
                let said = || (namespace.clone(), pattern.as_str().to_string());
                match automaton::contained(namespace.shape(), pattern.program(), &outer, fuel) {
                    Containment::Contained => {}
                    Containment::TooComplex => {
                        let (namespace, pattern) = said();
                        return Err(Excess::TooComplex { namespace, pattern });
                    }
                    Containment::Witness(text) => {
                        let (namespace, pattern) = said();
                        return Err(Excess::Wider { namespace, pattern, target: Target::from_canonical(text) });
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether it permits nothing, and bounds no currency.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty() && self.budget.is_empty()
    }

    /// The same for a child of who has so much left: its currencies are named as
    /// there, and of each that only the parent is bounded in it has none.
    #[must_use]
    pub fn below(mut self, left: &Budget) -> Lease {
        self.budget = self.budget.below(left);
        self
    }

    /// The same with another budget.
    #[must_use]
    pub fn spending(self, budget: Budget) -> Lease {
        Lease { budget, ..self }
    }

    /// What it may spend.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Its patterns by namespace.
    pub fn grants(&self) -> impl Iterator<Item = (&Namespace, &[Pattern])> {
        self.grants.iter().map(|(namespace, patterns)| (namespace, patterns.as_slice()))
    }

    /// As it is shown and kept.
    pub fn to_json(&self) -> Json {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut out = Object::new();
        for (namespace, patterns) in self.grants() {
            out.array(namespace.as_str(), patterns.iter().map(|pattern| quoted(pattern.as_str())));
        }
        if !self.budget.is_empty() {
            let amounts = self.budget.iter().map(|(currency, amount)| quoted(&alloc::format!("{currency}:{amount}")));
            out.array("cost.budget", amounts);
        }
        out.json()
    }
}

/// As the object that [`Lease::parse`] reads.
impl Serialize for Lease {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let texts = |patterns: &[Pattern]| patterns.iter().map(Pattern::to_string).collect::<Vec<String>>();
        let patterns = self.grants().map(|(namespace, patterns)| (namespace.as_str(), texts(patterns)));
        let amounts = self.budget.iter().map(|(currency, amount)| alloc::format!("{currency}:{amount}"));
        let budget = (!self.budget.is_empty()).then(|| ("cost.budget", amounts.collect()));
        serializer.collect_map(patterns.chain(budget))
    }
}

impl<'de> Deserialize<'de> for Lease {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lease, D::Error> {
        let lists = BTreeMap::<String, Vec<String>>::deserialize(deserializer)?;
        let json = Json::from_value(&lists).map_err(serde::de::Error::custom)?;
        Lease::parse(&json).map_err(|violation| serde::de::Error::custom(violation.message))
    }
}

impl Excess {
    /// As the details of an error: where, which pattern, and a target that it means
    /// and the parent does not.
    pub fn to_json(&self) -> Json {
        let mut out = Object::new();
        match self {
            Excess::Wider { namespace, pattern, target } => {
                out.display("namespace", namespace).str("pattern", pattern).display("counter_example", target);
            }
            Excess::TooComplex { namespace, pattern } => {
                out.display("namespace", namespace).str("pattern", pattern);
            }
            Excess::Budget(currency) => {
                out.str("namespace", "cost.budget").display("currency", currency);
            }
        }
        out.json()
    }
}

impl core::fmt::Display for Excess {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Excess::Wider { namespace, pattern, target } => {
                write!(f, "`{namespace}`: `{pattern}` means `{target}`, which the parent's lease does not grant")
            }
            Excess::TooComplex { namespace, pattern } => {
                write!(
                    f,
                    "`{namespace}`: `{pattern}` is too involved to prove that the parent's lease grants all of it: use fewer wildcards, or patterns of the parent's as they stand"
                )
            }
            Excess::Budget(currency) => write!(f, "`cost.budget`: the parent may spend less {currency} than that"),
        }
    }
}
