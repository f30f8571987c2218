//! A JSON Pointer (RFC 6901) to a value of a workflow: in its input, or in the outcome of a step.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde_json::value::RawValue;

use crate::json::Members;

/// A parsed pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) source: Source,
    /// The members and items from the source to the value.
    path: Vec<String>,
}

/// The source in which a pointer begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `/input`
    Input,
    /// `/steps/ID/result`, `/steps/ID/error`, `/steps/ID/state`
    Step(String, Part),
}

/// A part of the outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Result,
    Error,
    State,
}

impl Place {
    /// Reads a pointer.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn parse(pointer: &str) -> Result<Place, String> {
        let Some(rest) = pointer.strip_prefix('/') else {
            return Err(alloc::format!("`{}` is no JSON Pointer: it begins with `/`", shown(pointer)));
        };
        let tokens = rest.split('/').map(|token| {
            decode(token).ok_or_else(|| {
                alloc::format!("`{}` is no JSON Pointer: `~` stands before 0 or 1 alone", shown(pointer))
            })
        });
        let mut path: Vec<String> = tokens.collect::<Result<_, _>>()?;
        if path[0] == "input" {
            path.remove(0);
            return Ok(Place { source: Source::Input, path });
        }
        let part = match (path[0].as_str(), path.get(2).map(String::as_str)) {
            ("steps", Some("result")) => Part::Result,
            ("steps", Some("error")) => Part::Error,
            ("steps", Some("state")) => Part::State,
            _ => {
                let why = "`/input`, `/steps/ID/result`, `/steps/ID/error` or `/steps/ID/state`";
                return Err(alloc::format!("`{}` begins with none of {why}", shown(pointer)));
            }
        };
        let path_within = path.split_off(3);
        Ok(Place { source: Source::Step(path.swap_remove(1), part), path: path_within })
    }

    /// The value within that of its source; `work`: how many bytes may still be read.
    ///
    /// # Errors
    ///
    /// If more bytes would be read.
    pub(crate) fn within<'a>(&self, source: &'a str, work: &mut usize) -> Result<Option<&'a str>, String> {
        let mut value = source;
        for token in &self.path {
            let left = work.checked_sub(value.len());
            *work = left.ok_or("the pointers lead too deep into too much: fewer of them, or a smaller value")?;
            match find(value, token) {
                Some(found) => value = found,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }
}

/// A member or item of a value.
fn find<'a>(value: &'a str, token: &str) -> Option<&'a str> {
    let value = value.trim_start();
    if value.starts_with('{') {
        return Members::parse(value).ok()?.get(token);
    }
    if !value.starts_with('[') || (token.len() > 1 && token.starts_with('0')) {
        return None;
    }
    let at: usize = token.parse().ok().filter(|_| token.bytes().all(|digit| digit.is_ascii_digit()))?;
    let items: Vec<&'a RawValue> = serde_json::from_str(value).ok()?;
    items.get(at).map(|item| item.get())
}

fn decode(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (mark, rest) = part.split_at_checked(1)?;
        out.push(match mark {
            "0" => '~',
            "1" => '/',
            _ => return None,
        });
        out.push_str(rest);
    }
    Some(out)
}

/// The first 128 characters of a text from a client.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_finds_members_and_items_by_their_escaped_names() {
        let input = r#"{"a/b": {"~": [10, {"x": true}]}, "": 1, "a": {"0": "zero"}}"#;
        for (pointer, value) in [
            ("/input/a~1b/~0/0", Some("10")),
            ("/input/a~1b/~0/1/x", Some("true")),
            ("/input/a~1b/~0/01", None),
            ("/input/a~1b/~0/+1", None),
            ("/input/a~1b/~0/2", None),
            ("/input/", Some("1")),
            ("/input/a/0", Some("\"zero\"")),
            ("/input/a/0/0", None),
        ] {
            let place = Place::parse(pointer).expect("a pointer");
            assert_eq!(place.within(input, &mut 1000), Ok(value), "{pointer}");
        }
        assert_eq!(Place::parse("/input").expect("one").within(input, &mut 0), Ok(Some(input)));
        let deep = Place::parse("/input/a/0").expect("one");
        assert!(deep.within(input, &mut input.len()).is_err(), "each step costs what it reads");
    }

    #[test]
    fn what_is_no_pointer_into_a_workflow_is_refused() {
        for pointer in ["", "input", "/", "/inputs", "/steps", "/steps/a", "/steps/a/results", "/input/~2", "/input/~"]
        {
            assert!(Place::parse(pointer).is_err(), "{pointer}");
        }
    }
}
