//! What building a schema costs, counted before it is built.
//!
//! A validator of `unevaluatedProperties` or `unevaluatedItems` holds one of whatever may evaluate
//! the same value, for each way that leads there: two references to the same, thirty times
//! over, are one that is never done, and fills the memory.

use std::collections::BTreeSet;

use referencing::{Draft, Resolver};
use serde_json::{Map, Value};

use super::effort::size;

/// The most sub-schemas that are built, each as often as it is. More than stand in 64 KiB.
const BUILT: usize = 30_000;
/// Bytes and values held by one, which are copied, that cost as much as another one.
const COPIED: usize = 16;

/// Why a schema is not built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unbuilt {
    /// More would have to be built than may be.
    #[error(
        "more than {BUILT} sub-schemas would have to be built, or fewer long ones: what `unevaluatedProperties` and \
         `unevaluatedItems` look at counts for each way to it"
    )]
    TooMany,
    /// What is built of a part is not what is counted.
    #[error("a part of it is not of draft 2020-12")]
    OtherDraft,
}

/// Counts what is built of a schema, which the resolver knows as its own.
///
/// # Errors
///
/// Why it is not built.
pub(super) fn count(at: &Resolver<'_>) -> Result<(), Unbuilt> {
    match at.lookup("#") {
        Ok(root) => {
            let (root, referred, open) = (root.contents(), BTreeSet::new(), Vec::new());
            Building { left: BUILT, root: address(root), referred, open }.node(root, at)
        }
        // What cannot be looked up is not built either.
        Err(_) => Ok(()),
    }
}

/// The members of a schema, and by what its references are looked up.
type Inside<'s, 'r> = (&'s Map<String, Value>, Resolver<'r>);

struct Building {
    left: usize,
    /// The whole schema, which may say that it is of an older draft: it is read as of this one.
    root: usize,
    /// What was referred to: that is built once.
    referred: BTreeSet<usize>,
    /// What is being built of what evaluates: that may refer to itself.
    open: Vec<usize>,
}

impl Building {
    fn spend(&mut self, cost: usize) -> Result<(), Unbuilt> {
        self.left = self.left.checked_sub(cost).ok_or(Unbuilt::TooMany)?;
        Ok(())
    }

    /// What is in a schema; `None`: it has no members.
    fn enter<'s, 'r>(&mut self, schema: &'s Value, at: &Resolver<'r>) -> Result<Option<Inside<'s, 'r>>, Unbuilt> {
        self.spend(1)?;
        let Value::Object(keywords) = schema else {
            self.spend(size(schema) / COPIED)?;
            return Ok(None);
        };
        // What older drafts refer to, and by what it is known, is not looked for here.
        let is_own = address(schema) == self.root || Draft::Draft202012.detect(schema) == Draft::Draft202012;
        if !is_own || keywords.contains_key("$recursiveRef") {
            return Err(Unbuilt::OtherDraft);
        }
        let own = || at.in_subresource(Draft::Draft202012.create_resource_ref(schema)).ok();
        let within = keywords.get("$id").and_then(|_| own()).unwrap_or_else(|| at.clone());
        Ok(Some((keywords, within)))
    }

    /// The validator of a schema.
    fn node(&mut self, schema: &Value, at: &Resolver<'_>) -> Result<(), Unbuilt> {
        let Some((keywords, at)) = self.enter(schema, at)? else {
            return Ok(());
        };
        let at = &at;
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("$ref" | "$dynamicRef", Value::String(reference)) => {
                    if let Ok(referred) = at.lookup(reference)
                        && self.referred.insert(address(referred.contents()))
                    {
                        self.node(referred.contents(), referred.resolver())?;
                    }
                }
                ("allOf" | "anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(several)) => {
                    several.iter().try_for_each(|schema| self.node(schema, at))?;
                }
                ("properties" | "patternProperties" | "dependentSchemas" | "dependencies", Value::Object(several)) => {
                    self.names(several)?;
                    several.values().try_for_each(|schema| self.node(schema, at))?;
                }
                (
                    "not"
                    | "if"
                    | "then"
                    | "else"
                    | "items"
                    | "additionalItems"
                    | "contains"
                    | "additionalProperties"
                    | "propertyNames"
                    | "unevaluatedProperties"
                    | "unevaluatedItems",
                    schema,
                ) => self.node(schema, at)?,
                // What is in it is built where it is referred to.
                ("$defs", _) => {}
                _ => self.spend(size(value) / COPIED)?,
            }
        }
        if keywords.contains_key("unevaluatedProperties") || keywords.contains_key("unevaluatedItems") {
            self.evaluating(schema, at)?;
        }
        Ok(())
    }

    fn names(&mut self, several: &Map<String, Value>) -> Result<(), Unbuilt> {
        self.spend(several.keys().map(|name| 1 + name.len()).sum::<usize>() / COPIED)
    }

    /// What tells which parts of a value a schema evaluates.
    fn evaluating(&mut self, schema: &Value, at: &Resolver<'_>) -> Result<(), Unbuilt> {
        let Some((keywords, at)) = self.enter(schema, at)? else {
            return Ok(());
        };
        if self.open.contains(&address(schema)) {
            return Ok(());
        }
        self.open.push(address(schema));
        let at = &at;
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("$ref" | "$dynamicRef", Value::String(reference)) => {
                    if let Ok(referred) = at.lookup(reference) {
                        self.evaluating(referred.contents(), referred.resolver())?;
                    }
                }
                ("allOf" | "anyOf" | "oneOf", Value::Array(several)) => {
                    several.iter().try_for_each(|schema| self.both(schema, at))?;
                }
                ("if" | "then" | "else", schema) => self.both(schema, at)?,
                ("dependentSchemas", Value::Object(several)) => {
                    self.names(several)?;
                    several.values().try_for_each(|schema| self.both(schema, at))?;
                }
                ("properties", Value::Object(several)) => self.names(several)?,
                ("patternProperties", Value::Object(several)) => {
                    self.names(several)?;
                    several.values().try_for_each(|schema| self.node(schema, at))?;
                }
                ("prefixItems", Value::Array(several)) => {
                    several.iter().try_for_each(|schema| self.node(schema, at))?;
                }
                (
                    "additionalProperties" | "unevaluatedProperties" | "items" | "contains" | "unevaluatedItems",
                    schema,
                ) => self.node(schema, at)?,
                _ => {}
            }
        }
        self.open.pop();
        Ok(())
    }

    fn both(&mut self, schema: &Value, at: &Resolver<'_>) -> Result<(), Unbuilt> {
        self.node(schema, at)?;
        self.evaluating(schema, at)
    }
}

fn address(schema: &Value) -> usize {
    std::ptr::from_ref(schema) as usize
}
