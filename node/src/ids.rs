//! Ids that a creator types: products, versions and channels.
//!
//! A version starts with a digit and a channel with a letter, so `p/<product>/…` never confuses
//! the two.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a word is not a valid id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{word:?} is not a valid {kind}: {rule}")]
pub struct IdError {
    /// What it should have been: `product`, `version` or `channel`.
    pub kind: &'static str,
    /// What was given.
    pub word: String,
    /// The rule, in words.
    pub rule: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal, $first:expr, $rest:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The word itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(word: &str) -> Result<Self, IdError> {
                let first: fn(u8) -> bool = $first;
                let rest: fn(u8) -> bool = $rest;
                let valid = match word.as_bytes() {
                    [head, tail @ ..] => {
                        first(*head) && tail.len() < $max && tail.iter().copied().all(rest)
                    }
                    [] => false,
                };
                if valid {
                    Ok(Self(word.to_owned()))
                } else {
                    Err(IdError { kind: $kind, word: word.to_owned(), rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(word: String) -> Result<Self, IdError> {
                word.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A product: what a creator offers. `[a-z0-9][a-z0-9-]{0,62}`.
    ProductId, "product", 63,
    |b| b.is_ascii_lowercase() || b.is_ascii_digit(),
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-',
    "use 1 to 63 of a-z, 0-9 and -, and begin with a letter or a digit"
);
id!(
    /// The label of a release. `[0-9][A-Za-z0-9.+-]{0,63}`.
    Version, "version", 64,
    |b| b.is_ascii_digit(),
    |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-'),
    "use 1 to 64 of A-Z, a-z, 0-9, ., + and -, and begin with a digit"
);
id!(
    /// A name that moves from version to version, such as `stable`. `[a-z][a-z0-9-]{0,31}`.
    Channel, "channel", 32,
    |b| b.is_ascii_lowercase(),
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-',
    "use 1 to 32 of a-z, 0-9 and -, and begin with a letter"
);

impl ProductId {
    /// The id nearest to a file name: lower case, other characters become `-`.
    ///
    /// `None` when no letter or digit is left.
    pub fn from_file_name(name: &str) -> Option<Self> {
        let mut id = String::new();
        for c in name.chars().flat_map(char::to_lowercase) {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                id.push(c);
            } else if !id.is_empty() && !id.ends_with('-') {
                id.push('-');
            }
        }
        id.truncate(63);
        id.trim_end_matches('-').parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_channels_never_collide() {
        assert!("1.2".parse::<Version>().is_ok());
        assert!("1.2".parse::<Channel>().is_err());
        assert!("stable".parse::<Channel>().is_ok());
        assert!("stable".parse::<Version>().is_err());
    }

    #[test]
    fn length_limits_are_those_of_the_format() {
        assert!("a".repeat(63).parse::<ProductId>().is_ok());
        assert!("a".repeat(64).parse::<ProductId>().is_err());
        assert!("1".repeat(64).parse::<Version>().is_ok());
        assert!("1".repeat(65).parse::<Version>().is_err());
        assert!("a".repeat(32).parse::<Channel>().is_ok());
        assert!("a".repeat(33).parse::<Channel>().is_err());
    }

    #[test]
    fn file_names_become_product_ids() {
        let id = |name| ProductId::from_file_name(name).map(String::from);
        assert_eq!(id("My Album (2026)").as_deref(), Some("my-album-2026"));
        assert_eq!(id("été"), Some("t".to_owned()));
        assert_eq!(id("…"), None);
    }
}
