//! Merges the four layers: default, file, environment, flags. With `cli`, the only reader of the
//! environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use figment::providers::Serialized;
use figment::value::{Dict, Map};
use figment::{Figment, Metadata, Profile, Provider};
use toml::{Table, Value};

use crate::origin::{self, Explained, Origin};
use crate::sections::Config;

/// The shipped defaults: every key, with its meaning.
const DEFAULT: &str = include_str!("default.toml");

/// Keys whose values are tables with names that the user chooses.
const TABLES: [&str; 2] = ["gateway.dnslink", "gateway.hosts"];

/// Variables of that prefix that are no settings: they choose the directory and the file.
const RESERVED: [&str; 2] = ["DUKA_DATA_DIR", "DUKA_CONFIG"];

/// A copy of the process environment, read once at start.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// Copies the environment of this process. Names that are not UTF-8 are none of ours.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
        )
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&OsString> {
        self.0.get(name).filter(|value| !value.is_empty())
    }

    /// A variable that holds an absolute path.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Environment {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(vars: I) -> Self {
        Self(
            vars.into_iter()
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect(),
        )
    }
}

/// A setting given on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag as it is typed, such as `--offline`.
    pub flag: &'static str,
    /// The key it sets, such as `network.offline`.
    pub key: &'static str,
    /// The value.
    pub value: Value,
}

/// Why settings could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The settings file could not be read.
    #[error("cannot read the settings file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The settings file is not TOML.
    #[error("{} is not valid TOML: line {line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// There is no setting of this name to look up.
    #[error("{key:?} is not a setting{}", suggest(nearest.as_deref()))]
    NoSuchKey {
        /// The key.
        key: String,
        /// The valid key that is most like it.
        nearest: Option<String>,
    },
    /// A value is given for a key that is not there.
    #[error("{origin} sets {key:?}, which is not a setting{}", suggest(nearest.as_deref()))]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The valid key that is most like it.
        nearest: Option<String>,
    },
    /// A value is not of the key's kind.
    #[error("{origin} sets {key:?} to a value that is not valid: {reason}")]
    Value {
        /// The key.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
}

fn suggest(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; did you mean {key:?}?"))
}

/// Settings with the origin of each value.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Variables that look like settings and are none, each a sentence.
    pub warnings: Vec<String>,
    layers: Vec<Layer>,
}

/// Merges the layers. `file` is read when it is given; whether it must exist is for the caller.
///
/// # Errors
/// [`ConfigError`], one sentence that names the key and where it stands.
pub fn load(file: Option<&Path>, env: &Environment, flags: &[Flag]) -> Result<Loaded, ConfigError> {
    let defaults = defaults();
    let mut layers = vec![Layer::new(Origin::Default, defaults.clone())];
    if let Some(path) = file {
        layers.push(file_layer(path, &defaults)?);
    }
    let (env_layers, warnings) = env_layers(env, &defaults)?;
    layers.extend(env_layers);
    for flag in flags {
        let table = nested(flag.key, flag.value.clone());
        layers.push(Layer::new(Origin::Flag(flag.flag.to_owned()), table));
    }
    let merged = layers.iter().fold(Figment::new(), Figment::merge);
    let mut config: Config = merged.extract().map_err(|e| value_error(&e, &layers))?;
    let chosen = |layer: &Layer| layer.get("network.listen").is_some();
    config.network.listen_is_chosen = layers[1..].iter().any(chosen);
    Ok(Loaded {
        config,
        warnings,
        layers,
    })
}

impl Default for Config {
    /// The shipped defaults: no file, environment or flag is read.
    fn default() -> Self {
        let layer = Layer::new(Origin::Default, defaults());
        let config = Figment::from(layer).extract();
        config.expect("default.toml has every key, as a test checks")
    }
}

impl Loaded {
    /// Every key, in the order of `default.toml`.
    pub fn keys(&self) -> Vec<String> {
        keys(&self.layers[0].table)
    }

    /// The values in use, as they were written.
    pub fn effective(&self) -> Table {
        let mut effective = Table::new();
        for layer in &self.layers {
            overlay(&mut effective, &layer.table);
        }
        effective
    }

    /// What a key means, its value and where that came from.
    ///
    /// # Errors
    /// [`ConfigError::NoSuchKey`] when there is no such key.
    pub fn explain(&self, key: &str) -> Result<Explained, ConfigError> {
        let unknown = || ConfigError::NoSuchKey {
            key: key.to_owned(),
            nearest: nearest(key, &self.keys()),
        };
        if !self.keys().iter().any(|known| known == key) {
            return Err(unknown());
        }
        let default = self.layers.first().and_then(|layer| layer.get(key));
        let default = default.ok_or_else(unknown)?;
        let effective = self.effective();
        let value = get(&effective, key.split('.')).ok_or_else(unknown)?;
        let last = self
            .layers
            .iter()
            .rev()
            .find(|layer| layer.get(key).is_some());
        let origin = &last.ok_or_else(unknown)?.origin;
        Ok(Explained {
            key: key.to_owned(),
            meaning: origin::meaning(DEFAULT, key),
            value: value.clone(),
            origin: origin.clone(),
            default: default.clone(),
            variable: variable_of(key),
        })
    }
}

/// Values of one origin.
#[derive(Clone, Debug)]
struct Layer {
    origin: Origin,
    table: Table,
}

impl Layer {
    fn new(origin: Origin, table: Table) -> Self {
        Self { origin, table }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        get(&self.table, key.split('.'))
    }
}

fn get<'t, 'p>(table: &'t Table, mut parts: impl Iterator<Item = &'p str>) -> Option<&'t Value> {
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Serialized::defaults(&self.table).data()
    }
}

fn defaults() -> Table {
    DEFAULT
        .parse()
        .expect("default.toml is TOML, as a test checks")
}

fn file_layer(path: &Path, defaults: &Table) -> Result<Layer, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let table: Table = text.parse().map_err(|e: toml::de::Error| {
        let before = e.span().and_then(|span| text.get(..span.start));
        ConfigError::Syntax {
            path: path.to_owned(),
            line: before.map_or(1, |text| text.matches('\n').count() + 1),
            reason: e.message().to_owned(),
        }
    })?;
    let known = keys(defaults);
    let layer = Layer::new(Origin::File(path.to_owned()), table);
    match keys(&layer.table).into_iter().find(|k| !known.contains(k)) {
        Some(key) => Err(ConfigError::UnknownKey {
            nearest: nearest(&key, &known),
            key,
            origin: layer.origin,
        }),
        None => Ok(layer),
    }
}

fn env_layers(
    env: &Environment,
    defaults: &Table,
) -> Result<(Vec<Layer>, Vec<String>), ConfigError> {
    let default = Layer::new(Origin::Default, defaults.clone());
    let mut layers = Vec::new();
    let known = keys(defaults);
    for key in &known {
        let variable = variable_of(key);
        let Some(text) = env.get(&variable) else {
            continue;
        };
        let kind = default.get(key).expect("the key is one of the defaults");
        let origin = Origin::Env(variable);
        let value = text
            .to_str()
            .ok_or_else(|| "it is not UTF-8".to_owned())
            .and_then(|text| typed(text, kind))
            .map_err(|reason| ConfigError::Value {
                key: key.clone(),
                origin: origin.clone(),
                reason,
            })?;
        layers.push(Layer::new(origin, nested(key, value)));
    }
    let variables: Vec<String> = known.iter().map(|key| variable_of(key)).collect();
    let warnings = env
        .0
        .keys()
        .filter(|name| name.starts_with("DUKA_"))
        .filter(|name| !variables.contains(name) && !RESERVED.contains(&name.as_str()))
        .map(|name| {
            let nearest = nearest(name, &variables);
            format!(
                "the environment variable {name} is not a setting{}",
                suggest(nearest.as_deref())
            )
        })
        .collect();
    Ok((layers, warnings))
}

/// `text` as a value of the same kind as `kind`; lists are separated by commas.
fn typed(text: &str, kind: &Value) -> Result<Value, String> {
    let wrong = |what: &str| format!("{text:?} is not {what}");
    match kind {
        Value::Boolean(_) => text
            .parse()
            .map(Value::Boolean)
            .map_err(|_| wrong("true or false")),
        Value::Integer(_) => text
            .parse()
            .map(Value::Integer)
            .map_err(|_| wrong("a whole number")),
        Value::Array(_) => Ok(text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(Value::from)
            .collect::<Vec<_>>()
            .into()),
        Value::Table(_) => {
            let line: Result<Table, _> = format!("value = {text}").parse();
            line.ok()
                .and_then(|mut line| line.remove("value"))
                .filter(Value::is_table)
                .ok_or_else(|| wrong("a table such as { \"name\" = \"value\" }"))
        }
        _ => Ok(Value::from(text)),
    }
}

/// The environment variable of a key.
fn variable_of(key: &str) -> String {
    format!("DUKA_{}", key.to_uppercase().replace('.', "_"))
}

/// `{a: {b: value}}` for `a.b`.
fn nested(key: &str, value: Value) -> Table {
    let (head, value) = match key.split_once('.') {
        Some((head, rest)) => (head, Value::Table(nested(rest, value))),
        None => (key, value),
    };
    Table::from_iter([(head.to_owned(), value)])
}

/// The keys of all values, parts joined by dots. The names in [`TABLES`] are no keys.
fn keys(table: &Table) -> Vec<String> {
    keys_below("", table)
}

fn keys_below(prefix: &str, table: &Table) -> Vec<String> {
    let key = |(name, value): (&String, &Value)| {
        let key = format!("{prefix}{name}");
        match value {
            Value::Table(inner) if !TABLES.contains(&key.as_str()) => {
                keys_below(&format!("{key}."), inner)
            }
            _ => vec![key],
        }
    };
    table.iter().flat_map(key).collect()
}

fn overlay(base: &mut Table, over: &Table) {
    for (name, value) in over {
        match (base.get_mut(name), value) {
            (Some(Value::Table(base)), Value::Table(over)) => overlay(base, over),
            _ => {
                base.insert(name.clone(), value.clone());
            }
        }
    }
}

/// The candidate with the least edit distance, when it is near enough to be a slip.
fn nearest(word: &str, candidates: &[String]) -> Option<String> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    candidates
        .iter()
        .map(|candidate| {
            // A key in the wrong section is as near as one with a slip in its name.
            let distance = if last(candidate) == last(word) {
                1
            } else {
                distance(word, candidate)
            };
            (distance, candidate)
        })
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len() / 3)
        .map(|(_, candidate)| candidate.clone())
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn value_error(error: &figment::Error, layers: &[Layer]) -> ConfigError {
    // An item of a list is no key.
    let is_key = |part: &&str| part.parse::<usize>().is_err();
    let path = || error.path.iter().map(String::as_str).take_while(is_key);
    let sets = |layer: &&Layer| get(&layer.table, path()).is_some();
    let origin = layers.iter().rev().find(sets);
    let key = error.path.join(".");
    ConfigError::Value {
        origin: origin.map_or(Origin::Default, |layer| layer.origin.clone()),
        key,
        reason: error.kind.to_string(),
    }
}

#[cfg(test)]
mod tests;
