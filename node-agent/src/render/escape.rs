//! Text that programs and people chose (comm, labels, unit names) must stay text: no quote ends a JSON string early,
//! no escape sequence reaches a terminal, no direction override turns a line around.
//!
//! Two ways: in JSON such a character is written as `\u001b`, which a parser turns back into the character. In the
//! table, CSV and the journal's message it is spelled out (`\x1b`, `\u{202e}`) and stays so. Bytes that are not
//! UTF-8 are spelled out everywhere (`\xff`; in JSON the backslash is doubled, as JSON wants it). A backslash that was
//! there before is left alone, so the spelled-out form is for reading, not for turning back.

use std::borrow::Cow;

pub use kube_tcpstates_events::terminal::{acts, terminal};

use super::append::hex_byte;

/// What stands at the end of a text that was cut.
pub const ELLIPSIS: &str = "…";

/// ASCII that is itself in a JSON string.
const fn plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Appends the inside of a JSON string.
pub fn json(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    loop {
        let run = rest.bytes().take_while(|&byte| plain(byte)).count();
        // Only ASCII was passed over, so this is a boundary between characters.
        out.extend_from_slice(&rest.as_bytes()[..run]);
        rest = &rest[run..];
        let Some(character) = rest.chars().next() else {
            return;
        };
        json_character(out, character);
        rest = &rest[character.len_utf8()..];
    }
}

/// Appends the inside of a JSON string, from bytes that may not be UTF-8.
pub fn json_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.iter().all(|&byte| plain(byte)) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        json(out, chunk.valid());
        for &byte in chunk.invalid() {
            out.extend_from_slice(br"\\x");
            out.extend_from_slice(&hex_byte(byte));
        }
    }
}

/// Appends the inside of a JSON string, cut with `…` so that it has at most `max` bytes.
pub fn json_clipped(out: &mut Vec<u8>, text: &str, max: usize) {
    json(out, &clip(text, max));
}

/// The text, cut with `…` so that it has at most `max` bytes once [`json`] escapes it.
pub fn clip(text: &str, max: usize) -> Cow<'_, str> {
    let mut escaped = Vec::new();
    // Where to cut, should it not fit.
    let mut cut = 0;
    for (at, character) in text.char_indices() {
        json_character(&mut escaped, character);
        if escaped.len() > max {
            return Cow::Owned(format!("{}{ELLIPSIS}", &text[..cut]));
        }
        if escaped.len() + ELLIPSIS.len() <= max {
            cut = at + character.len_utf8();
        }
    }
    Cow::Borrowed(text)
}

fn json_character(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(br#"\""#),
        '\\' => out.extend_from_slice(br"\\"),
        '\n' => out.extend_from_slice(br"\n"),
        '\r' => out.extend_from_slice(br"\r"),
        '\t' => out.extend_from_slice(br"\t"),
        _ if acts(character) => {
            out.extend_from_slice(br"\u");
            // All that act are below U+10000: the two low bytes are all there is.
            let [_, _, high, low] = u32::from(character).to_be_bytes();
            out.extend_from_slice(&hex_byte(high));
            out.extend_from_slice(&hex_byte(low));
        }
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{acts, json, json_bytes, json_clipped, terminal};

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_name_meant_to_break_the_line_is_spelled_out() {
        let table: [(&[u8], &str, &str); 10] = [
            (b"nginx: worker", "nginx: worker", "nginx: worker"),
            (b"a\"b\\c", r#"a\"b\\c"#, r#"a"b\c"#),
            (b"a\nb\r\tc", r"a\nb\r\tc", r"a\x0ab\x0d\x09c"),
            (b"\x1b[2J\x07", r"\u001b[2J\u0007", r"\x1b[2J\x07"),
            (b"\x7f", r"\u007f", r"\x7f"),
            ("\u{9b}31m".as_bytes(), r"\u009b31m", r"\x9b31m"),
            ("\u{202e}evil\u{2069}".as_bytes(), r"\u202eevil\u2069", r"\u{202e}evil\u{2069}"),
            ("\u{2028}".as_bytes(), r"\u2028", r"\u{2028}"),
            (b"ok\xff\xfe", r"ok\\xff\\xfe", r"ok\xff\xfe"),
            ("żółw-日本".as_bytes(), "żółw-日本", "żółw-日本"),
        ];
        for (bytes, in_json, on_terminal) in table {
            assert_eq!(text(|out| json_bytes(out, bytes)), in_json);
            assert_eq!(text(|out| _ = terminal(out, bytes, usize::MAX)), on_terminal);
        }
    }

    #[test]
    fn a_column_is_cut_between_characters_and_never_within_an_escape() {
        let cut = |bytes: &[u8], max| text(|out| _ = terminal(out, bytes, max));
        assert_eq!(cut(b"abcdef", 4), "abcd");
        assert_eq!(cut("żółw".as_bytes(), 2), "żó");
        assert_eq!(cut(b"abc\x1b[", 6), "abc");
        assert_eq!(cut(b"abc\xff", 6), "abc");
        assert_eq!(cut(b"abc\x1b[", 7), r"abc\x1b");
    }

    #[test]
    fn a_text_that_is_too_long_ends_in_an_ellipsis() {
        assert_eq!(text(|out| json_clipped(out, "abcdef", 6)), "abcdef");
        assert_eq!(text(|out| json_clipped(out, "abcdefg", 6)), "abc…");
        assert_eq!(text(|out| json_clipped(out, "\u{1b}\u{1b}\u{1b}", 10)), r"\u001b…");
    }

    proptest! {
        #[test]
        fn json_turns_back_into_the_same_text(original in any::<String>()) {
            let escaped = text(|out| json(out, &original));
            prop_assert!(!escaped.chars().any(acts));
            prop_assert_eq!(serde_json::from_str::<String>(&format!("\"{escaped}\"")).unwrap(), original);
        }

        #[test]
        fn no_bytes_reach_a_terminal_that_act_on_it(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            max in 0_usize..80,
        ) {
            let mut out = Vec::new();
            let columns = terminal(&mut out, &bytes, max);
            let shown = String::from_utf8(out).unwrap();
            prop_assert!(!shown.chars().any(acts));
            prop_assert!(columns <= max);
            prop_assert_eq!(columns, shown.chars().count());
        }

        #[test]
        fn a_clipped_text_is_within_its_bound_and_parses(original in any::<String>(), max in 3_usize..40) {
            let escaped = text(|out| json_clipped(out, &original, max));
            prop_assert!(escaped.len() <= max);
            let parsed = serde_json::from_str::<String>(&format!("\"{escaped}\""));
            prop_assert!(parsed.is_ok());
        }
    }
}
