//! Checks of inputs by JSON Schema, draft 2020-12.

mod building;
mod effort;

use std::panic::resume_unwind;

use arcp_proto::json::Json;
use arcp_proto::runtime::InputFault;
use jsonschema::{Draft, PatternOptions, Validator};
use referencing::{Error as ReferencingError, Registry, Uri, uri};
use regex_automata::nfa::thompson::{self, NFA};
use regex_automata::util::syntax;
use serde_json::Value;

use self::effort::{Effort, States};

/// The largest schema, in bytes.
const SCHEMA_BYTES: usize = 64 << 10;
/// The memory for all patterns of a schema together, in bytes, divided equally among them.
const PATTERNS_BYTES: usize = 8 << 20;
/// The URI of the schema, for references to itself.
const OWN_URI: &str = "json-schema:///";
/// The stack on which a schema is built: building recurses along references, as deep as 64 KiB of
/// schema can nest them.
const STACK: usize = 64 << 20;
/// The most bytes of the path, and of the reason, in a fault.
const FAULT_BYTES: usize = 500;

/// A compiled schema.
///
/// It looks nothing up outside of itself: a `$ref` to another document is an error. Patterns are
/// searched in linear time, so they have no look-around and no back-references; the more patterns
/// there are, the less memory each may take. The cost of a check is computed before the check. If
/// it is too high, the input does not fit.
///
/// ```
/// use arcp_host::input_schema::InputSchema;
/// use arcp_proto::json::Json;
/// let schema = Json::parse(r#"{"type": "object", "properties": {"n": {"type": "integer"}}}"#)?;
/// let schema = InputSchema::new(&schema).expect("a schema");
/// assert_eq!(schema.check(&Json::parse(r#"{"n": 1}"#)?), None);
/// let fault = schema.check(&Json::parse(r#"{"n": "one"}"#)?).expect("it does not fit");
/// assert_eq!(fault.pointer, "/n");
/// # Ok::<(), arcp_proto::json::JsonError>(())
/// ```
#[derive(Debug)]
pub struct InputSchema {
    text: Json,
    schema: Value,
    own_uri: Uri<String>,
    references: Registry<'static>,
    states: States,
    validator: Validator,
}

/// Why a value is not a usable schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is larger than 64 KiB.
    #[error("the schema has {bytes} bytes: at most {SCHEMA_BYTES} are taken")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is not a valid schema.
    #[error("not a JSON Schema: {place}{reason}")]
    Invalid {
        /// The path of the fault with a colon, or empty.
        place: String,
        /// The reason.
        reason: String,
    },
}

impl InputSchema {
    /// Compiles a schema.
    ///
    /// # Errors
    ///
    /// If it is too large or invalid.
    pub fn new(text: &Json) -> Result<InputSchema, SchemaError> {
        let bytes = text.as_str().len();
        if bytes > SCHEMA_BYTES {
            return Err(SchemaError::TooLarge { bytes });
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("schema".to_string()).stack_size(STACK);
            match thread.spawn_scoped(scope, || InputSchema::build(text)) {
                Ok(built) => built.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(error) => {
                    let reason = format!("it cannot be built now: {error}");
                    Err(SchemaError::Invalid { place: String::new(), reason })
                }
            }
        })
    }

    fn build(text: &Json) -> Result<InputSchema, SchemaError> {
        let invalid = |place: String, reason: String| SchemaError::Invalid { place, reason };
        let schema: Value = serde_json::from_str(text.as_str()).map_err(|e| invalid(String::new(), e.to_string()))?;
        let options = jsonschema::options().offline().with_draft(Draft::Draft202012);
        let patterns = patterns(&schema);
        let bytes = PATTERNS_BYTES / patterns.len().max(1);
        let options = options.with_pattern_options(PatternOptions::regex().size_limit(bytes).dfa_size_limit(bytes));
        let unresolved = |error: ReferencingError| invalid(String::new(), cut(error.to_string()));
        let own_uri = uri::from_str(OWN_URI).map_err(unresolved)?;
        let resource = Draft::Draft202012.create_resource(schema.clone());
        let references = Registry::new().draft(Draft::Draft202012).add(OWN_URI, resource);
        let references = references.and_then(|registry| registry.prepare());
        if let Ok(references) = &references {
            building::count(&references.resolver(own_uri.clone()))
                .map_err(|unbuilt| invalid(String::new(), unbuilt.to_string()))?;
        }
        let validator = options.build(&schema).map_err(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { place } else { format!("`{place}`: ") };
            invalid(place, cut(error.to_string()))
        })?;
        let references = references.map_err(unresolved)?;
        let states = patterns.into_iter().map(|pattern| (pattern.to_string(), states(pattern, bytes))).collect();
        Ok(InputSchema { text: text.clone(), schema, own_uri, references, states, validator })
    }

    /// The schema, as it was given.
    pub fn text(&self) -> &Json {
        &self.text
    }

    /// The first fault of an input; `None` if the input fits.
    pub fn check(&self, input: &Json) -> Option<InputFault> {
        let value: Value = match serde_json::from_str(input.as_str()) {
            Ok(value) => value,
            Err(error) => return Some(InputFault { pointer: String::new(), reason: cut(error.to_string()) }),
        };
        let at = self.references.resolver(self.own_uri.clone());
        let mut effort = Effort::new(&self.states);
        if let Err(too_much) = effort.count(&self.schema, &value, &at) {
            return Some(InputFault { pointer: String::new(), reason: format!("it cannot be checked: {too_much}") });
        }
        if self.validator.is_valid(&value) {
            return None;
        }
        if !effort.may_tell() {
            let reason = "it does not fit; in which place is too much to tell, with all alternatives of the schema";
            return Some(InputFault { pointer: String::new(), reason: reason.to_string() });
        }
        let error = self.validator.validate(&value).err()?;
        // The value is not repeated: it may be long, and the client knows it.
        let reason = cut(error.masked_with("the value").to_string());
        Some(InputFault { pointer: cut(error.instance_path().to_string()), reason })
    }
}

/// The patterns in a schema that are compiled.
fn patterns(schema: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    let mut open = vec![schema];
    while let Some(schema) = open.pop() {
        match schema {
            Value::Array(items) => open.extend(items),
            Value::Object(members) => {
                for (name, value) in members {
                    match (name.as_str(), value) {
                        ("pattern", Value::String(pattern)) => found.push(pattern),
                        ("patternProperties", Value::Object(patterns)) => found.extend(patterns.keys()),
                        _ => {}
                    }
                    open.push(value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    found.into_iter().map(String::as_str).collect()
}

/// The number of states of a pattern that takes at most so many bytes. If this parser does not
/// accept the pattern, the number that fits into these bytes is assumed.
fn states(pattern: &str, bytes: usize) -> usize {
    let limit = thompson::Config::new().nfa_size_limit(Some(bytes));
    // Classes are those of ASCII, except where only Unicode has them.
    let read = |unicode: bool| {
        let syntax = syntax::Config::new().unicode(unicode).utf8(unicode);
        NFA::compiler().configure(limit.clone()).syntax(syntax).build(pattern)
    };
    read(false).or_else(|_| read(true)).map_or(bytes / size_of::<thompson::State>(), |nfa| nfa.states().len())
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(FAULT_BYTES));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text).expect("JSON")
    }

    fn schema(text: &str) -> InputSchema {
        InputSchema::new(&json(text)).expect("a schema")
    }

    #[test]
    fn what_does_not_fit_is_told_by_its_place_and_without_the_value() {
        let schema = schema(r#"{"properties":{"list":{"items":{"type":"integer","minimum":1}}},"required":["list"]}"#);
        let fault = |input: &str| schema.check(&json(input)).map(|fault| (fault.pointer, fault.reason));
        assert_eq!(fault(r#"{"list":[1,2]}"#), None);
        let (pointer, reason) = fault(r#"{"list":[1,"secret"]}"#).expect("a text is no number");
        assert_eq!(pointer, "/list/1");
        assert!(reason.contains("integer") && !reason.contains("secret"), "{reason}");
        let (pointer, reason) = fault("{}").expect("a member is missing");
        assert_eq!(pointer, "");
        assert!(reason.contains("list"), "{reason}");
    }

    #[test]
    fn schemas_that_are_none_or_look_elsewhere_are_refused() {
        for (text, why) in [
            (r#"{"type":"whole"}"#, "/type"),
            (r#"{"$ref":"https://example.com/schema.json"}"#, "example.com"),
            (r#"{"$ref":"file:///etc/passwd"}"#, "passwd"),
            (r#"{"pattern":"(a)\\1"}"#, "pattern"),
        ] {
            let error = InputSchema::new(&json(text)).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let large = json(&format!(r#"{{"title":"{}"}}"#, "x".repeat(SCHEMA_BYTES)));
        assert!(matches!(InputSchema::new(&large), Err(SchemaError::TooLarge { .. })));
    }

    /// A schema of `links` links, each of which refers to the next one `times` times. The last one
    /// refers to the first for the member `a`.
    fn chain(links: usize, times: usize) -> String {
        let link = |n: usize| vec![format!(r##"{{"$ref":"#/$defs/{}"}}"##, n + 1); times].join(",");
        let links_text: Vec<String> = (0..links).map(|n| format!(r#""{n}":{{"allOf":[{}]}}"#, link(n))).collect();
        let last = format!(r##""{links}":{{"properties":{{"a":{{"$ref":"#/$defs/0"}}}}}}"##);
        format!(r##"{{"$ref":"#/$defs/0","$defs":{{{},{last}}}}}"##, links_text.join(","))
    }

    fn nested(levels: usize) -> Json {
        json(&format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels)))
    }

    #[test]
    fn a_schema_that_stands_for_more_than_can_be_checked_is_not_begun_with() {
        // Two to the power of forty checks; and more nesting than a stack can hold.
        for (links, times, levels, why) in [(40, 2, 0, "to its parts"), (300, 1, 100, "within one another")] {
            let fault = schema(&chain(links, times)).check(&nested(levels)).expect("too much");
            assert!(fault.reason.contains(why), "{}", fault.reason);
        }
        // A fault that would be explained for each of two branches at each level.
        let branches = r##"{"anyOf":[{"type":"integer"},{"$ref":"#/$defs/x"},{"$ref":"#/$defs/y"}],"$defs":{
            "x":{"type":"object","properties":{"a":{"$ref":"#"}}},"y":{"type":"object","properties":{"a":{"$ref":"#"}}}}}"##;
        let deep = json(&nested(60).as_str().replace('1', "true"));
        assert!(schema(branches).check(&deep).is_some_and(|fault| fault.reason.contains("to its parts")));
        // A reference that leads only to itself.
        assert!(schema(r##"{"allOf":[{"$ref":"#"}]}"##).check(&nested(0)).is_some());
    }

    #[test]
    fn what_is_long_costs_more_each_time_it_is_looked_at() {
        // Each of these would read the whole input, or the whole keyword, 2^17 times.
        let often = |what: &str| {
            let link =
                |n: u32| format!(r##""{n}":{{"allOf":[{{"$ref":"#/$defs/{0}"}},{{"$ref":"#/$defs/{0}"}}]}}"##, n + 1);
            let links: Vec<String> = (0..17).map(link).collect();
            schema(&format!(r##"{{"$ref":"#/$defs/0","$defs":{{{},"17":{{{what}}}}}}}"##, links.join(",")))
        };
        let text = json(&format!("\"{}\"", "01".repeat(4000)));
        let many = (0..2000).map(|n| format!("\"{n:04}\"")).collect::<Vec<_>>().join(",");
        let members = |value: &str| many.split(',').map(|name| format!("{name}:{value}")).collect::<Vec<_>>().join(",");
        let named = json(&format!("{{\"{}\":1}}", "01".repeat(4000)));
        let (costly, long) = (r#""^[01]*1[01]{3000}1[01]*$""#, "a".repeat(4000));
        for (what, input) in [
            (format!(r#""pattern":{costly}"#), text.clone()),
            (r#""pattern":"^[01]*1[01]*$""#.to_string(), text.clone()),
            (r#""maxLength":10000"#.to_string(), text.clone()),
            (format!(r#""patternProperties":{{{costly}:{{}}}}"#), named.clone()),
            (format!(r#""propertyNames":{{"pattern":{costly}}}"#), named.clone()),
            (format!(r#""enum":[{many}]"#), json("\"9999\"")),
            (format!(r#""const":[{many}]"#), json(&format!("[{many}]"))),
            (format!(r#""required":[{many}]"#), json(&format!("{{{}}}", members("1")))),
            (format!(r#""properties":{{{}}}"#, members("{}")), json("{}")),
            (members("1"), json("{}")),
            (r#""uniqueItems":true"#.to_string(), json(&format!("[{many}]"))),
            (format!(r##""$ref":"#/$defs/17/$defs/{long}","$defs":{{"{long}":{{}}}}"##), json("1")),
            (format!(r#""$id":"https://example.com/{long}""#), json("1")),
            (r#""propertyNames":{"type":"string"}"#.to_string(), named.clone()),
        ] {
            let fault = often(&what).check(&input).expect("too much");
            assert!(fault.reason.contains("to its parts"), "{what:.60}: {}", fault.reason);
        }
        // Reading it once is allowed, also of a long text.
        let long = json(&format!("\"{}\"", "a".repeat(3 << 20)));
        for (pattern, input) in [("^[a-z]{1,63}", &long), (r"^\\w+$", &long), (r"^\\p{L}*[0-9]", &text)] {
            let fault = schema(&format!(r#"{{"pattern":"{pattern}"}}"#)).check(input);
            assert_eq!(fault, None, "{pattern}");
        }
        let once = schema(&format!(r#"{{"pattern":{costly}}}"#)).check(&text).expect("3001 apart is none");
        assert!(!once.reason.contains("cannot be checked"), "{}", once.reason);
    }

    #[test]
    fn references_that_follow_each_other_are_built_however_many_there_are() {
        let links: Vec<String> = (0..2000).map(|n| format!(r##""{n}":{{"$ref":"#/$defs/{}"}}"##, n + 1)).collect();
        let text = format!(
            r##"{{"$ref":"#/$defs/0","unevaluatedProperties":{{}},"$defs":{{{},"2000":{{}}}}}}"##,
            links.join(",")
        );
        let fault = schema(&text).check(&json("{}")).expect("too deep");
        assert!(fault.reason.contains("within one another"), "{}", fault.reason);
    }

    #[test]
    fn what_would_be_built_for_each_of_too_many_ways_is_not_begun_with() {
        // Two ways at each level, by references or in place.
        let referred = |keyword: &str, levels: usize| {
            let link =
                |n: usize| format!(r##""{n}":{{"anyOf":[{{"$ref":"#/$defs/{0}"}},{{"$ref":"#/$defs/{0}"}}]}}"##, n + 1);
            let links = (0..levels).map(link).collect::<Vec<_>>().join(",");
            format!(r##"{{"$ref":"#/$defs/0","{keyword}":{{"type":"integer"}},"$defs":{{{links},"{levels}":{{}}}}}}"##)
        };
        let nested = |levels: usize| {
            let begin = r#"{"unevaluatedProperties":false,"allOf":["#.repeat(levels);
            format!("{begin}{{}}{}", "]}".repeat(levels))
        };
        for text in [referred("unevaluatedProperties", 40), referred("unevaluatedItems", 40), nested(50)] {
            let error = InputSchema::new(&json(&text)).expect_err("too many").to_string();
            assert!(error.contains("would have to be built"), "{error}");
        }
        for text in [referred("unevaluatedProperties", 5), referred("title_of", 40), nested(4)] {
            schema(&text);
        }
        // Keywords of older drafts, which are built all the same.
        for text in [
            format!(r#"{{"dependencies":{{"a":{}}}}}"#, nested(50)),
            format!(r#"{{"items":{{"additionalItems":{}}}}}"#, nested(50)),
        ] {
            let error = InputSchema::new(&json(&text)).expect_err("too many").to_string();
            assert!(error.contains("would have to be built"), "{error}");
        }
        // A schema that refers to itself is built once.
        let tree = r##"{"unevaluatedProperties":false,"properties":{"a":{"$ref":"#"}},"allOf":[{"$ref":"#/$defs/x"}],
            "$defs":{"x":{"anyOf":[{"properties":{"b":{"$ref":"#"}}}]}}}"##;
        assert_eq!(schema(tree).check(&json(r#"{"a":{"b":1},"b":1}"#)), None);
    }

    #[test]
    fn what_is_built_often_costs_what_it_holds_each_time() {
        // 512 times: long lists, unknown keywords, and names.
        let list = vec!["1"; 6000].join(",");
        let names = |value: &str| (0..1500).map(|n| format!(r#""{n}":{value}"#)).collect::<Vec<_>>().join(",");
        let nested = |what: &str| {
            let begin = r#"{"unevaluatedProperties":false,"allOf":["#.repeat(9);
            format!("{begin}{{{what}}}{}", "]}".repeat(9))
        };
        for what in [
            format!(r#""enum":[{list}]"#),
            format!(r#""const":[{list}]"#),
            format!(r#""title_of":[{list}]"#),
            format!(r#""required":["{}"]"#, "x".repeat(12_000)),
            format!(r#""dependentRequired":{{{}}}"#, names("[]")),
        ] {
            let error = InputSchema::new(&json(&nested(&what))).expect_err("too much").to_string();
            assert!(error.contains("would have to be built"), "{what:.20}: {error}");
        }
        let link =
            |n: usize| format!(r##""{n}":{{"anyOf":[{{"$ref":"#/$defs/{0}"}},{{"$ref":"#/$defs/{0}"}}]}}"##, n + 1);
        let links = (0..9).map(link).collect::<Vec<_>>().join(",");
        let ends = format!(r#""9":{{"properties":{{{}}}}}"#, names("true"));
        let text = format!(r##"{{"$ref":"#/$defs/0","unevaluatedProperties":false,"$defs":{{{links},{ends}}}}}"##);
        let error = InputSchema::new(&json(&text)).expect_err("too much").to_string();
        assert!(error.contains("would have to be built"), "{error}");
        // Once, it may be as long as a schema may be.
        let long = vec!["1"; 30_000].join(",");
        assert!(schema(&format!(r#"{{"unevaluatedProperties":false,"enum":[{long}]}}"#)).check(&json("1")).is_none());
    }

    #[test]
    fn each_part_of_a_schema_costs_the_place_by_which_it_is_known() {
        let names = |count: usize| (0..count).map(|n| format!(r#""{n}":true"#)).collect::<Vec<_>>().join(",");
        let below = |bytes: usize, inner: &str| format!(r#"{{"properties":{{"{}":{inner}}}}}"#, "x".repeat(bytes));
        let parts = |count: usize| format!(r#"{{"properties":{{{}}}}}"#, names(count));
        let begin = r#"{"unevaluatedProperties":false,"allOf":["#.repeat(4);
        let often = format!("{begin}{}{}", parts(50), "]}".repeat(4));
        let path = (0..50).fold("true".to_string(), |inner, _| below(600, &inner));
        let anchored = |bytes: usize, count: usize| {
            let part = parts(count).replacen('{', r#"{"$anchor":"a","#, 1);
            format!(r##"{{"$defs":{{"{}":{part}}},"$ref":"#a"}}"##, "x".repeat(bytes))
        };
        let dear =
            [below(30_000, &parts(3000)), below(12_000, &often), below(12_000, &parts(2000)), anchored(30_000, 3000)];
        for text in dear {
            let error = InputSchema::new(&json(&text)).expect_err("too much").to_string();
            assert!(error.contains("would have to be built"), "{error}");
        }
        for text in [below(200, &parts(4000)), below(12_000, &parts(200)), path, often, anchored(200, 2000)] {
            schema(&text);
        }
    }

    #[test]
    fn a_part_of_another_draft_is_refused() {
        let part = |uri: &str| format!(r#"{{"properties":{{"a":{{"$id":"x","$schema":"{uri}","items":[{{}}]}}}}}}"#);
        for uri in ["http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2019-09/schema"] {
            let error = InputSchema::new(&json(&part(uri))).expect_err("another draft").to_string();
            assert!(error.contains("2020-12"), "{error}");
        }
        schema(r##"{"$schema":"http://json-schema.org/draft-07/schema#","items":{"type":"integer"}}"##);
        schema(r##"{"$defs":{"a":{"$schema":"https://json-schema.org/draft/2020-12/schema"}},"$ref":"#/$defs/a"}"##);
        schema(r#"{"const":{"$schema":"http://json-schema.org/draft-07/schema#"},"properties":{"$schema":true}}"#);
    }

    #[test]
    fn what_is_evaluated_is_looked_for_again_at_each_level() {
        let levels = |count: usize| {
            let link = |n: usize| format!(r##""{n}":{{"anyOf":[{{"$ref":"#/$defs/{}"}}]}}"##, n + 1);
            let links = (0..count).map(link).collect::<Vec<_>>().join(",");
            let costly = r#""^[01]*1[01]{3000}1[01]*$""#;
            schema(&format!(
                r##"{{"$ref":"#/$defs/0","unevaluatedProperties":{{"type":"integer"}},
                    "$defs":{{{links},"{count}":{{"patternProperties":{{{costly}:{{}}}}}}}}}}"##
            ))
        };
        let named = json(&format!("{{\"{}\":1}}", "01".repeat(4000)));
        assert_eq!(levels(3).check(&named), None);
        let fault = levels(200).check(&named).expect("too much");
        assert!(fault.reason.contains("to its parts"), "{}", fault.reason);
    }

    #[test]
    fn why_no_alternative_fits_is_told_where_that_is_little() {
        // Each wrong item would be reported, and again for each alternative around it.
        let items = |count: usize| json(&format!("[{}1]", "\"\",".repeat(count)));
        let lists = schema(r#"{"anyOf":[{"type":"string"},{"items":{"type":"string"}}]}"#);
        assert_eq!(lists.check(&json("[\"\"]")), None);
        let few = lists.check(&items(10)).expect("a number is no text");
        assert!(few.reason.contains("anyOf"), "{}", few.reason);
        let many = lists.check(&items(100_000)).expect("a number is no text");
        assert!(many.reason.contains("too much to tell"), "{}", many.reason);
        assert_eq!(lists.check(&json(&items(100_000).as_str().replace(",1]", "]"))), None, "it fits all the same");
        let links: Vec<String> =
            (0..100).map(|n| format!(r##""{n}":{{"oneOf":[{{"$ref":"#/$defs/{}"}}]}}"##, n + 1)).collect();
        let nested = format!(
            r##"{{"$ref":"#/$defs/0","$defs":{{{},"100":{{"items":{{"type":"string"}}}}}}}}"##,
            links.join(",")
        );
        let deep = schema(&nested).check(&items(1000)).expect("a number is no text");
        assert!(deep.reason.contains("too much to tell"), "{}", deep.reason);
        // A fault outside of all alternatives is still reported first.
        let beside = schema(r#"{"items":{"type":"string"}}"#).check(&items(100_000)).expect("a number is no text");
        assert_eq!(beside.pointer, "/100000");
    }

    #[test]
    fn a_schema_that_refers_to_itself_is_checked_as_deep_as_json_goes() {
        let tree = r##"{"type":"object","properties":{"a":{"anyOf":[{"type":"integer"},{"$ref":"#"}]}},
            "additionalProperties":false}"##;
        assert_eq!(schema(tree).check(&nested(Json::MAX_DEPTH - 1)), None);
        let wrong = json(&nested(20).as_str().replace('1', "true"));
        assert!(schema(tree).check(&wrong).is_some_and(|fault| !fault.reason.contains("cannot be checked")));
        let anchored = r##"{"$id":"https://example.com/own","$defs":{"n":{"$anchor":"n","type":"integer"}},
            "items":{"$ref":"own#n"}}"##;
        let list = json(&format!("[{}0]", "1,".repeat(100_000)));
        assert_eq!(schema(anchored).check(&list), None);
    }

    #[test]
    fn many_patterns_hold_no_more_than_one_may() {
        let schema = |most: usize| {
            let large = (0..most).map(|n| format!(r#"{{"pattern":"^{n}\\w{{2000}}$"}}"#)).collect::<Vec<_>>();
            json(&format!(r#"{{"anyOf":[{}]}}"#, large.join(",")))
        };
        assert!(InputSchema::new(&schema(1)).is_ok());
        let error = InputSchema::new(&schema(50)).expect_err("they would hold too much").to_string();
        assert!(error.contains("pattern"), "{error}");
    }

    #[test]
    fn a_hostile_text_costs_no_more_than_its_length() {
        // With backtracking, this would not end in the life of the test.
        let schema = schema(r#"{"pattern":"^(a+)+$"}"#);
        let hostile = Json::string(&format!("{}b", "a".repeat(100_000)));
        assert!(schema.check(&hostile).is_some());
    }
}
