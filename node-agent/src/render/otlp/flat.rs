//! A JSON line as a list: each member that is no object, under its path. Read without a tree in between, as this is done for
//! every line.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Members by their path, `network.peer.port`, in the order of the line. Arrays are values, with what is in them.
#[derive(Debug, Default)]
pub(super) struct Flat(pub(super) Vec<(String, Value)>);

impl Flat {
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == path).map(|(_, value)| value)
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.get(path)?.as_str()
    }

    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.get(path)?.as_u64()
    }

    /// Whether there is anything below a path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.0.iter().any(|(name, _)| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
    }
}

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut flat = Self(Vec::with_capacity(64));
        deserializer.deserialize_any(Member { into: &mut flat.0, path: &mut String::with_capacity(64) })?;
        Ok(flat)
    }
}

/// The value at a path.
struct Member<'a> {
    into: &'a mut Vec<(String, Value)>,
    path: &'a mut String,
}

impl Member<'_> {
    fn is(self, value: impl Into<Value>) {
        self.into.push((self.path.clone(), value.into()));
    }
}

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.is(value);
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.is(value);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.is(value);
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.is(value);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.is(value);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.is(Value::Null);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let mut list = Vec::new();
        while let Some(value) = values.next_element::<Value>()? {
            list.push(value);
        }
        self.is(list);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let length = self.path.len();
        while members.next_key_seed(Name(self.path))?.is_some() {
            members.next_value_seed(Member { into: self.into, path: self.path })?;
            self.path.truncate(length);
        }
        Ok(())
    }
}

/// The name of a member, at the end of the path.
struct Name<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<(), E> {
        if !self.0.is_empty() {
            self.0.push('.');
        }
        self.0.push_str(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Flat;

    #[test]
    fn members_stand_under_their_paths_and_arrays_are_values() {
        let flat: Flat = serde_json::from_str(
            r#"{"a": {"b": 1, "c\u0041": {"d": "x\n"}}, "e": [1, {"f": null}], "g": -2, "h": 0.5, "i": null, "j": {}}"#,
        )
        .unwrap();
        let expected = [
            ("a.b", json!(1)),
            ("a.cA.d", json!("x\n")),
            ("e", json!([1, {"f": null}])),
            ("g", json!(-2)),
            ("h", json!(0.5)),
            ("i", Value::Null),
        ];
        assert_eq!(flat.0, expected.map(|(path, value)| (path.to_owned(), value)));
        assert_eq!((flat.number("a.b"), flat.text("a.cA.d"), flat.text("a")), (Some(1), Some("x\n"), None));
        assert_eq!(
            [flat.has("a"), flat.has("a.c"), flat.has("e"), flat.has("j")],
            [true, false, false, false]
        );
    }

    #[test]
    fn what_is_no_document_is_nothing() {
        for text in ["", "{", "{\"a\":}", "{} {}", "{\"a\": 1"] {
            assert!(serde_json::from_str::<Flat>(text).is_err(), "{text}");
        }
    }
}
