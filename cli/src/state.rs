//! What a buyer remembers: names for shops, of each shop the newest head and where it was had, and how
//! gateways did. In the state directory; needs no data directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use duka_gateway::control::failure::Code;
use duka_node::keys::Name;
use duka_node::shop::follow::Followed;
use duka_node::source::trustless::{Memory, Seen};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::CliError;

/// Format of the files.
const FORMAT: u64 = 1;
/// Longest file that is read.
const MAX_LEN: u64 = 1 << 20;

/// The state directory.
#[derive(Clone, Debug)]
pub(crate) struct State {
    dir: PathBuf,
}

/// A shop as its buyer knows it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub(crate) struct KnownShop {
    /// Its newest head.
    pub(crate) followed: Followed,
    /// Its title.
    pub(crate) title: String,
    /// Gateways that the head names.
    pub(crate) gateways: Vec<String>,
    /// Gateways that the buyer gave.
    pub(crate) given: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Stored<T> {
    format: u64,
    #[serde(flatten)]
    content: T,
}

#[derive(Default, Serialize, Deserialize)]
struct Aliases {
    aliases: BTreeMap<String, String>,
}

#[derive(Default, Serialize, Deserialize)]
struct Gateways {
    gateways: BTreeMap<String, Seen>,
}

impl State {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// All names for shops.
    pub(crate) fn aliases(&self) -> Result<BTreeMap<String, String>, CliError> {
        let stored: Option<Aliases> = read(&self.aliases_file())?;
        Ok(stored.unwrap_or_default().aliases)
    }

    /// The shop that goes by this name here.
    pub(crate) fn alias(&self, alias: &str) -> Result<Option<Name>, CliError> {
        let aliases = self.aliases()?;
        let Some(name) = aliases.get(alias) else {
            return Ok(None);
        };
        let name = name.parse().map_err(|_| damaged(&self.aliases_file()))?;
        Ok(Some(name))
    }

    /// Gives a shop a name. The one that had it before.
    pub(crate) fn set_alias(&self, alias: &str, shop: &Name) -> Result<Option<String>, CliError> {
        let _lock = self.lock()?;
        let mut aliases = self.aliases()?;
        let before = aliases.insert(alias.to_owned(), shop.to_string());
        write(&self.aliases_file(), Aliases { aliases })?;
        Ok(before)
    }

    /// Removes a name. The shop that had it.
    pub(crate) fn remove_alias(&self, alias: &str) -> Result<Option<String>, CliError> {
        let _lock = self.lock()?;
        let mut aliases = self.aliases()?;
        let before = aliases.remove(alias);
        if before.is_some() {
            write(&self.aliases_file(), Aliases { aliases })?;
        }
        Ok(before)
    }

    /// What is known of a shop.
    pub(crate) fn shop(&self, name: &Name) -> Result<Option<KnownShop>, CliError> {
        read(&self.shop_file(name))
    }

    /// Remembers what is known of a shop, unless another process has remembered a newer head since.
    pub(crate) fn remember(&self, name: &Name, known: KnownShop) -> Result<(), CliError> {
        let _lock = self.lock()?;
        let age = |known: &KnownShop| {
            let followed = &known.followed;
            (
                followed.shop_sequence,
                followed.seq,
                followed.shop_validity,
                followed.validity,
            )
        };
        match self.shop(name)? {
            Some(newer) if age(&newer) > age(&known) => Ok(()),
            Some(same) if same == known => Ok(()),
            _ => write(&self.shop_file(name), known),
        }
    }

    /// The names that a shop has here.
    pub(crate) fn aliases_of(&self, shop: &Name) -> Result<Vec<String>, CliError> {
        let shop = shop.to_string();
        let aliases = self.aliases()?.into_iter();
        let aliases = aliases.filter(|(_, named)| *named == shop);
        Ok(aliases.map(|(alias, _)| alias).collect())
    }

    /// Forgets a shop and its names.
    pub(crate) fn forget_shop(&self, shop: &Name) -> Result<(), CliError> {
        let _lock = self.lock()?;
        let mut aliases = self.aliases()?;
        let before = aliases.len();
        aliases.retain(|_, named| *named != shop.to_string());
        if aliases.len() != before {
            write(&self.aliases_file(), Aliases { aliases })?;
        }
        let file = self.shop_file(shop);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&file, &error)),
            _ => Ok(()),
        }
    }

    /// How gateways did lately. It decides whom to ask first and nothing else, so a file that cannot be
    /// read is like none.
    pub(crate) fn gateways(&self) -> Memory {
        let stored: Option<Gateways> = read(&self.gateways_file()).unwrap_or_else(|error| {
            tracing::debug!(?error, "how gateways did is not known");
            None
        });
        Memory::new(stored.unwrap_or_default().gateways, Timestamp::now())
    }

    /// Remembers how gateways did, and what other processes stored of others since.
    pub(crate) fn remember_gateways(&self, memory: &Memory) -> Result<(), CliError> {
        let mut gateways = memory.seen();
        let _lock = self.lock()?;
        for (origin, other) in self.gateways().seen() {
            match gateways.get(&origin) {
                Some(own) if own.at >= other.at => {}
                _ => drop(gateways.insert(origin, other)),
            }
        }
        let gateways = Memory::new(gateways, Timestamp::now()).seen();
        write(&self.gateways_file(), Gateways { gateways })
    }

    fn gateways_file(&self) -> PathBuf {
        self.dir.join("gateways.json")
    }

    fn aliases_file(&self) -> PathBuf {
        self.dir.join("aliases.json")
    }

    fn shop_file(&self, name: &Name) -> PathBuf {
        self.dir.join("shops").join(format!("{name}.json"))
    }

    /// One process at a time writes.
    fn lock(&self) -> Result<File, CliError> {
        let path = self.dir.join("lock");
        let lock = || {
            fs::create_dir_all(self.dir.join("shops"))?;
            let file = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|error| failed(&path, &error))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CliError> {
    let is_absent = |kind| matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let len = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if is_absent(error.kind()) => return Ok(None),
        Err(error) => return Err(failed(path, &error)),
    };
    if len > MAX_LEN {
        return Err(damaged(path));
    }
    let bytes = fs::read(path).map_err(|error| failed(path, &error))?;
    match serde_json::from_slice::<Stored<T>>(&bytes) {
        Ok(stored) if stored.format == FORMAT => Ok(Some(stored.content)),
        Ok(stored) if stored.format > FORMAT => {
            let message = format!("{} was written by a newer duka", path.display());
            Err(CliError::new(Code::Permanent, message).hint("use the newer duka"))
        }
        _ => Err(damaged(path)),
    }
}

/// Replaces a file, so that it is whole at any time.
fn write<T: Serialize>(path: &Path, content: T) -> Result<(), CliError> {
    let dir = path.parent().unwrap_or(path);
    let stored = Stored {
        format: FORMAT,
        content,
    };
    let replace = || {
        let mut new = tempfile::NamedTempFile::new_in(dir)?;
        serde_json::to_writer(&mut new, &stored)?;
        new.flush()?;
        new.as_file().sync_all()?;
        new.persist(path)?;
        File::open(dir)?.sync_all()
    };
    replace().map_err(|error: io::Error| failed(path, &error))
}

fn failed(path: &Path, error: &io::Error) -> CliError {
    CliError::io(&format!("{} cannot be used", path.display()), error)
}

fn damaged(path: &Path) -> CliError {
    let message = format!("{} is damaged", path.display());
    CliError::new(Code::Corrupt, message).hint(
        "remove it: what it says is then learnt anew, and an old copy of a shop is not noticed until then",
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn name() -> Name {
        "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8"
            .parse()
            .unwrap()
    }

    fn known(seq: u64) -> KnownShop {
        let cid = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
        KnownShop {
            followed: Followed {
                shop_record: vec![1, 2],
                shop_sequence: 1,
                shop_validity: jiff::Timestamp::MAX,
                publishing: vec![3],
                head_record: vec![4],
                validity: jiff::Timestamp::MAX,
                seq,
                root: cid.parse().unwrap(),
                shop_json: cid.parse().unwrap(),
                issued: jiff::Timestamp::UNIX_EPOCH,
                lifetime: 1,
                refresh: 1,
            },
            title: "Songs".to_owned(),
            gateways: Vec::new(),
            given: Vec::new(),
        }
    }

    #[test]
    fn an_older_head_never_replaces_a_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::new(dir.path().join("duka"));
        assert_eq!(state.shop(&name()).unwrap(), None);
        for (seq, kept) in [(2, 2), (1, 2), (3, 3)] {
            state.remember(&name(), known(seq)).unwrap();
            assert_eq!(state.shop(&name()).unwrap(), Some(known(kept)));
        }
    }

    #[test]
    fn how_gateways_did_is_kept_of_all_processes_and_never_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::new(dir.path().to_owned());
        let now = Timestamp::now();
        let seen = |failures, seconds| Seen {
            at: now - Duration::from_secs(seconds),
            usual_ms: None,
            failures,
        };
        let memory = |seen: &[(&str, Seen)]| {
            let seen = seen
                .iter()
                .map(|(of, seen)| ((*of).to_owned(), seen.clone()));
            Memory::new(seen.collect(), now)
        };
        state
            .remember_gateways(&memory(&[("a", seen(1, 9)), ("b", seen(1, 5))]))
            .unwrap();
        state
            .remember_gateways(&memory(&[("b", seen(2, 7)), ("c", seen(2, 7))]))
            .unwrap();
        let kept = state.gateways().seen();
        let kept: Vec<_> = kept
            .iter()
            .map(|(of, seen)| (of.as_str(), seen.failures))
            .collect();
        assert_eq!(kept, [("a", 1), ("b", 1), ("c", 2)]);
        fs::write(state.gateways_file(), "{").unwrap();
        assert!(state.gateways().seen().is_empty());
        state
            .remember_gateways(&memory(&[("a", seen(3, 1))]))
            .unwrap();
        assert_eq!(state.gateways().seen().len(), 1);
    }

    #[test]
    fn a_damaged_file_is_told_and_not_taken_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::new(dir.path().to_owned());
        state.set_alias("songs", &name()).unwrap();
        assert_eq!(state.alias("songs").unwrap(), Some(name()));
        for bytes in ["{", "{\"format\":2,\"aliases\":{}}", "{\"format\":1}"] {
            fs::write(dir.path().join("aliases.json"), bytes).unwrap();
            assert!(state.alias("songs").is_err(), "{bytes}");
        }
    }
}
