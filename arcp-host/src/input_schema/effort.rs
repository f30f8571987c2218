//! What a check may cost, counted before it is done.
//!
//! Schemas refer to each other, so that a small one can stand for any number of
//! others: two references to the same, forty times over, are a check that does not
//! end. And one that refers to itself goes as deep as the input times its own
//! depth, more than a stack holds.

use referencing::{Draft, Resolver};
use serde_json::{Map, Value};

/// The most sub-schemas that may be applied to the parts of one input, each as
/// often as it is.
const APPLIED: u32 = 1_000_000;
/// The most that may be applied within one another.
const DEPTH: u32 = 600;

/// Why an input is not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMuch {
    /// More is applied than may be.
    #[error("more than {APPLIED} sub-schemas would have to be applied to its parts")]
    Applied,
    /// It goes deeper than it may.
    #[error("more than {DEPTH} sub-schemas would have to be applied within one another")]
    Deep,
}

/// What may still be applied.
pub(super) struct Effort(u32);

impl Effort {
    pub(super) fn new() -> Effort {
        Effort(APPLIED)
    }

    /// Counts what is applied if everything is: a check that finds a fault early
    /// applies less.
    ///
    /// # Errors
    ///
    /// If it is more than may be.
    pub(super) fn count(&mut self, schema: &Value, input: &Value, at: &Resolver<'_>) -> Result<(), TooMuch> {
        self.apply(schema, input, at, DEPTH)
    }

    fn apply(&mut self, schema: &Value, input: &Value, at: &Resolver<'_>, depth: u32) -> Result<(), TooMuch> {
        self.0 = self.0.checked_sub(1).ok_or(TooMuch::Applied)?;
        let depth = depth.checked_sub(1).ok_or(TooMuch::Deep)?;
        let Value::Object(keywords) = schema else {
            return Ok(());
        };
        let inner;
        let at = if keywords.contains_key("$id") {
            inner = at.in_subresource(Draft::Draft202012.create_resource_ref(schema)).ok();
            inner.as_ref().unwrap_or(at)
        } else {
            at
        };
        self.in_place(keywords, input, at, depth)?;
        match input {
            Value::Object(members) => self.members(keywords, members, at, depth),
            Value::Array(items) => self.items(keywords, items, at, depth),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }

    /// What is applied to the input itself.
    fn in_place(
        &mut self,
        keywords: &Map<String, Value>,
        input: &Value,
        at: &Resolver<'_>,
        depth: u32,
    ) -> Result<(), TooMuch> {
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("$ref" | "$dynamicRef", Value::String(reference)) => {
                    // What refers to nothing was no schema.
                    if let Ok(referred) = at.lookup(reference) {
                        let (schema, at, _) = referred.into_inner();
                        self.apply(schema, input, &at, depth)?;
                    }
                }
                ("allOf" | "anyOf" | "oneOf", Value::Array(several)) => {
                    several.iter().try_for_each(|schema| self.apply(schema, input, at, depth))?;
                }
                ("not" | "if" | "then" | "else", schema) => self.apply(schema, input, at, depth)?,
                ("dependentSchemas" | "dependencies", Value::Object(several)) => {
                    several.values().try_for_each(|schema| self.apply(schema, input, at, depth))?;
                }
                // They look once more at what the others have applied.
                ("unevaluatedProperties" | "unevaluatedItems", _) => {
                    let mut others = keywords.clone();
                    others.remove("unevaluatedProperties");
                    others.remove("unevaluatedItems");
                    self.in_place(&others, input, at, depth)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn members(
        &mut self,
        keywords: &Map<String, Value>,
        members: &Map<String, Value>,
        at: &Resolver<'_>,
        depth: u32,
    ) -> Result<(), TooMuch> {
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("properties", Value::Object(properties)) => {
                    for (name, schema) in properties {
                        if let Some(member) = members.get(name) {
                            self.apply(schema, member, at, depth)?;
                        }
                    }
                }
                ("patternProperties", Value::Object(patterns)) => {
                    for schema in patterns.values() {
                        members.values().try_for_each(|member| self.apply(schema, member, at, depth))?;
                    }
                }
                ("additionalProperties" | "unevaluatedProperties", schema) => {
                    members.values().try_for_each(|member| self.apply(schema, member, at, depth))?;
                }
                // Of names, as of all that has no parts, only how many there are matters.
                ("propertyNames", schema) => {
                    members.keys().try_for_each(|_| self.apply(schema, &Value::Null, at, depth))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn items(
        &mut self,
        keywords: &Map<String, Value>,
        items: &[Value],
        at: &Resolver<'_>,
        depth: u32,
    ) -> Result<(), TooMuch> {
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("prefixItems" | "items", Value::Array(schemas)) => {
                    let mut pairs = schemas.iter().zip(items);
                    pairs.try_for_each(|(schema, item)| self.apply(schema, item, at, depth))?;
                }
                ("items" | "contains" | "additionalItems" | "unevaluatedItems", schema) => {
                    items.iter().try_for_each(|item| self.apply(schema, item, at, depth))?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
