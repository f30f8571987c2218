//! Leases: what a job may do, and for how much (1.1 §9).
//!
//! This module is pure and exact. A [`Lease`] grants [`Pattern`]s by [`Namespace`]. A [`Target`]
//! without a unique meaning is refused before it is compared. [`Lease::permits`] returns the
//! pattern that decides. [`Lease::covers`] proves that a child's lease is within its parent's, or
//! returns a target that is not.
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

/// The most patterns of one lease.
const MOST: usize = 1024;

/// What a job may do. What no pattern matches is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    grants: BTreeMap<Namespace, Vec<Pattern>>,
    budget: Budget,
}

/// Why a child's lease is not within its parent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Excess {
    /// No pattern of the parent matches this target, which the child's pattern matches.
    Wider {
        /// The namespace.
        namespace: Namespace,
        /// The child's pattern.
        pattern: String,
        /// The target.
        target: Target,
    },
    /// The patterns are too complex for a proof.
    TooComplex {
        /// The namespace.
        namespace: Namespace,
        /// The child's pattern.
        pattern: String,
    },
    /// The child may spend more of this currency, or any amount, because its budget does not name
    /// it.
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

    /// The union of both leases. Amounts of a currency that both bound are added.
    #[must_use]
    pub fn with(mut self, other: Lease) -> Lease {
        for (namespace, patterns) in other.grants {
            self.grants.entry(namespace).or_default().extend(patterns);
        }
        self.budget = self.budget.with(&other.budget);
        self
    }

    /// The pattern that permits this; `None` if none does.
    pub fn permits(&self, namespace: &Namespace, target: &Target) -> Option<&Pattern> {
        self.grants.get(namespace)?.iter().find(|pattern| pattern.matches(target))
    }

    /// As [`permits`](Self::permits), with this fuel.
    ///
    /// # Errors
    ///
    /// [`Excess::TooComplex`] with the pattern for which the fuel did not suffice.
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

    /// Proves that everything that `child` permits is permitted by this lease, and that its budget
    /// is within this one's: it must name an amount of each currency that is bounded here, and no
    /// larger one. The proof goes pattern by pattern, with the [usual](Fuel::USUAL) fuel.
    ///
    /// # Errors
    ///
    /// As [`covers_with`](Self::covers_with).
    pub fn covers(&self, child: &Lease) -> Result<(), Excess> {
        self.covers_with(child, &mut Fuel::default())
    }

    /// As [`covers`](Self::covers), with this fuel.
    ///
    /// # Errors
    ///
    /// What is not covered, or [`Excess::TooComplex`] with the pattern for which the fuel did not
    /// suffice: many wildcards after `*` on both sides need much of it.
    pub fn covers_with(&self, child: &Lease, fuel: &mut Fuel) -> Result<(), Excess> {
        self.permits_all_of(child, fuel)?;
        match self.budget.first_beyond(&child.budget) {
            Some(currency) => Err(Excess::Budget(currency.clone())),
            None => Ok(()),
        }
    }

    /// As [`covers_with`](Self::covers_with), without the budgets.
    pub(crate) fn permits_all_of(&self, child: &Lease, fuel: &mut Fuel) -> Result<(), Excess> {
        for (namespace, patterns) in &child.grants {
            let above = self.grants.get(namespace).map(Vec::as_slice).unwrap_or_default();
            let outer: Vec<_> = above.iter().map(Pattern::program).collect();
            // Usually a child requests the patterns of its parent, in the same order.
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

    /// This lease as a child's, given what its parent has left: currencies get the parent's
    /// spelling, and a currency that only the parent has bounded is granted with amount 0.
    #[must_use]
    pub fn below(mut self, left: &Budget) -> Lease {
        self.budget = self.budget.below(left);
        self
    }

    /// This lease with another budget.
    #[must_use]
    pub fn spending(self, budget: Budget) -> Lease {
        Lease { budget, ..self }
    }

    /// Its budget.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Its patterns by namespace.
    pub fn grants(&self) -> impl Iterator<Item = (&Namespace, &[Pattern])> {
        self.grants.iter().map(|(namespace, patterns)| (namespace, patterns.as_slice()))
    }

    /// The form in which it is shown and stored.
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

/// The object that [`Lease::parse`] reads.
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
    /// The details of an error: namespace, pattern, and a target that the pattern matches and the
    /// parent does not grant.
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
