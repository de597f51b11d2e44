//! Keys: which are here, and what the shop's name needs.

use std::time::Duration;

use duka_node::ipns;
use duka_node::keyring::{self, Owner};
use duka_node::keys::{self, Kind, Name, name_of};
use duka_node::node::{Node, keys_dir};
use duka_node::shop::follow;
use jiff::Timestamp;

use crate::control::event::{Item, Outcome};
use crate::control::failure::{Code, Failure};
use crate::control::sink::EventSink;

pub(super) async fn list(node: &Node, sink: &EventSink) -> Result<Outcome, Failure> {
    let keys = node.keys();
    let peer = keys.peer.public().to_peer_id().to_string();
    let shop = keys.shop.name();
    let (publishing, is_lost) = match keys.publishing.key() {
        Ok(key) => (Some(name_of(key)), false),
        Err(lost) => {
            let hint = "`duka key rotate` makes a new one";
            sink.warn(format!("{lost}: {hint}")).await;
            (published_by(node, &shop)?, true)
        }
    };
    let all = [
        (Kind::Shop, Some(shop), keys.shop.key().is_some()),
        (Kind::Publishing, publishing, !is_lost),
        (Kind::Peer, Some(name_of(&keys.peer)), true),
    ];
    let mut count = 0;
    for (kind, name, here) in all {
        let Some(name) = name else {
            continue;
        };
        count += 1;
        let record = newest_record(node, &name)?;
        let file = keys::file(&keys_dir(node.data_dir()), kind);
        sink.item(Item::Key {
            key: kind.name().to_owned(),
            name: match kind {
                Kind::Peer => peer.clone(),
                _ => name.to_string(),
            },
            here,
            file: here.then(|| file.display().to_string()),
            leads_to: record.as_ref().map(|record| record.value.clone()),
            valid_until: record.map(|record| format!("{:.0}", record.validity)),
        })
        .await;
    }
    Ok(Outcome::List { count })
}

/// The publishing key that was lost, if the shop's record still says which one that was.
fn published_by(node: &Node, shop: &Name) -> Result<Option<Name>, Failure> {
    let record = newest_record(node, shop)?;
    Ok(record.and_then(|record| {
        let leads_to = follow::publishing_key(shop, &record.bytes, Timestamp::now());
        leads_to.ok().map(|(_, publishing)| publishing)
    }))
}

fn newest_record(node: &Node, name: &Name) -> Result<Option<ipns::Record>, Failure> {
    let record = node.manifest().name(&name.to_bytes())?;
    Ok(record.and_then(|record| ipns::verify(name, &record.bytes, Timestamp::now()).ok()))
}

pub(super) fn check(
    node: &Node,
    shop: Option<String>,
    publishing: Option<String>,
) -> Result<Outcome, Failure> {
    let owner = Owner {
        shop: shop.as_deref().map(name_from).transpose()?,
        publishing: publishing.as_deref().map(name_from).transpose()?,
    };
    keyring::check(node, &owner)?;
    Ok(Outcome::KeyCheck)
}

fn name_from(text: &str) -> Result<Name, Failure> {
    text.parse()
        .map_err(|_| Failure::new(Code::Usage, format!("{text:?} is not the name of a key")))
}

pub(super) async fn reload(node: &Node) -> Result<Outcome, Failure> {
    keyring::reload(node).await?;
    Ok(Outcome::KeyReload)
}

pub(super) async fn take_offline(node: &Node, expiry_seconds: u64) -> Result<Outcome, Failure> {
    let expiry = Duration::from_secs(expiry_seconds);
    let valid_until = keyring::take_offline(node, expiry).await?;
    Ok(Outcome::KeyOffline {
        name: node.shop_name().to_string(),
        valid_until: format!("{valid_until:.0}"),
    })
}

pub(super) async fn rotate(node: &Node) -> Result<Outcome, Failure> {
    let publishing = keyring::rotate(node).await?;
    Ok(Outcome::KeyRotate {
        name: node.shop_name().to_string(),
        publishing: publishing.to_string(),
    })
}
