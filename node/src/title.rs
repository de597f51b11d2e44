//! Titles of shops and products: one line, as they are shown in rows and cards.

/// Longest title, in bytes: a product record stays under 4 KiB.
const MAX_LEN: usize = 256;
/// Characters of a text that errors show.
const SHOWN: usize = 40;

/// Why a text is no title.
pub(crate) fn unusable(title: &str) -> Option<&'static str> {
    if title.trim().is_empty() {
        Some("it is empty")
    } else if title.len() > MAX_LEN {
        Some("it is longer than 256 bytes")
    } else if title.contains(|c: char| c.is_control() || is_line_end(c)) {
        Some("it is more than one line, or has a control character")
    } else {
        None
    }
}

/// Ends of lines and paragraphs that are no control characters.
fn is_line_end(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

/// The beginning of a text that is refused.
pub(crate) fn beginning(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_one_line_of_256_bytes_at_most() {
        for title in ["Songs", "Ünïcode “title”", "أغاني البحر", &"a".repeat(256)] {
            assert_eq!(unusable(title), None, "{title}");
        }
        let long = "a".repeat(257);
        for title in [
            "",
            " ",
            "a\nb",
            "a\tb",
            "a\u{1b}[31m",
            "a\u{2028}b",
            "\u{85}",
            &long,
        ] {
            assert!(unusable(title).is_some(), "{title:?}");
        }
        assert_eq!(beginning(&long), format!("{}…", "a".repeat(40)));
        assert_eq!(beginning("ß"), "ß");
    }
}
