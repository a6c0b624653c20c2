//! Numbers as people read them.

/// One or several, in words: `1 file`, `2 files`, `2 copies`.
pub fn count(number: u64, of: &str) -> String {
    match of.strip_suffix('y') {
        _ if number == 1 => format!("1 {of}"),
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{number} {stem}ies"),
        _ => format!("{number} {of}s"),
    }
}

/// A size as people read it: `1.5 GiB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let power = (bytes.max(1).ilog2() / 10).min(5);
    match power {
        0 => format!("{bytes} B"),
        power => format!("{:.1} {}", bytes as f64 / f64::from(power * 10).exp2(), UNITS[power as usize]),
    }
}

/// Two sizes that differ, so that they also look different.
pub fn human_bytes_apart(one: u64, other: u64) -> [String; 2] {
    let human = [one, other].map(human_bytes);
    if human[0] == human[1] { [one, other].map(|bytes| format!("{bytes} B")) } else { human }
}

/// How long something took or is ago, by its largest unit: `5m`.
pub fn human_age(age: jiff::SignedDuration) -> String {
    let seconds = age.as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_several() {
        let counted = [(1, "file"), (0, "file"), (2, "file"), (1, "copy"), (3, "copy"), (2, "day")];
        let counted = counted.map(|(number, of)| count(number, of));
        assert_eq!(counted, ["1 file", "0 files", "2 files", "1 copy", "3 copies", "2 days"]);
    }

    #[test]
    fn sizes_are_short_and_those_that_differ_look_different() {
        assert_eq!([0, 1023, 3 << 29].map(human_bytes), ["0 B", "1023 B", "1.5 GiB"]);
        assert_eq!(human_bytes_apart(100_310_304, 1024), ["95.7 MiB", "1.0 KiB"]);
        assert_eq!(human_bytes_apart(1025, 1024), ["1025 B", "1024 B"]);
    }
}
