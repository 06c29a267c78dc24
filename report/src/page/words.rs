//! Numbers as a person reads them.

/// `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 connection`, `2 connections`.
pub(crate) fn counted(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `850 µs`, `1.2 ms`, `3.4 s`, `5 min`, `2.5 h`.
pub(super) fn duration(us: u64) -> String {
    const UNITS: [(u64, &str); 6] = [
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "min"),
        (1_000_000, "s"),
        (1_000, "ms"),
        (1, "µs"),
    ];
    scaled(us, &UNITS).unwrap_or_else(|| "0 µs".to_owned())
}

/// `512 B`, `1.5 kB`, `20 MB`, in powers of ten.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [(u64, &str); 5] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB"), (1, "B")];
    scaled(number, &UNITS).unwrap_or_else(|| "0 B".to_owned())
}

/// In the largest unit of which there is at least one; with a tenth below ten of it.
fn scaled(number: u64, units: &[(u64, &str)]) -> Option<String> {
    let (size, unit) = units.iter().find(|(size, _)| number >= *size)?;
    let whole = number / size;
    let tenth = number % size * 10 / size;
    Some(if whole < 10 && tenth > 0 { format!("{whole}.{tenth} {unit}") } else { format!("{whole} {unit}") })
}

/// A share, as a person says it: `0.02 %`, `3.1 %`, `47 %`.
pub(super) fn share(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0 %".to_owned();
    }
    let thousandths = u128::from(part) * 100_000 / u128::from(whole);
    match thousandths {
        0..10 => "< 0.01 %".to_owned(),
        10..1_000 => format!("0.{:02} %", thousandths / 10),
        1_000..10_000 => format!("{}.{} %", thousandths / 1000, thousandths % 1000 / 100),
        _ => format!("{} %", thousandths / 1000),
    }
}

/// As much of a name as there is room for, its end rather than its beginning left out.
pub(super) fn fitted(name: &str, characters: usize) -> String {
    if name.chars().count() <= characters {
        return name.to_owned();
    }
    let kept: String = name.chars().take(characters.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 850, 1_200, 34_000_000, 300_000_000, 9_000_000_000].map(duration),
            ["0 µs", "850 µs", "1.2 ms", "34 s", "5 min", "2.5 h"]
        );
        assert_eq!([0, 512, 1_500, 20_000_000].map(bytes), ["0 B", "512 B", "1.5 kB", "20 MB"]);
        assert_eq!(
            [(0, 5), (1, 100_000), (1, 5_000), (31, 1000), (47, 100), (1, 1)].map(|(a, b)| share(a, b)),
            ["0 %", "< 0.01 %", "0.02 %", "3.1 %", "47 %", "100 %"]
        );
        assert_eq!([1, 2].map(|number| counted(number, "line")), ["1 line", "2 lines"]);
    }

    #[test]
    fn a_name_keeps_its_beginning() {
        assert_eq!(fitted("shop/checkout", 13), "shop/checkout");
        assert_eq!(fitted("shop/checkout", 8), "shop/ch…");
    }
}
