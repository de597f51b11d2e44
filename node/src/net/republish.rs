//! Keeps the own names, and those of mirrored shops, in the DHT: peers drop records after a while, and peers come and go.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{NetError, Network};
use crate::ipns;
use crate::keys::Name;
use crate::manifest::Manifest;
use crate::mirror;

/// First pause after a record that nobody took; doubles up to the usual one.
const RETRY: Duration = Duration::from_secs(15);

/// Puts the newest stored record of each name, and of those of mirrored shops, into the DHT, each `interval` until `stop`. Records
/// that have expired are left out: whoever has the key must sign a new one.
///
/// # Cancel safety
/// Nothing is kept between rounds.
pub async fn run(
    network: Network,
    manifest: Manifest,
    names: impl Fn() -> Vec<Name>,
    interval: Duration,
    stop: CancellationToken,
) {
    let rounds = async {
        let mut retry = RETRY;
        loop {
            let mut all = names();
            match mirror::names(&manifest) {
                Ok(mirrored) => all.extend(mirrored),
                Err(error) => {
                    tracing::warn!(%error, "the names of mirrored shops are not put again");
                }
            }
            match round(&network, &manifest, &all).await {
                Ok(true) => {
                    retry = RETRY;
                    tokio::time::sleep(interval).await;
                }
                Ok(false) => {
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(interval);
                }
                Err(error) => {
                    tracing::debug!(%error, "names are no longer put again");
                    return;
                }
            }
        }
    };
    stop.run_until_cancelled(rounds).await;
}

/// Returns whether every record that is there and valid was taken.
async fn round(network: &Network, manifest: &Manifest, names: &[Name]) -> Result<bool, NetError> {
    let mut all = true;
    for name in names {
        let stored = match manifest.name(&name.to_bytes()) {
            Ok(Some(stored)) => stored,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(%name, %error, "cannot read the record of a name");
                continue;
            }
        };
        let record = match ipns::verify(name, &stored.bytes, Timestamp::now()) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(%name, %error, "the record of a name is not put again");
                continue;
            }
        };
        match network.put_record(name, &record).await {
            Ok(()) => tracing::debug!(%name, "republished"),
            Err(NetError::NotStored { reason }) => {
                tracing::debug!(%name, reason, "nobody took a record");
                all = false;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, ToSpan};
    use libp2p::identity::Keypair;

    use super::*;
    use crate::keys::name_of;
    use crate::manifest::ManifestOptions;
    use crate::manifest::change::{Change, Op};
    use crate::manifest::record::NameRecord;
    use crate::net::fake::{FakeDht, Stored};
    use crate::net::records::key_of_name;
    use crate::store::{Store, StoreOptions};

    async fn keep(manifest: &Manifest, key: &Keypair, validity: Timestamp) -> Name {
        let name = name_of(key);
        let record = ipns::sign(key, "/ipfs/bafkqaaa", 1, validity, Duration::from_secs(60));
        let kept = NameRecord {
            bytes: record.bytes,
            sequence: record.sequence,
            seen: Timestamp::now(),
        };
        let change = Change {
            ops: vec![Op::PutName(name.to_bytes(), kept)],
            ..Change::default()
        };
        manifest.commit(change).await.unwrap();
        name
    }

    #[tokio::test]
    async fn valid_records_are_put_again_and_a_refused_one_makes_the_round_incomplete() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let options = ManifestOptions {
            reserve: 0,
            ..ManifestOptions::default()
        };
        let (manifest, _) = Manifest::open_with(&dir.path().join("manifest"), options).unwrap();
        let key = Keypair::generate_ed25519;
        let now = Timestamp::now();
        let names = [
            name_of(&key()),
            keep(&manifest, &key(), now - SignedDuration::from_secs(1)).await,
            keep(&manifest, &key(), now + 1.hour()).await,
            keep(&manifest, &key(), now + 1.hour()).await,
        ];
        let (network, mut dht) = FakeDht::new(store);
        let (all, ()) = tokio::join!(round(&network, &manifest, &names), async {
            // Neither the name without a record nor the expired one.
            for name in &names[2..] {
                assert_eq!(dht.take().await, key_of_name(name).to_vec());
            }
        });
        assert!(all.unwrap());

        let (all, ()) = tokio::join!(round(&network, &manifest, &names), async {
            let Stored { done, .. } = dht.next().await;
            done.send(Err("no peers".to_owned())).unwrap();
            assert_eq!(dht.take().await, key_of_name(&names[3]).to_vec());
        });
        assert!(!all.unwrap());

        drop(dht);
        let off = round(&network, &manifest, &names).await;
        assert!(matches!(off, Err(NetError::Off)));
    }
}
