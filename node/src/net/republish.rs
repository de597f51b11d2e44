//! Keeps the own names in the DHT: peers drop records after 48 h, and peers come and go.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{NetError, Network};
use crate::ipns;
use crate::keys::Name;
use crate::manifest::Manifest;

/// How often each record is put again (Kubo's `Ipns.RepublishPeriod`).
const INTERVAL: Duration = Duration::from_secs(4 * 60 * 60);
/// First pause after a record that nobody took; doubles up to [`INTERVAL`].
const RETRY: Duration = Duration::from_secs(15);

/// Puts the newest stored record of each name into the DHT, again and again until `stop`. Records
/// that have expired are left out: whoever has the key must sign a new one.
///
/// # Cancel safety
/// Nothing is kept between rounds.
pub async fn run(network: Network, manifest: Manifest, names: Vec<Name>, stop: CancellationToken) {
    let rounds = async {
        let mut retry = RETRY;
        loop {
            match round(&network, &manifest, &names).await {
                Ok(true) => {
                    retry = RETRY;
                    tokio::time::sleep(INTERVAL).await;
                }
                Ok(false) => {
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(INTERVAL);
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
