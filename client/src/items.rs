//! Takes a list apart while it comes: one object after the other, and what is around them. A list may be of any length,
//! and nobody has room for all of it. Pure.
//!
//! It is cut and not understood: where objects begin and end shows by braces outside of strings. What is inside is read by
//! whoever gets the piece, and what is no JSON fails there.

/// An object, or what is around all of them, is no longer. etcd keeps none of more than 1.5 MiB by default.
const LONGEST: usize = 16 * 1024 * 1024;
/// Room that is kept for the next object.
const KEPT: usize = 64 * 1024;

/// What came is no list of an API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// An object, or what is around them, is too long.
    #[error("an object of more than {} MiB in a list", LONGEST / 1024 / 1024)]
    TooLong,
    /// It ends in the middle.
    #[error("a list that ends in the middle")]
    Torn,
}

/// Cuts a list into its objects.
#[derive(Debug, Default)]
pub struct Items {
    /// All but the objects.
    around: Vec<u8>,
    /// The object that is coming.
    item: Vec<u8>,
    depth: usize,
    text: Text,
    /// The last string at the first level: the key of what follows.
    key: Vec<u8>,
    /// Within `"items": [...]`.
    inside: bool,
}

/// Where in a string the text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Text {
    #[default]
    Outside,
    Inside,
    /// After a backslash.
    Escaped,
}

impl Items {
    /// Takes what has come, and gives each object that is complete.
    pub fn take<E: From<Malformed>>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for byte in bytes {
            if self.byte(*byte) {
                each(&self.item)?;
                self.item.clear();
                self.item.shrink_to(KEPT);
            }
            if self.item.len().max(self.around.len()) > LONGEST {
                return Err(Malformed::TooLong.into());
            }
        }
        Ok(())
    }

    /// What was around the objects: the list without any.
    pub fn finish(self) -> Result<Vec<u8>, Malformed> {
        if self.depth == 0 && self.text == Text::Outside { Ok(self.around) } else { Err(Malformed::Torn) }
    }

    /// Whether an object is complete with this one.
    fn byte(&mut self, byte: u8) -> bool {
        let in_item = self.inside && (self.depth > 2 || byte == b'{');
        if in_item {
            self.item.push(byte);
        } else if !self.inside || byte == b']' {
            self.around.push(byte);
        }
        if self.text == Text::Outside {
            return self.structure(byte);
        }
        self.text = match (self.text, byte) {
            (Text::Inside, b'\\') => Text::Escaped,
            (Text::Inside, b'"') => Text::Outside,
            _ => Text::Inside,
        };
        if self.depth == 1 && self.text != Text::Outside {
            self.key.push(byte);
        }
        false
    }

    fn structure(&mut self, byte: u8) -> bool {
        match byte {
            b'"' => {
                self.text = Text::Inside;
                if self.depth == 1 {
                    self.key.clear();
                }
            }
            b'{' | b'[' => {
                self.depth += 1;
                self.inside |= byte == b'[' && self.depth == 2 && self.key == b"items";
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.inside && self.depth == 1 {
                    self.inside = false;
                }
                return self.inside && self.depth == 2;
            }
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{Items, LONGEST, Malformed};

    /// The objects of a list that comes in pieces of a length, and what is around them.
    fn cut(list: &str, length: usize) -> Result<(Vec<String>, String), Malformed> {
        let (mut items, mut cut) = (Items::default(), Vec::new());
        for piece in list.as_bytes().chunks(length) {
            items.take(piece, |item| {
                cut.push(String::from_utf8(item.to_vec()).unwrap());
                Ok::<_, Malformed>(())
            })?;
        }
        Ok((cut, String::from_utf8(items.finish()?).unwrap()))
    }

    #[test]
    fn a_list_is_cut_into_its_objects_wherever_its_pieces_end() {
        let list = r#"{"kind":"List","metadata":{"resourceVersion":"7","items":[1]},
            "items": [ {"a":"}]\"{\\","items":[{}]}, {"b":[["]"]]} ,{}], "more":"items"}"#;
        let around = r#"{"kind":"List","metadata":{"resourceVersion":"7","items":[1]},
            "items": [], "more":"items"}"#;
        let objects = [r#"{"a":"}]\"{\\","items":[{}]}"#, r#"{"b":[["]"]]}"#, "{}"];
        for length in 1..=list.len() {
            let (cut, rest) = cut(list, length).unwrap();
            assert_eq!((cut, rest.as_str()), (objects.map(str::to_owned).to_vec(), around), "{length}");
        }
    }

    #[test]
    fn an_empty_list_has_no_objects() {
        for list in [r#"{"items":[],"metadata":{}}"#, r#"{"items":null,"metadata":{}}"#, "{}"] {
            assert_eq!(cut(list, 3), Ok((vec![], list.to_owned())));
        }
    }

    #[test]
    fn a_list_that_ends_in_the_middle_is_refused() {
        for list in [r#"{"items":[{"a":1},"#, r#"{"items":[{"a":1}]"#, r#"{"metadata":{"a":"b}"#] {
            assert_eq!(cut(list, 3), Err(Malformed::Torn), "{list}");
        }
    }

    #[test]
    fn an_object_of_any_length_takes_no_more_than_there_is_room_for() {
        let endless = format!("{{\"items\":[{{\"a\":\"{}", "b".repeat(LONGEST + 1));
        assert_eq!(cut(&endless, 8192), Err(Malformed::TooLong));
        let endless = format!("{{\"a\":\"{}", "b".repeat(LONGEST + 1));
        assert_eq!(cut(&endless, 8192), Err(Malformed::TooLong));
    }
}
