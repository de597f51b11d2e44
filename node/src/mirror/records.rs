//! The records of a shop, as peers and gateways show them.

use jiff::Timestamp;
use url::Url;

use crate::ipns::{self, Record, RecordError};
use crate::keys::Name;
use crate::manifest::ManifestError;
use crate::net::NetError;
use crate::node::Node;
use crate::shop::follow::{self, FollowError, Followed, Step};
use crate::source::BlockSource;
use crate::source::trustless::{Listen, TrustlessSource};

/// A valid record, and who showed it.
#[derive(Clone, Debug)]
pub(super) struct Offered {
    pub(super) name: Name,
    pub(super) record: Record,
    pub(super) from: String,
}

/// Where what was known before comes from.
const HERE: &str = "here";

impl Offered {
    /// Nobody else showed it.
    pub(super) fn is_from_here(&self) -> bool {
        self.from == HERE
    }
}

/// What was shown of one shop.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Of the shop's key, newest first.
    shop: Vec<Offered>,
    /// Of the publishing key that the newest of these leads to, newest first.
    heads: Vec<Offered>,
    /// Records that are not valid: who showed them, and what is wrong.
    invalid: Vec<(String, RecordError)>,
    tried: Vec<String>,
}

impl Shown {
    /// Puts records in order: newest first, each once. What is known of the shop's key counts as shown.
    pub(super) fn of(shop: &Name, known: Option<&Followed>, offered: Vec<Offered>) -> Self {
        let mut shown = Self::default();
        let now = Timestamp::now();
        if let Some(known) = known {
            shown.shop.extend(kept(shop, &known.shop_record, now));
        }
        let (of_shop, heads): (Vec<_>, Vec<_>) = offered
            .into_iter()
            .partition(|offered| offered.name == *shop);
        shown.shop.extend(of_shop);
        newest_first(&mut shown.shop);
        let publishing = shown.publishing();
        shown.heads = heads;
        shown
            .heads
            .retain(|offered| Some(&offered.name) == publishing.as_ref());
        // The shop's key may say more about a head that is known.
        if let (Some(known), Some(publishing)) = (known, publishing)
            && publishing.to_bytes() == known.publishing
            && shown.heads.is_empty()
        {
            shown
                .heads
                .extend(kept(&publishing, &known.head_record, now));
        }
        newest_first(&mut shown.heads);
        shown
    }

    /// The publishing key, by the newest record of the shop's key.
    pub(super) fn publishing(&self) -> Option<Name> {
        let newest = self.shop.first()?;
        follow::publishing_key(&newest.name, &newest.record.bytes, Timestamp::now())
            .ok()
            .map(|(_, publishing)| publishing)
    }

    /// The newest record of the shop's key.
    pub(super) fn shop_record(&self) -> Option<&Record> {
        self.shop.first().map(|newest| &newest.record)
    }

    /// Records of heads, newest first.
    pub(super) fn heads(&self) -> impl Iterator<Item = &Offered> {
        self.heads.iter()
    }

    /// Records that are not valid: who showed them, and what is wrong.
    pub(super) fn invalid(&self) -> &[(String, RecordError)] {
        &self.invalid
    }

    /// Who was asked, in words.
    pub(super) fn tried(&self) -> String {
        match self.tried.is_empty() {
            true => "there was nobody to ask".to_owned(),
            false => format!("asked: {}", self.tried.join(", ")),
        }
    }
}

fn kept(name: &Name, bytes: &[u8], now: Timestamp) -> Option<Offered> {
    Some(Offered {
        name: name.clone(),
        record: ipns::verify(name, bytes, now).ok()?,
        from: HERE.to_owned(),
    })
}

fn newest_first(records: &mut Vec<Offered>) {
    records.sort_by(|a, b| {
        let rank = |offered: &Offered| (offered.record.sequence, offered.record.validity);
        rank(b)
            .cmp(&rank(a))
            .then_with(|| b.record.bytes.cmp(&a.record.bytes))
    });
    records.dedup_by(|a, b| a.record.bytes == b.record.bytes);
}

/// Asks peers, gateways and the DHT for the records of a shop.
pub(super) async fn ask(
    node: &Node,
    shop: &Name,
    known: Option<&Followed>,
    gateways: &[Url],
) -> Result<Shown, ManifestError> {
    let mut invalid = Vec::new();
    let mut offered = ask_for(node, shop, gateways, &mut invalid).await;
    let publishing = Shown::of(shop, known, offered.clone()).publishing();
    if let Some(publishing) = publishing {
        offered.extend(ask_for(node, &publishing, gateways, &mut invalid).await);
    }
    let mut shown = Shown::of(shop, known, offered);
    shown.invalid = invalid;
    shown.tried = gateways.iter().map(Url::to_string).collect();
    if node.network().is_some() {
        shown.tried.push("peers and the DHT".to_owned());
    }
    Ok(shown)
}

async fn ask_for(
    node: &Node,
    name: &Name,
    gateways: &[Url],
    invalid: &mut Vec<(String, RecordError)>,
) -> Vec<Offered> {
    let now = Timestamp::now();
    let from_peers = async {
        let found = node.network()?.ask_all_subscribers(name).await;
        found.ok().flatten()
    };
    let from_dht = async { from_dht(node.network()?.get_record(name).await) };
    let from_gateways = from_gateways(node, name, gateways);
    let (from_peers, from_dht, from_gateways) = tokio::join!(from_peers, from_dht, from_gateways);
    let of = |record, from: &str| Offered {
        name: name.clone(),
        record,
        from: from.to_owned(),
    };
    let mut all: Vec<Offered> = from_peers
        .map(|record| of(record, "peers"))
        .into_iter()
        .chain(from_dht.map(|record| of(record, "the DHT")))
        .collect();
    for (bytes, from) in from_gateways {
        match ipns::verify(name, &bytes, now) {
            Ok(record) => all.push(of(record, &from)),
            Err(error) => invalid.push((from, error)),
        }
    }
    all
}

fn from_dht(answer: Result<Option<Record>, NetError>) -> Option<Record> {
    answer
        .inspect_err(|error| tracing::debug!(%error, "the DHT was not asked"))
        .ok()
        .flatten()
}

/// Each gateway is asked by itself, so that it is known who shows what.
async fn from_gateways(node: &Node, name: &Name, gateways: &[Url]) -> Vec<(Vec<u8>, String)> {
    let timeout = node.config().network.limits.block_timeout;
    let asked = gateways.iter().map(|url| async move {
        let gateway = TrustlessSource::new(vec![url.clone()], timeout);
        let found = gateway.ipns_record(name, Listen::ToAll).await.found;
        let from = url.to_string();
        found
            .into_iter()
            .map(move |record| (record.clone(), from.clone()))
    });
    let answers = futures::future::join_all(asked).await;
    answers.into_iter().flatten().collect()
}

/// Checks a head that was shown.
pub(super) async fn check<S: BlockSource + Clone>(
    source: &S,
    shop: &Name,
    known: Option<&Followed>,
    shown: &Shown,
    offered: &Offered,
) -> Result<Step, FollowError> {
    let shop_record = shown.shop_record().map(|record| record.bytes.clone());
    let now = Timestamp::now();
    follow::follow(
        source,
        shop,
        known,
        &shop_record.unwrap_or_default(),
        &offered.record.bytes,
        now,
    )
    .await
}
