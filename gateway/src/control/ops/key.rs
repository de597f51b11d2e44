//! Keys: which are here, and what the shop's name needs.

use std::time::Duration;

use duka_node::ipns;
use duka_node::keyring;
use duka_node::keys::{self, Kind, Name, name_of};
use duka_node::node::{Node, keys_dir};
use jiff::Timestamp;

use crate::control::event::{Item, Outcome};
use crate::control::failure::Failure;
use crate::control::sink::EventSink;

pub(super) async fn list(node: &Node, sink: &EventSink) -> Result<Outcome, Failure> {
    let keys = node.keys();
    let peer = keys.peer.public().to_peer_id().to_string();
    let all = [
        (Kind::Shop, keys.shop.name(), keys.shop.key().is_some()),
        (Kind::Publishing, name_of(&keys.publishing), true),
        (Kind::Peer, name_of(&keys.peer), true),
    ];
    for (kind, name, here) in all {
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
    Ok(Outcome::List { count: 3 })
}

fn newest_record(node: &Node, name: &Name) -> Result<Option<ipns::Record>, Failure> {
    let record = node.manifest().name(&name.to_bytes())?;
    Ok(record.and_then(|record| ipns::verify(name, &record.bytes, Timestamp::now()).ok()))
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
