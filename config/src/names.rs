//! Tables whose keys are names of hosts: one that no request can have is a mistake in the settings.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Longest name that the DNS has.
const MAX_NAME_LEN: usize = 253;
/// Longest part of one between two dots.
const MAX_LABEL_LEN: usize = 63;

/// `gateway.hosts`: names and addresses, with a port or not, and `*.` for any one label.
pub(crate) fn hosts<'de, T, D>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    table(
        deserializer,
        is_host,
        "\"gateway.example\", \"*.gateway.example\" or \"gateway.example:8080\"",
    )
}

/// `gateway.dnslink`: domains.
pub(crate) fn domains<'de, T, D>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    table(deserializer, is_name, "\"shop.example\"")
}

fn table<'de, T, D>(
    deserializer: D,
    is_valid: fn(&str) -> bool,
    example: &str,
) -> Result<BTreeMap<String, T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let table = BTreeMap::<String, T>::deserialize(deserializer)?;
    match table.keys().find(|name| !is_valid(name)) {
        Some(name) => Err(D::Error::custom(format!(
            "{name:?} is no name that a host can have: write one like {example}"
        ))),
        None => Ok(table),
    }
}

fn is_host(text: &str) -> bool {
    let text = text.strip_prefix("*.").unwrap_or(text);
    match text.split_once(':') {
        Some((name, port)) => is_name(name) && port.parse::<u16>().is_ok(),
        None => is_name(text),
    }
}

fn is_name(text: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label =
        |label: &str| (1..=MAX_LABEL_LEN).contains(&label.len()) && label.bytes().all(is_name_byte);
    text.len() <= MAX_NAME_LEN && text.split('.').all(is_label)
}
