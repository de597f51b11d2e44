//! `Range` and `If-Range` (RFC 9110, section 14).

use std::ops::Range;

/// What a `Range` header asks of content of a known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// Everything: no header, another unit, or a header that is not valid and so is ignored.
    Full,
    /// These bytes, end-exclusive, inside the content.
    Part(Range<u64>),
    /// Nothing that is asked for is there.
    Unsatisfiable,
}

/// Ranges that one header may list; a longer header is ignored.
const MAX_RANGES: usize = 64;

/// Reads a `Range` header for content of `len` bytes. Of several ranges the first one that can be
/// had is served, which the specification allows.
pub(crate) fn select(header: &str, len: u64) -> Selection {
    let Some(list) = strip_unit(header) else {
        return Selection::Full;
    };
    let mut first = None;
    let mut count = 0usize;
    for spec in list
        .split(',')
        .map(str::trim)
        .filter(|spec| !spec.is_empty())
    {
        count += 1;
        let Some(asked) = parse(spec) else {
            return Selection::Full;
        };
        if first.is_none() {
            first = clamp(asked, len);
        }
    }
    match (count, first) {
        (0, _) => Selection::Full,
        (count, _) if count > MAX_RANGES => Selection::Full,
        (_, Some(range)) => Selection::Part(range),
        (_, None) => Selection::Unsatisfiable,
    }
}

fn strip_unit(header: &str) -> Option<&str> {
    let (unit, list) = header.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then_some(list)
}

enum Asked {
    From(u64),
    FromTo(u64, u64),
    Last(u64),
}

fn parse(spec: &str) -> Option<Asked> {
    let (from, to) = spec.split_once('-')?;
    match (from.trim_end(), to.trim_start()) {
        ("", "") => None,
        ("", last) => Some(Asked::Last(number(last)?)),
        (from, "") => Some(Asked::From(number(from)?)),
        (from, to) => {
            let (from, to) = (number(from)?, number(to)?);
            (from <= to).then_some(Asked::FromTo(from, to))
        }
    }
}

/// Digits only; a number too large for any content counts as the largest.
fn number(digits: &str) -> Option<u64> {
    let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn clamp(asked: Asked, len: u64) -> Option<Range<u64>> {
    let range = match asked {
        Asked::From(from) => from..len,
        Asked::FromTo(from, to) => from..to.saturating_add(1).min(len),
        Asked::Last(last) => len.saturating_sub(last)..len,
    };
    (range.start < range.end).then_some(range)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn single_open_and_suffix_ranges() {
        assert_eq!(select("bytes=2-4", 10), Selection::Part(2..5));
        assert_eq!(select("bytes=7-", 10), Selection::Part(7..10));
        assert_eq!(select("bytes=-3", 10), Selection::Part(7..10));
    }

    #[test]
    fn range_past_end_is_clamped() {
        assert_eq!(select("bytes=8-99", 10), Selection::Part(8..10));
        assert_eq!(
            select("bytes=0-18446744073709551615", 10),
            Selection::Part(0..10)
        );
        assert_eq!(
            select("bytes=0-99999999999999999999999", 10),
            Selection::Part(0..10)
        );
    }

    #[test]
    fn suffix_longer_than_the_content_is_the_whole_content() {
        assert_eq!(select("bytes=-99", 10), Selection::Part(0..10));
    }

    #[test]
    fn range_that_starts_past_the_end_cannot_be_had() {
        assert_eq!(select("bytes=10-", 10), Selection::Unsatisfiable);
        assert_eq!(select("bytes=-0", 10), Selection::Unsatisfiable);
        assert_eq!(select("bytes=0-0", 0), Selection::Unsatisfiable);
    }

    #[test]
    fn of_several_ranges_the_first_that_is_there_is_served() {
        assert_eq!(select("bytes=1-2, 5-6", 10), Selection::Part(1..3));
        assert_eq!(select("bytes=50-60,5-6", 10), Selection::Part(5..7));
    }

    #[test]
    fn headers_that_are_not_valid_are_ignored() {
        for header in [
            "bytes",
            "bytes=",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=-",
            "lines=1-2",
            "bytes=+1-2",
        ] {
            assert_eq!(select(header, 10), Selection::Full, "{header}");
        }
        assert_eq!(
            select(&format!("bytes={}", "0-1,".repeat(65)), 10),
            Selection::Full
        );
    }

    proptest! {
        #[test]
        fn selected_range_is_inside_the_content(header in "bytes=([0-9]{0,5}-[0-9]{0,5},?){1,4}", len in 0u64..100_000) {
            if let Selection::Part(range) = select(&header, len) {
                prop_assert!(range.start < range.end && range.end <= len);
            }
        }

        #[test]
        fn explicit_range_selects_exactly_its_bytes(a in 0u64..1000, b in 0u64..1000, len in 1u64..1000) {
            let (from, to) = (a.min(b), a.max(b));
            let wanted = (from..=to).filter(|at| *at < len).collect::<Vec<_>>();
            let got = match select(&format!("bytes={from}-{to}"), len) {
                Selection::Part(range) => range.collect(),
                Selection::Unsatisfiable => Vec::new(),
                Selection::Full => return Err(TestCaseError::fail("ignored")),
            };
            prop_assert_eq!(got, wanted);
        }

        #[test]
        fn no_header_panics(header in "\\PC{0,60}", len: u64) {
            let _selection = select(&header, len);
        }
    }
}
