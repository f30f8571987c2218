//! The members of an object, read without decoding their values.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Json, JsonError, Object};

/// The members of one object, in order, with their values as raw text.
#[derive(Debug, Default)]
pub struct Members<'a>(pub Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Members<'a> {
    /// Splits an object.
    ///
    /// # Errors
    ///
    /// `NotAnObject`, `Syntax`, or `Duplicate`.
    pub fn parse(text: &'a str) -> Result<Members<'a>, JsonError> {
        if !text.trim_start().starts_with('{') {
            return Err(JsonError::NotAnObject);
        }
        let members = match Members::passed(text) {
            Some(members) => members,
            None => serde_json::from_str(text).map_err(|e| JsonError::Syntax { at: e.column() })?,
        };
        if members.0.len() < 2 {
            return Ok(members);
        }
        let mut names: Vec<&str> = members.0.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(JsonError::Duplicate);
        }
        Ok(members)
    }

    fn passed(text: &'a str) -> Option<Members<'a>> {
        let mut members = Vec::new();
        super::members(text, usize::MAX, |member| {
            members.push((Cow::Borrowed(member.name), member.value));
            Some(())
        })?;
        Some(Members(members))
    }

    /// The raw text of a member.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| *value)
    }

    /// A member that must be a string, decoded.
    pub fn get_str(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|raw| serde_json::from_str(raw).ok())
    }

    /// Renames the first member with one of these aliases, unless there is one called `name`.
    pub fn rename(&mut self, aliases: &[&'static str], name: &'static str) {
        if self.get(name).is_some() {
            return;
        }
        if let Some(member) = self.0.iter_mut().find(|(member, _)| aliases.contains(&member.as_ref())) {
            member.0 = Cow::Borrowed(name);
        }
    }

    /// Writes the members as an object again.
    pub fn to_json(&self) -> Json {
        let mut object = Object::new();
        for (name, value) in &self.0 {
            object.member(name, value);
        }
        Json::from_written(object.done())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'a>, D::Error> {
        struct Walk<'a>(core::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Walk<'a> {
            type Value = Members<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'a>, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    members.push((name, value.get()));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Walk(core::marker::PhantomData))
    }
}

/// A string that is borrowed if it has no escapes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// A value as it is written in the text that contains it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a>(pub(crate) &'a str);

impl<'a> Raw<'a> {
    pub(crate) fn get(self) -> &'a str {
        self.0
    }
}

/// From a text that was checked.
impl<'a> From<&'a str> for Raw<'a> {
    fn from(text: &'a str) -> Raw<'a> {
        Raw(text)
    }
}

impl<'a> From<&'a RawValue> for Raw<'a> {
    fn from(raw: &'a RawValue) -> Raw<'a> {
        Raw(raw.get())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw<'a>, D::Error> {
        <&'de RawValue>::deserialize(deserializer).map(Raw::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_refuse_duplicates() {
        assert!(matches!(Members::parse(r#"{"a":1,"\u0061":2}"#), Err(JsonError::Duplicate)));
        assert!(matches!(Members::parse("[]"), Err(JsonError::NotAnObject)));
    }
}
