//! Titles of shops and products: one line, as they are shown in rows and cards.

use crate::human::is_unprintable;

/// Longest title, in bytes: a product record stays under 4 KiB.
const MAX_LEN: usize = 256;
/// Characters of a text that errors show.
const SHOWN: usize = 40;

/// Why a text is no title.
pub(crate) fn unusable(title: &str) -> Option<&'static str> {
    if !title.contains(is_visible) {
        Some("it is empty")
    } else if title.len() > MAX_LEN {
        Some("it is longer than 256 bytes")
    } else if title.contains(is_unprintable) {
        Some(
            "it is more than one line, or has a control character or one that turns the direction of writing",
        )
    } else {
        None
    }
}

/// Whether a character alone is seen: no space, and none that Unicode lets programs leave out.
fn is_visible(c: char) -> bool {
    let is_ignorable = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}');
    !is_ignorable && !c.is_whitespace() && !c.is_control()
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
        let joined = "👩\u{200d}🚀";
        for title in [
            "Songs",
            "Ünïcode “title”",
            "أغاني البحر",
            joined,
            &"a".repeat(256),
        ] {
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
            "\u{200b}",
            " \u{3164}\u{feff}",
            "song\u{202e}3pm.exe",
            "\u{2066}a",
            &long,
        ] {
            assert!(unusable(title).is_some(), "{title:?}");
        }
        assert_eq!(beginning(&long), format!("{}…", "a".repeat(40)));
        assert_eq!(beginning("ß"), "ß");
    }
}
