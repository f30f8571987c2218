//! Templates of step arguments: JSON in which objects can be references to other values.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde_json::value::RawValue;

use super::pointer::{Place, shown};
use crate::json::{Members, push_string};

/// The member with the pointer of a reference.
pub(super) const FROM: &str = "$from";
/// The member whose value is copied without resolving references.
const VALUE: &str = "$value";
const DEFAULT: &str = "default";

/// A reference to another value.
#[derive(Clone, Debug)]
pub(crate) struct Reference<'a> {
    pub(crate) pointer: String,
    pub(crate) place: Place,
    /// The value that is used if the pointer leads to none.
    pub(crate) default: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Reads a reference from an object; `None` if the object is not a reference.
    fn of(members: &Members<'a>) -> Result<Option<Reference<'a>>, String> {
        let Some(raw) = members.get(FROM) else {
            return Ok(None);
        };
        let pointer: String =
            serde_json::from_str(raw).map_err(|_| alloc::format!("`{FROM}` is a JSON Pointer, in quotes"))?;
        if let Some((other, _)) = members.0.iter().find(|(name, _)| name != FROM && name != DEFAULT) {
            return Err(alloc::format!("beside `{FROM}` there may be `{DEFAULT}` only, and not `{}`", shown(other)));
        }
        let place = Place::parse(&pointer)?;
        Ok(Some(Reference { pointer, place, default: members.get(DEFAULT) }))
    }
}

/// Writes a template with its references resolved.
///
/// # Errors
///
/// What is wrong with one of them.
pub(crate) fn fill(
    template: &str,
    value: &mut dyn FnMut(&Reference<'_>) -> Result<String, String>,
) -> Result<String, String> {
    let mut out = String::with_capacity(template.len());
    put(template.trim(), &mut out, value)?;
    Ok(out)
}

fn put(
    text: &str,
    out: &mut String,
    value: &mut dyn FnMut(&Reference<'_>) -> Result<String, String>,
) -> Result<(), String> {
    if text.starts_with('{') {
        let members = Members::parse(text).map_err(|why| why.to_string())?;
        if let Some(reference) = Reference::of(&members)? {
            out.push_str(&value(&reference)?);
            return Ok(());
        }
        if let [(name, as_it_is)] = members.0.as_slice()
            && name == VALUE
        {
            out.push_str(as_it_is);
            return Ok(());
        }
        out.push('{');
        for (at, (name, member)) in members.0.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            push_string(out, name);
            out.push(':');
            put(member, out, value)?;
        }
        out.push('}');
    } else if text.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|why| why.to_string())?;
        out.push('[');
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            put(item.get(), out, value)?;
        }
        out.push(']');
    } else {
        out.push_str(text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_filled_in_wherever_they_stand() {
        let template = r#"{"a": {"$from": "/input/x"}, "b": [1, {"$from": "/input/y", "default": {"z": 1}}],
            "c": {"$value": {"$from": "as it is"}}, "d\"": {"$from2": null}}"#;
        let filled = fill(template, &mut |reference| match reference.pointer.as_str() {
            "/input/x" => Ok("true".to_string()),
            _ => Ok(reference.default.expect("one").to_string()),
        });
        let expected = r#"{"a":true,"b":[1,{"z": 1}],"c":{"$from": "as it is"},"d\"":{"$from2":null}}"#;
        assert_eq!(filled.as_deref(), Ok(expected));
    }

    #[test]
    fn what_is_said_beside_a_reference_is_refused() {
        let fill = |template| fill(template, &mut |_| Ok(String::new()));
        assert!(fill(r#"{"$from": "/input", "defualt": 1}"#).is_err_and(|why| why.contains("defualt")));
        assert!(fill(r#"{"$from": 1}"#).is_err());
        assert!(fill(r#"{"a": 1, "a": 2}"#).is_err());
    }
}
