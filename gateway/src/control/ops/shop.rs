//! What the shop says of itself, and the waiting for heads that show a change.

use std::time::Duration;

use duka_node::announce;
use duka_node::manifest::record::JobId;
use duka_node::node::Node;
use duka_node::shop::settings::{self, Setting};
use jiff::Timestamp;

use crate::control::event::{Head, Outcome, Shop};
use crate::control::failure::Failure;

/// Time for the head to be built and signed.
const HEAD_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn show(node: &Node) -> Result<Outcome, Failure> {
    let (settings, own) = (settings::read(node)?, node.manifest().shop()?);
    let own = [
        ("title", own.title.is_some()),
        ("description", own.description.is_some()),
        ("gateways", own.gateways.is_some()),
        ("mirrors", own.mirrors.is_some()),
        ("expiry", own.lifetime.is_some()),
        ("refresh", own.refresh.is_some()),
    ];
    let own = own.iter().filter(|(_, is_own)| *is_own);
    let counts = node.manifest().counts()?;
    Ok(Outcome::ShopShow(Box::new(Shop {
        name: node.shop_name().to_string(),
        title: settings.title,
        description: settings.description,
        gateways: settings.gateways,
        mirrors: settings.mirrors,
        expiry_seconds: settings.lifetime.as_secs(),
        refresh_seconds: settings.refresh.as_secs(),
        own: own.map(|(key, _)| (*key).to_owned()).collect(),
        products: counts.products,
        releases: counts.releases,
        head: head(node)?,
    })))
}

fn head(node: &Node) -> Result<Option<Head>, Failure> {
    let Some(head) = node.manifest().head()? else {
        return Ok(None);
    };
    let record = match node.keys().publishing.name() {
        Some(publishing) => node.manifest().name(&publishing.to_bytes())?,
        None => None,
    };
    Ok(Some(Head {
        seq: head.seq,
        cid: head.root.to_string(),
        issued: seconds(head.issued),
        signed: record.map(|record| seconds(record.seen)),
    }))
}

pub(super) async fn set(node: &Node, setting: Setting) -> Result<Outcome, Failure> {
    let job = settings::change(node, setting).await?;
    let signed = is_signed(node, Some(job)).await?;
    Ok(Outcome::ShopSet { signed })
}

/// Waits until a signed head shows the change that was committed with this job; without one nothing
/// was changed.
pub(super) async fn is_signed(node: &Node, job: Option<JobId>) -> Result<bool, Failure> {
    match job {
        Some(job) => Ok(announce::wait_for_job(node, job, HEAD_LIMIT).await?),
        None => Ok(true),
    }
}

fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}
