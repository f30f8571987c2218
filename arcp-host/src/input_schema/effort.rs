//! The cost of a check, computed before the check.
//!
//! A small schema can stand for any number of others: if each of forty schemas refers to the next
//! one twice, a check does not end. A schema that refers to itself recurses as deep as the input,
//! times its own depth, which can exceed the stack. Applying a sub-schema costs one, and more if it
//! reads long texts or lists, so that a million take seconds.

use std::collections::BTreeMap;

use referencing::{Draft, Resolver};
use serde_json::{Map, Value};

/// The most sub-schemas that may be applied to the parts of one input, each counted as often as it
/// is applied.
const APPLIED: u64 = 1_000_000;
/// The deepest nesting of applied sub-schemas.
const DEPTH: u32 = 600;
/// How many steps of a pattern cost one. A pattern takes as many steps per byte as it has states.
const STEPS: usize = 512;
/// How many compared bytes and values cost one.
const COMPARED: usize = 64;
/// How many looked-up names cost one.
const NAMES: usize = 16;
/// The highest cost of a repeated check that explains why no alternative fits. All faults of each
/// alternative are held in memory meanwhile.
const TOLD: u64 = 16_384;

/// Why an input is not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMuch {
    /// Too many sub-schemas would be applied.
    #[error("more than {APPLIED} sub-schemas would have to be applied to its parts, or fewer to long ones")]
    Applied,
    /// They would be nested too deeply.
    #[error("more than {DEPTH} sub-schemas would have to be applied within one another")]
    Deep,
}

/// The number of states of each pattern of a schema.
pub(super) type States = BTreeMap<String, usize>;

/// The cost that remains.
pub(super) struct Effort<'s> {
    left: u64,
    states: &'s States,
    /// How often the present sub-schema is applied: each level searches again for evaluated parts.
    times: u64,
    /// Whether evaluated parts are being searched.
    marks: bool,
    /// The number of alternatives around the present sub-schema: an explanation checks it once more
    /// for each.
    within: u64,
    /// The cost of an explanation.
    told: u64,
}

impl<'s> Effort<'s> {
    pub(super) fn new(states: &'s States) -> Effort<'s> {
        Effort { left: APPLIED, states, times: 1, marks: false, within: 0, told: 0 }
    }

    /// Whether a fault may be explained.
    pub(super) fn may_tell(&self) -> bool {
        self.told <= TOLD
    }

    /// Counts what is applied if no fault is found; a check that finds one early applies less.
    ///
    /// # Errors
    ///
    /// If the cost is too high.
    pub(super) fn count(&mut self, schema: &Value, input: &Value, at: &Resolver<'_>) -> Result<(), TooMuch> {
        self.apply(schema, input, at, DEPTH)
    }

    fn apply(&mut self, schema: &Value, input: &Value, at: &Resolver<'_>, depth: u32) -> Result<(), TooMuch> {
        self.spend(1)?;
        let depth = depth.checked_sub(1).ok_or(TooMuch::Deep)?;
        let Value::Object(keywords) = schema else {
            return Ok(());
        };
        self.spend(keywords.len() / NAMES)?;
        self.looks_at(keywords, input)?;
        let inner;
        let at = if let Some(id) = keywords.get("$id") {
            self.spend((size(id) + at.base_uri().as_str().len()) / COMPARED)?;
            inner = at.in_subresource(Draft::Draft202012.create_resource_ref(schema)).ok();
            inner.as_ref().unwrap_or(at)
        } else {
            at
        };
        self.in_place(keywords, input, at, depth)?;
        if keywords.contains_key("unevaluatedProperties") || keywords.contains_key("unevaluatedItems") {
            // They read again what the other keywords have applied, and each of these what is in
            // it.
            let before = std::mem::replace(&mut self.marks, true);
            self.in_place(keywords, input, at, depth)?;
            self.marks = before;
        }
        let before = std::mem::replace(&mut self.marks, false);
        match input {
            Value::Object(members) => self.members(keywords, members, at, depth)?,
            Value::Array(items) => self.items(keywords, items, at, depth)?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        self.marks = before;
        Ok(())
    }

    fn spend(&mut self, cost: usize) -> Result<(), TooMuch> {
        let cost = (cost as u64).saturating_mul(self.times);
        self.left = self.left.checked_sub(cost).ok_or(TooMuch::Applied)?;
        self.told = self.told.saturating_add(cost.saturating_mul(self.within));
        Ok(())
    }

    /// Counts keywords whose cost depends on the size of the input, or of the value that it is
    /// compared with.
    fn looks_at(&mut self, keywords: &Map<String, Value>, input: &Value) -> Result<(), TooMuch> {
        for (keyword, value) in keywords {
            match (keyword.as_str(), value, input) {
                ("pattern", Value::String(pattern), Value::String(text)) => self.search(pattern, text)?,
                ("minLength" | "maxLength", _, Value::String(text)) => self.spend(text.len() / STEPS)?,
                ("enum" | "const" | "required" | "dependentRequired", _, _) => self.spend(size(value) / COMPARED)?,
                ("uniqueItems", Value::Bool(true), Value::Array(_)) => self.spend(size(input) / COMPARED)?,
                ("properties", Value::Object(properties), Value::Object(_)) => self.spend(properties.len() / NAMES)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn search(&mut self, pattern: &str, text: &str) -> Result<(), TooMuch> {
        let states = self.states.get(pattern).copied().unwrap_or(usize::MAX);
        self.spend(states.saturating_mul(text.len()) / STEPS)
    }

    /// Counts the sub-schemas that are applied to the input itself.
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
                    let base = if reference.starts_with('#') { 0 } else { at.base_uri().as_str().len() };
                    self.spend((base + reference.len()) / COMPARED)?;
                    // An unresolvable reference was refused with the schema.
                    if let Ok(referred) = at.lookup(reference) {
                        let (schema, at, _) = referred.into_inner();
                        self.apply(schema, input, &at, depth)?;
                    }
                }
                ("allOf" | "anyOf" | "oneOf", Value::Array(several)) => {
                    let (again, alternatives) = (u64::from(self.marks), u64::from(keyword != "allOf"));
                    (self.times, self.within) = (self.times + again, self.within + alternatives);
                    several.iter().try_for_each(|schema| self.apply(schema, input, at, depth))?;
                    (self.times, self.within) = (self.times - again, self.within - alternatives);
                }
                ("not" | "if" | "then" | "else", schema) => self.apply(schema, input, at, depth)?,
                ("dependentSchemas" | "dependencies", Value::Object(several)) => {
                    several.values().try_for_each(|schema| self.apply(schema, input, at, depth))?;
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
                    for (pattern, schema) in patterns {
                        for (name, member) in members {
                            self.search(pattern, name)?;
                            self.apply(schema, member, at, depth)?;
                        }
                    }
                }
                ("additionalProperties" | "unevaluatedProperties", schema) => {
                    members.values().try_for_each(|member| self.apply(schema, member, at, depth))?;
                }
                ("propertyNames", schema) => {
                    for name in members.keys() {
                        self.spend(name.len() / STEPS)?;
                        self.apply(schema, &Value::String(name.clone()), at, depth)?;
                    }
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

/// The number of values, plus the bytes of texts.
pub(super) fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => 1 + text.len(),
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(members) => 1 + members.iter().map(|(name, value)| name.len() + size(value)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use referencing::{Registry, Uri, uri};
    use serde_json::json;

    use super::*;

    /// The outcome of counting, the cost, and the cost of an explanation.
    fn counted(schema: &Value, input: &Value) -> (Result<(), TooMuch>, u64, u64) {
        let own_uri: Uri<String> = uri::from_str("json-schema:///").expect("a URI");
        let resource = Draft::Draft202012.create_resource(schema.clone());
        let registry = Registry::new().draft(Draft::Draft202012).add("json-schema:///", resource);
        let registry = registry.and_then(|registry| registry.prepare()).expect("a schema");
        // The number of steps for each byte. For the last pattern, one byte costs all that remains.
        let states = [("p", STEPS), ("q", 2 * STEPS), ("all", STEPS * (APPLIED as usize - 1))];
        let states = states.map(|(pattern, states)| (pattern.to_string(), states)).into();
        let mut effort = Effort::new(&states);
        let outcome = effort.count(schema, input, &registry.resolver(own_uri));
        (outcome, APPLIED - effort.left, effort.told)
    }

    #[test]
    fn each_keyword_costs_what_it_looks_at() {
        let text = |bytes: usize| Value::String("x".repeat(bytes));
        let objects = |count: usize| (0..count).map(|n| (n.to_string(), json!({}))).collect::<Value>();
        let (long, reference) = ("x".repeat(COMPARED), format!("#/$defs/{}", "x".repeat(COMPARED)));
        let rows = [
            (json!(true), json!(1), 1),
            (json!({}), json!(1), 1),
            (objects(NAMES - 1), json!(1), 1),
            (objects(3 * NAMES), json!(1), 1 + 3),
            // Comparisons, which cost in proportion to the text or the schema.
            (json!({"pattern": "p"}), text(5), 1 + 5),
            (json!({"pattern": "q"}), text(5), 1 + 10),
            (json!({"pattern": "p"}), json!(["xxxxx"]), 1),
            (json!({"minLength": 1}), text(3 * STEPS), 1 + 3),
            (json!({"maxLength": 1}), text(3 * STEPS), 1 + 3),
            (json!({"maxLength": 1}), json!([text(3 * STEPS)]), 1),
            (json!({"enum": vec![1; 2 * COMPARED - 1]}), json!(1), 1 + 2),
            (json!({"const": text(2 * COMPARED - 1)}), json!(1), 1 + 2),
            (json!({"required": [text(2 * COMPARED - 2)]}), json!(1), 1 + 2),
            (json!({"dependentRequired": {"ab": [text(2 * COMPARED - 5)]}}), json!(1), 1 + 2),
            (json!({"uniqueItems": true}), json!(vec![1; 2 * COMPARED - 1]), 1 + 2),
            (json!({"uniqueItems": true}), json!({"a": text(2 * COMPARED)}), 1),
            (json!({"uniqueItems": false}), json!(vec![1; 2 * COMPARED - 1]), 1),
            (json!({"properties": objects(2 * NAMES)}), json!({}), 1 + 2),
            (json!({"properties": objects(2 * NAMES)}), json!([]), 1),
            // The base URI, and the reference.
            (json!({"$id": format!("https://example.com/{}", "x".repeat(3 * COMPARED - 36))}), json!(1), 1 + 3),
            (json!({"$ref": "#/$defs/a", "$defs": {"a": {}}}), json!(1), 1 + 1),
            (json!({"$ref": reference, "$defs": {long.clone(): {}}}), json!(1), 1 + 1 + 1),
            (json!({"$ref": format!("json-schema:///{reference}"), "$defs": {long: {}}}), json!(1), 1 + 1 + 1),
            (json!({"$dynamicRef": "#a", "$defs": {"a": {"$dynamicAnchor": "a"}}}), json!(1), 1 + 1),
            (json!({"$id": "https://example.com/o", "$ref": "p", "$defs": {"p": {"$id": "p"}}}), json!(1), 1 + 1),
            // Sub-schemas for the input itself.
            (json!({"allOf": [{}, {}, {}]}), json!(1), 1 + 3),
            (json!({"anyOf": [{}, {}, {}]}), json!(1), 1 + 3),
            (json!({"oneOf": [{}, {}, {}]}), json!(1), 1 + 3),
            (json!({"not": {}}), json!(1), 1 + 1),
            (json!({"if": {}}), json!(1), 1 + 1),
            (json!({"then": {}}), json!(1), 1 + 1),
            (json!({"else": {}}), json!(1), 1 + 1),
            (json!({"dependentSchemas": {"a": {}, "b": {}}}), json!(1), 1 + 2),
            (json!({"dependencies": {"a": {}, "b": {}}}), json!(1), 1 + 2),
            // Sub-schemas for members.
            (json!({"properties": {"a": {}, "b": {}, "c": {}}}), json!({"a": 1, "b": 1, "d": 1}), 1 + 2),
            (json!({"patternProperties": {"p": {}, "q": {}}}), json!({"a": 1, "bc": 1}), 1 + (3 + 2) + (6 + 2)),
            (json!({"additionalProperties": {}}), json!({"a": 1, "b": 1, "c": 1}), 1 + 3),
            (json!({"unevaluatedProperties": {}}), json!({"a": 1, "b": 1, "c": 1}), 1 + 3),
            (json!({"propertyNames": {}}), json!({"a": 1, "x".repeat(3 * STEPS): 1}), 1 + 1 + (3 + 1)),
            (json!({"propertyNames": {"pattern": "p"}}), json!({"abc": [1, 2]}), 1 + 1 + 3),
            // Sub-schemas for items.
            (json!({"prefixItems": [{}, {}]}), json!([1, 1, 1]), 1 + 2),
            (json!({"items": [{}, {}]}), json!([1, 1, 1]), 1 + 2),
            (json!({"items": {}}), json!([1, 1, 1]), 1 + 3),
            (json!({"contains": {}}), json!([1, 1, 1]), 1 + 3),
            (json!({"additionalItems": {}}), json!([1, 1, 1]), 1 + 3),
            (json!({"unevaluatedItems": {}}), json!([1, 1, 1]), 1 + 3),
        ];
        let counted = |(schema, input, cost)| {
            let (outcome, spent, _) = counted(&schema, &input);
            (outcome != Ok(()) || spent != cost).then(|| format!("{schema:.80} {input:.80}: {spent}, not {cost}"))
        };
        let wrong: Vec<_> = rows.into_iter().filter_map(counted).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn what_is_evaluated_costs_once_more_for_each_alternative_around_it() {
        for (schema, input, cost) in [
            (json!({"unevaluatedItems": {}, "not": {}}), json!(1), 1 + 1 + 1),
            (json!({"unevaluatedItems": {}, "allOf": [{}]}), json!(1), 1 + 1 + 2),
            (json!({"unevaluatedProperties": {}, "allOf": [{"allOf": [{}]}]}), json!(1), 1 + (1 + 1) + (2 + 3)),
            // The member is a value of its own, of which nothing is searched.
            (
                json!({"unevaluatedProperties": {}, "allOf": [{"properties": {"a": {"allOf": [{}]}}}]}),
                json!({"a": 1}),
                1 + (1 + 1 + 1) + (2 + 2 + 2) + 1,
            ),
        ] {
            assert_eq!(counted(&schema, &input), (Ok(()), cost, 0), "{schema}");
        }
    }

    #[test]
    fn telling_why_costs_once_more_for_each_alternative_around_it() {
        for (schema, told) in [
            (json!({"allOf": [{}, {}]}), 0),
            (json!({"anyOf": [{}, {}]}), 2),
            (json!({"oneOf": [{}, {"allOf": [{}]}]}), 3),
            (json!({"anyOf": [{}, {"oneOf": [{}]}], "not": {}}), 1 + 1 + 2),
        ] {
            assert_eq!(counted(&schema, &json!(1)).2, told, "{schema}");
        }
        let states = States::new();
        let with = |told| Effort { told, ..Effort::new(&states) }.may_tell();
        assert!(with(TOLD) && !with(TOLD + 1));
    }

    #[test]
    fn so_much_may_be_applied_and_so_deep() {
        let all = json!({"pattern": "all"});
        assert_eq!(counted(&all, &json!("x")), (Ok(()), APPLIED, 0));
        assert_eq!(counted(&json!({"not": all}), &json!("x")).0, Err(TooMuch::Applied));
        let unknown = json!({"pattern": "no states of it are known"});
        assert_eq!(counted(&unknown, &json!("x")).0, Err(TooMuch::Applied));
        let deep = (1..DEPTH).fold(json!({}), |schema, _| json!({"not": schema}));
        assert_eq!(counted(&deep, &json!(1)), (Ok(()), DEPTH.into(), 0));
        assert_eq!(counted(&json!({"not": deep}), &json!(1)).0, Err(TooMuch::Deep));
    }

    #[test]
    fn values_and_bytes_of_texts_are_sizes() {
        for (value, counted) in [
            (json!(null), 1),
            (json!(true), 1),
            (json!(12345), 1),
            (json!("abc"), 4),
            (json!(["abc", 1]), 1 + 4 + 1),
            (json!({"ab": "abc", "c": []}), 1 + (2 + 4) + (1 + 1)),
        ] {
            assert_eq!(size(&value), counted, "{value}");
        }
    }
}
