//! The cost of building a schema, computed before it is built.
//!
//! A validator of `unevaluatedProperties` or `unevaluatedItems` contains a copy of every schema
//! that may evaluate the same value, once for each path to it. If each of thirty schemas refers to
//! the next one twice, building never ends, and fills the memory.

use std::collections::BTreeSet;

use referencing::{Draft, Resolver};
use serde_json::{Map, Value};

use super::effort::size;

/// The most sub-schemas that are built, each counted as often as it is built. 64 KiB cannot hold so
/// many.
const BUILT: usize = 30_000;
/// How many copied bytes and values cost as much as one sub-schema.
const COPIED: usize = 16;
/// How many bytes of a schema's path cost as much as one sub-schema: the path is written out for the schema and for
/// each of its keywords.
const PLACED: usize = 256;
/// Bytes of an index in a path.
const NUMBER: usize = 4;

/// Why a schema is not built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unbuilt {
    /// Too many sub-schemas would have to be built.
    #[error(
        "more than {BUILT} sub-schemas would have to be built, or fewer long ones: what `unevaluatedProperties` and \
         `unevaluatedItems` look at counts for each way to it"
    )]
    TooMany,
    /// A part of another draft is built differently from what is counted here.
    #[error("a part of it is not of draft 2020-12")]
    OtherDraft,
}

/// Counts what would be built for the schema that the resolver has as its own.
///
/// # Errors
///
/// Why the schema is not built.
pub(super) fn count(at: &Resolver<'_>) -> Result<(), Unbuilt> {
    match at.lookup("#") {
        Ok(root) => {
            let (root, referred, open) = (root.contents(), BTreeSet::new(), Vec::new());
            let (left, longest) = (BUILT, longest(root));
            Building { left, root: address(root), longest, place: 0, referred, open }.node(root, at)
        }
        // What cannot be resolved is not built either.
        Err(_) => Ok(()),
    }
}

/// The members of a schema, and the resolver for its references.
type Inside<'s, 'r> = (&'s Map<String, Value>, Resolver<'r>);

struct Building {
    left: usize,
    /// The address of the whole schema. It may declare an older draft, but is read as draft
    /// 2020-12.
    root: usize,
    /// Bytes of the longest path in the schema.
    longest: usize,
    /// Bytes of the path of the schema that is being built.
    place: usize,
    /// Schemas that were referred to: these are built once.
    referred: BTreeSet<usize>,
    /// Schemas for which an evaluation is being built: they may refer to themselves.
    open: Vec<usize>,
}

impl Building {
    fn spend(&mut self, cost: usize) -> Result<(), Unbuilt> {
        self.left = self.left.checked_sub(cost).ok_or(Unbuilt::TooMany)?;
        Ok(())
    }

    /// The members of a schema; `None` if it is not an object.
    fn enter<'s, 'r>(&mut self, schema: &'s Value, at: &Resolver<'r>) -> Result<Option<Inside<'s, 'r>>, Unbuilt> {
        let Value::Object(keywords) = schema else {
            self.spend(1 + self.place / PLACED + size(schema) / COPIED)?;
            return Ok(None);
        };
        self.spend(1 + (1 + keywords.len()) * self.place / PLACED)?;
        // References and ids of older drafts are not supported here.
        let is_own = address(schema) == self.root || Draft::Draft202012.detect(schema) == Draft::Draft202012;
        if !is_own || keywords.contains_key("$recursiveRef") {
            return Err(Unbuilt::OtherDraft);
        }
        let own = || at.in_subresource(Draft::Draft202012.create_resource_ref(schema)).ok();
        let within = keywords.get("$id").and_then(|_| own()).unwrap_or_else(|| at.clone());
        Ok(Some((keywords, within)))
    }

    /// Counts the validator of a schema.
    fn node(&mut self, schema: &Value, at: &Resolver<'_>) -> Result<(), Unbuilt> {
        let Some((keywords, at)) = self.enter(schema, at)? else {
            return Ok(());
        };
        let at = &at;
        for (keyword, value) in keywords {
            self.place += 1 + keyword.len();
            match (keyword.as_str(), value) {
                ("$ref" | "$dynamicRef", Value::String(reference)) => {
                    if let Ok(referred) = at.lookup(reference)
                        && self.referred.insert(address(referred.contents()))
                    {
                        self.at(reference, |part| part.node(referred.contents(), referred.resolver()))?;
                    }
                }
                ("allOf" | "anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(several)) => {
                    several.iter().try_for_each(|schema| self.below(NUMBER, |part| part.node(schema, at)))?;
                }
                ("properties" | "patternProperties" | "dependentSchemas" | "dependencies", Value::Object(several)) => {
                    self.named(several, |part, schema| part.node(schema, at))?;
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
                // Definitions are built where they are referred to.
                ("$defs", _) => {}
                _ => self.spend(size(value) / COPIED)?,
            }
            self.place -= 1 + keyword.len();
        }
        if keywords.contains_key("unevaluatedProperties") || keywords.contains_key("unevaluatedItems") {
            self.evaluating(schema, at)?;
        }
        Ok(())
    }

    /// Builds each of several named schemas.
    fn named(
        &mut self,
        several: &Map<String, Value>,
        build: impl Fn(&mut Building, &Value) -> Result<(), Unbuilt>,
    ) -> Result<(), Unbuilt> {
        self.spend(several.keys().map(|name| 1 + name.len()).sum::<usize>() / COPIED)?;
        several.iter().try_for_each(|(name, schema)| self.below(name.len(), |part| build(part, schema)))
    }

    /// Builds what a reference names. Its path is that of the reference and not of the place that refers to it, but what
    /// has a name has the path of where that is given.
    fn at(&mut self, reference: &str, build: impl FnOnce(&mut Building) -> Result<(), Unbuilt>) -> Result<(), Unbuilt> {
        let is_path = reference == "#" || reference.starts_with("#/");
        let there = if is_path { reference.len() } else { reference.len() + self.longest };
        let place = std::mem::replace(&mut self.place, there);
        build(self)?;
        self.place = place;
        Ok(())
    }

    /// Builds what is one step below the present path.
    fn below(&mut self, bytes: usize, build: impl FnOnce(&mut Building) -> Result<(), Unbuilt>) -> Result<(), Unbuilt> {
        self.place += 1 + bytes;
        build(self)?;
        self.place -= 1 + bytes;
        Ok(())
    }

    /// Counts what determines the parts of a value that a schema evaluates.
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
            self.place += 1 + keyword.len();
            match (keyword.as_str(), value) {
                ("$ref" | "$dynamicRef", Value::String(reference)) => {
                    if let Ok(referred) = at.lookup(reference) {
                        self.at(reference, |part| part.evaluating(referred.contents(), referred.resolver()))?;
                    }
                }
                ("allOf" | "anyOf" | "oneOf", Value::Array(several)) => {
                    several.iter().try_for_each(|schema| self.below(NUMBER, |part| part.both(schema, at)))?;
                }
                ("if" | "then" | "else", schema) => self.both(schema, at)?,
                ("dependentSchemas", Value::Object(several)) => {
                    self.named(several, |part, schema| part.both(schema, at))?;
                }
                ("properties", Value::Object(several)) => self.named(several, |_, _| Ok(()))?,
                ("patternProperties", Value::Object(several)) => {
                    self.named(several, |part, schema| part.node(schema, at))?;
                }
                ("prefixItems", Value::Array(several)) => {
                    several.iter().try_for_each(|schema| self.below(NUMBER, |part| part.node(schema, at)))?;
                }
                (
                    "additionalProperties" | "unevaluatedProperties" | "items" | "contains" | "unevaluatedItems",
                    schema,
                ) => self.node(schema, at)?,
                _ => {}
            }
            self.place -= 1 + keyword.len();
        }
        self.open.pop();
        Ok(())
    }

    fn both(&mut self, schema: &Value, at: &Resolver<'_>) -> Result<(), Unbuilt> {
        self.node(schema, at)?;
        self.evaluating(schema, at)
    }
}

/// Bytes of the longest path in a schema.
fn longest(schema: &Value) -> usize {
    match schema {
        Value::Object(members) => {
            members.iter().map(|(name, value)| 1 + name.len() + longest(value)).max().unwrap_or(0)
        }
        Value::Array(items) => items.iter().map(|item| 1 + NUMBER + longest(item)).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn address(schema: &Value) -> usize {
    std::ptr::from_ref(schema) as usize
}
