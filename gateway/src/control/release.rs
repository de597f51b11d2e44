//! Which release of a product somebody means.

use cid::Cid;
use duka_node::ids::{Channel, ProductId, Version};
use duka_node::shop::json::{self, MAX_PRODUCT_LEN, ProductJson};
use duka_node::source::BlockSource;
use serde::{Deserialize, Serialize};

use super::failure::{Code, Failure};
use super::recorded::{bad_record, file_of};

/// The channel that is meant where none is named.
const USUAL_CHANNEL: &str = "stable";
/// Labels that are named in an error.
const MAX_NAMED: usize = 8;

/// A product, and which release of it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Wanted {
    /// The product.
    pub product: ProductId,
    /// Which release.
    pub label: Label,
}

/// Which release.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Label {
    /// That of the channel `stable`, or where there is none the newest one that is not yanked.
    Usual,
    /// This one.
    Version(Version),
    /// The one that the channel names.
    Channel(Channel),
}

/// A release that somebody meant.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Chosen {
    /// The product.
    pub product: ProductId,
    /// The version.
    pub version: Version,
    /// The creator does not offer it any more.
    pub is_yanked: bool,
}

impl std::str::FromStr for Wanted {
    type Err = Failure;

    /// `album`, `album@1.2` or `album:beta`.
    fn from_str(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            let message = format!("{text:?} is not the name of a product");
            Failure::new(Code::Usage, message).hint("write it like album, album@1.2 or album:beta")
        };
        let (product, label) = match (text.split_once('@'), text.split_once(':')) {
            (Some((product, version)), _) => (
                product,
                Label::Version(version.parse().map_err(|_| wrong())?),
            ),
            (None, Some((product, channel))) => (
                product,
                Label::Channel(channel.parse().map_err(|_| wrong())?),
            ),
            (None, None) => (text, Label::Usual),
        };
        let product = product.parse().map_err(|_| wrong())?;
        Ok(Self { product, label })
    }
}

/// Finds the release in the shop directory `root`.
///
/// # Errors
/// When there is no such product or release.
pub async fn choose<S: BlockSource + Clone>(
    source: &S,
    root: Cid,
    wanted: &Wanted,
) -> Result<Chosen, Failure> {
    let id = &wanted.product;
    let file = "product.json".to_owned();
    let Some(bytes) = file_of(source, root, id, file, MAX_PRODUCT_LEN).await? else {
        let message = format!("the shop has no product {id}");
        return Err(Failure::new(Code::NotFound, message).hint("check the name"));
    };
    let product = json::parse_product(&bytes).map_err(|error| bad_record(&error))?;
    if product.id != *id {
        let message = format!("the record of {id} is that of {}", product.id);
        return Err(Failure::new(Code::Corrupt, message));
    }
    let version =
        find(&product, &wanted.label).ok_or_else(|| no_release(&product, &wanted.label))?;
    let listed = product.versions.iter().find(|line| line.version == version);
    Ok(Chosen {
        product: wanted.product.clone(),
        version,
        is_yanked: listed.is_some_and(|line| line.yanked.is_some()),
    })
}

fn find(product: &ProductJson, label: &Label) -> Option<Version> {
    let newest = || {
        let offered = product.versions.iter().find(|line| line.yanked.is_none());
        offered.map(|line| line.version.clone())
    };
    match label {
        Label::Usual => {
            let usual = USUAL_CHANNEL.parse::<Channel>().ok();
            let usual = usual.and_then(|channel| product.channels.get(&channel).cloned());
            usual.or_else(newest)
        }
        Label::Version(version) => {
            let listed = product
                .versions
                .iter()
                .find(|line| line.version == *version);
            listed.map(|line| line.version.clone())
        }
        Label::Channel(channel) => product.channels.get(channel).cloned(),
    }
}

fn no_release(product: &ProductJson, label: &Label) -> Failure {
    let id = &product.id;
    let message = match label {
        Label::Usual => format!("{id} has no release that is offered"),
        Label::Version(version) => format!("{id} has no version {version}"),
        Label::Channel(channel) => format!("{id} has no channel {channel}"),
    };
    let versions = product
        .versions
        .iter()
        .map(|line| format!("@{}", line.version));
    let channels = product.channels.keys().map(|channel| format!(":{channel}"));
    let labels: Vec<String> = channels.chain(versions).take(MAX_NAMED).collect();
    let failure = Failure::new(Code::NotFound, message);
    if labels.is_empty() {
        return failure;
    }
    failure.hint(format!("it has {}", labels.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_written_with_a_version_a_channel_or_nothing() {
        let label = |text: &str| text.parse::<Wanted>().map(|wanted| wanted.label);
        assert_eq!(label("album").unwrap(), Label::Usual);
        let version = Label::Version("1.2+b".parse().unwrap());
        assert_eq!(label("album@1.2+b").unwrap(), version);
        let channel = Label::Channel("beta".parse().unwrap());
        assert_eq!(label("album:beta").unwrap(), channel);
        for wrong in ["", "Album", "album@beta", "album:1.2", "album@", "a b"] {
            assert!(label(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_usual_release_is_stable_or_the_newest_that_is_not_yanked() {
        let line = |version: &str, yanked: bool| json::VersionJson {
            issued: jiff::Timestamp::UNIX_EPOCH,
            version: version.parse().unwrap(),
            yanked: yanked.then_some(jiff::Timestamp::UNIX_EPOCH),
        };
        let mut product = ProductJson {
            channels: std::collections::BTreeMap::new(),
            cover: None,
            created: jiff::Timestamp::UNIX_EPOCH,
            description: None,
            description_path: None,
            format: json::FORMAT,
            id: "album".parse().unwrap(),
            price: None,
            title: String::new(),
            versions: vec![line("3", true), line("2", false), line("1", false)],
        };
        let usual = |product: &ProductJson| find(product, &Label::Usual).unwrap().to_string();
        assert_eq!(usual(&product), "2");
        let stable = ("stable".parse().unwrap(), "1".parse().unwrap());
        product.channels.extend([stable]);
        assert_eq!(usual(&product), "1");
    }
}
