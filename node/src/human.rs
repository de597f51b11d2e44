//! Figures and names as people read them.

use std::borrow::Cow;

/// A size as people read it: at most four digits and a binary unit.
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut scaled = bytes as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1000.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(scaled < 99.95);
    format!("{scaled:.digits$} {}", UNITS[unit])
}

/// A text in one row: what would end the row, or change how the rest of it is shown, is written as in a program.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return text.into();
    }
    let shown = text.chars().map(|c| match is_unprintable(c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    });
    shown.collect::<String>().into()
}

/// Control characters, ends of lines and paragraphs, and what changes the direction of writing.
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_row() {
        assert_eq!(printable("Ünï “a” أغاني"), "Ünï “a” أغاني");
        assert_eq!(printable("a\nb\tc"), "a\\nb\\tc");
        assert_eq!(
            printable("\u{1b}[31m\u{202e}gpj.exe"),
            "\\u{1b}[31m\\u{202e}gpj.exe"
        );
    }

    #[test]
    fn sizes_have_at_most_four_digits() {
        assert_eq!(human_size(0), "0 B");
        assert_eq!(human_size(1023), "1023 B");
        assert_eq!(human_size(1024), "1.0 KiB");
        assert_eq!(human_size(1 << 20), "1.0 MiB");
        assert_eq!(human_size(1_048_575), "1.0 MiB");
        assert_eq!(human_size(150 << 20), "150 MiB");
        assert_eq!(human_size(u64::MAX), "16.0 EiB");
        assert_eq!(human_size(4 << 30), "4.0 GiB");
    }
}
