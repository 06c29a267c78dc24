//! Text that programs and people chose (names of threads, labels, units) on a terminal: no escape sequence reaches it, no
//! direction override turns a line around.

/// Whether a character acts on a terminal or on the direction of text instead of being shown: C0, DEL, C1, line and
/// paragraph separators, marks, embeddings, overrides and isolates of the bidirectional algorithm, byte order mark.
pub const fn acts(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    )
}

/// Appends text for a terminal, from bytes that may not be UTF-8, at most `max_columns` characters wide; what no
/// longer fits is cut, never within an escape. Returns the width in characters.
pub fn terminal(out: &mut Vec<u8>, bytes: &[u8], max_columns: usize) -> usize {
    let mut columns = 0;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let start = out.len();
            let width = terminal_character(out, character);
            if columns + width > max_columns {
                out.truncate(start);
                return columns;
            }
            columns += width;
        }
        for &byte in chunk.invalid() {
            if columns + 4 > max_columns {
                return columns;
            }
            spell_byte(out, byte);
            columns += 4;
        }
    }
    columns
}

fn terminal_character(out: &mut Vec<u8>, character: char) -> usize {
    let start = out.len();
    match u8::try_from(u32::from(character)) {
        Ok(byte) if acts(character) => spell_byte(out, byte),
        Err(_) if acts(character) => {
            out.extend(character.escape_unicode().map(|ascii| ascii as u8));
        }
        _ => {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return 1;
        }
    }
    out.len() - start
}

fn spell_byte(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}
/// A time in at most six characters.
pub fn short_time(us: u64) -> String {
    let (ms, s) = (us / 1000, us / 1_000_000);
    match s {
        0 => format!("{ms}ms"),
        1..100 => format!("{s}.{}s", ms % 1000 / 100),
        100..6_000 => format!("{}m{:02}s", s / 60, s % 60),
        6_000..360_000 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        360_000..8_640_000 => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
        _ => format!("{}d", s / 86_400),
    }
}

/// A time that may be short: microseconds below a millisecond, tenths below ten, else [`short_time`].
pub fn fine_time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}us"),
        1_000..10_000 => format!("{}.{}ms", us / 1_000, us % 1_000 / 100),
        _ => short_time(us),
    }
}

/// A count in at most five characters: thousands as k, M, G, T.
pub fn short_count(count: u64) -> String {
    let mut unit = 1_000;
    for name in ["k", "M", "G"] {
        if count < unit * 10 && unit == 1_000 {
            return count.to_string();
        }
        if count < unit * 10 {
            return format!("{}.{}{name}", count / unit, count % unit / (unit / 10));
        }
        if count < unit * 1_000 {
            return format!("{}{name}", count / unit);
        }
        unit *= 1_000;
    }
    format!("{}T", count / unit)
}
