//! What building a schema costs, counted before it is built.
//!
//! A validator of `unevaluatedProperties` or `unevaluatedItems` holds one of whatever may evaluate
//! the same value, for each way that leads there: two references to the same, thirty times
//! over, are one that is never done, and fills the memory.

use std::collections::BTreeSet;

use referencing::{Draft, Resolver};
use serde_json::{Map, Value};

/// The most sub-schemas that are built, each as often as it is. More than stand in 64 KiB.
const BUILT: usize = 30_000;

/// More would have to be built than may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "more than {BUILT} sub-schemas would have to be built: what `unevaluatedProperties` and `unevaluatedItems` look at \
     counts for each way to it"
)]
pub(super) struct TooMany;

/// Counts what is built of a schema, which the resolver knows as its own.
///
/// # Errors
///
/// If it is more than may be.
pub(super) fn count(at: &Resolver<'_>) -> Result<(), TooMany> {
    let mut building = Building { left: BUILT, referred: BTreeSet::new(), open: Vec::new() };
    match at.lookup("#") {
        Ok(root) => building.node(root.contents(), at),
        // What cannot be looked up is not built either.
        Err(_) => Ok(()),
    }
}

struct Building {
    left: usize,
    /// What was referred to: that is built once.
    referred: BTreeSet<usize>,
    /// What is being built of what evaluates: that may refer to itself.
    open: Vec<usize>,
}

impl Building {
    fn spend(&mut self) -> Result<(), TooMany> {
        self.left = self.left.checked_sub(1).ok_or(TooMany)?;
        Ok(())
    }

    /// The validator of a schema.
    fn node(&mut self, schema: &Value, at: &Resolver<'_>) -> Result<(), TooMany> {
        self.spend()?;
        let Value::Object(keywords) = schema else {
            return Ok(());
        };
        let at = &within(keywords, schema, at);
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("$ref" | "$dynamicRef", Value::String(reference)) => {
                    if let Ok(referred) = at.lookup(reference)
                        && self.referred.insert(address(referred.contents()))
                    {
                        self.node(referred.contents(), referred.resolver())?;
                    }
                }
                ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(several)) => {
                    several.iter().try_for_each(|schema| self.node(schema, at))?;
                }
                ("properties" | "patternProperties" | "dependentSchemas", Value::Object(several)) => {
                    several.values().try_for_each(|schema| self.node(schema, at))?;
                }
                (
                    "not"
                    | "if"
                    | "then"
                    | "else"
                    | "items"
                    | "contains"
                    | "additionalProperties"
                    | "propertyNames"
                    | "unevaluatedProperties"
                    | "unevaluatedItems",
                    schema,
                ) => self.node(schema, at)?,
                _ => {}
            }
        }
        if keywords.contains_key("unevaluatedProperties") || keywords.contains_key("unevaluatedItems") {
            self.evaluating(schema, at)?;
        }
        Ok(())
    }

    /// What tells which parts of a value a schema evaluates.
    fn evaluating(&mut self, schema: &Value, at: &Resolver<'_>) -> Result<(), TooMany> {
        self.spend()?;
        let Value::Object(keywords) = schema else {
            return Ok(());
        };
        if self.open.contains(&address(schema)) {
            return Ok(());
        }
        self.open.push(address(schema));
        let at = &within(keywords, schema, at);
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
                    several.values().try_for_each(|schema| self.both(schema, at))?;
                }
                ("patternProperties", Value::Object(several)) => {
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

    fn both(&mut self, schema: &Value, at: &Resolver<'_>) -> Result<(), TooMany> {
        self.node(schema, at)?;
        self.evaluating(schema, at)
    }
}

/// By what a schema's references are looked up.
fn within<'r>(keywords: &Map<String, Value>, schema: &Value, at: &Resolver<'r>) -> Resolver<'r> {
    let own = || at.in_subresource(Draft::Draft202012.create_resource_ref(schema)).ok();
    keywords.get("$id").and_then(|_| own()).unwrap_or_else(|| at.clone())
}

fn address(schema: &Value) -> usize {
    std::ptr::from_ref(schema) as usize
}
