//! Mirrors of other shops.

use duka_node::dag::path::{ContentPath, Root};
use duka_node::keys::Name;
use duka_node::manifest::record::MirrorPolicy;
use duka_node::mirror::{self, Estimate, MirrorRequest, Status};
use duka_node::node::Node;
use duka_node::shop::follow::Freshness;
use jiff::Timestamp;
use url::{Host, Url};

use crate::control::event::{
    Event, Item, Mirror, MirrorHead, MirrorKeeps, MirrorProduct, MirrorSource, Outcome, RefusedHead,
};
use crate::control::failure::{Code, Failure};
use crate::control::sink::EventSink;

/// What will be mirrored, and what that takes.
pub(super) async fn estimate(
    node: &Node,
    request: MirrorRequest,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let name = request.shop.to_string();
    let estimate = mirror::estimate(node, request).await?;
    warn(&estimate, sink).await;
    Ok(outcome(name, estimate, false))
}

pub(super) async fn add(
    node: &Node,
    request: MirrorRequest,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let name = request.shop.to_string();
    let estimate = mirror::add(node, request).await?;
    warn(&estimate, sink).await;
    Ok(outcome(name, estimate, true))
}

/// Says what is named and not there.
async fn warn(estimate: &Estimate, sink: &EventSink) {
    let products = estimate.absent_products.iter();
    let products = products.map(|id| format!("the shop has no product {id}"));
    let channels = estimate.absent_channels.iter();
    let channels =
        channels.map(|channel| format!("no product that is kept has a channel {channel}"));
    for what in products.chain(channels) {
        let message = format!("{what} now: nothing is kept of it until there is one");
        sink.send(Event::Warning { message }).await;
    }
}

pub(super) async fn pause(node: &Node, shop: &str, paused: bool) -> Result<Outcome, Failure> {
    let request = request(shop, MirrorPolicy::default(), false)?;
    mirror::pause(node, &request.shop, paused).await?;
    Ok(changed(&request.shop))
}

pub(super) async fn remove(node: &Node, shop: &str) -> Result<Outcome, Failure> {
    let request = request(shop, MirrorPolicy::default(), false)?;
    mirror::remove(node, &request.shop).await?;
    Ok(changed(&request.shop))
}

/// All mirrors, or the one.
pub(super) async fn list(
    node: &Node,
    shop: Option<&str>,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let wanted = match shop {
        Some(shop) => Some(request(shop, MirrorPolicy::default(), false)?.shop),
        None => None,
    };
    let mut count = 0;
    for status in mirror::list(node).await? {
        if wanted.as_ref().is_some_and(|wanted| *wanted != status.shop) {
            continue;
        }
        count += 1;
        sink.item(Item::Mirror(Box::new(item(status)))).await;
    }
    match wanted {
        Some(shop) if count == 0 => Err(mirror::MirrorError::Unknown { shop }.into()),
        _ => Ok(Outcome::List { count }),
    }
}

/// Who really has the blocks of a shop.
pub(super) async fn census(
    node: &Node,
    shop: Option<&str>,
    challenges: u32,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let shop = match shop {
        Some(shop) => request(shop, MirrorPolicy::default(), false)?.shop,
        None => node.shop_name(),
    };
    let challenges = usize::try_from(challenges).unwrap_or(usize::MAX);
    let census = mirror::census(node, &shop, challenges).await?;
    let asked = census.asked.len() as u64;
    for proved in census.asked {
        sink.item(Item::Proved {
            verdict: proved.verdict().name().to_owned(),
            who: proved.who,
            by: proved.by.name().to_owned(),
            asked: proved.asked,
            proved: proved.proved,
            late: proved.late,
            slow: proved.slow,
            wrong: proved.wrong,
            absent: proved.absent,
            share_low: proved.share.0,
            share_high: proved.share.1,
            round_trip_seconds: proved.round_trip.map(|time| time.as_secs_f64()),
        })
        .await;
    }
    for (product, (asked, proved)) in census.products {
        let product = product.to_string();
        sink.item(Item::ProvedProduct {
            product,
            asked,
            proved,
        })
        .await;
    }
    Ok(Outcome::MirrorCensus {
        shop: shop.to_string(),
        blocks: census.blocks,
        asked,
    })
}

/// A name, or the URL of a shop at a gateway.
pub(super) fn request(
    shop: &str,
    policy: MirrorPolicy,
    anew: bool,
) -> Result<MirrorRequest, Failure> {
    let unknown = || {
        let message = format!("{shop:?} names no shop");
        let hint =
            "give the k51… name, or the shop's URL at a gateway: https://gateway.example/ipns/k51…";
        Failure::new(Code::Usage, message).hint(hint)
    };
    if !shop.starts_with("http://") && !shop.starts_with("https://") {
        let Ok(ContentPath {
            root: Root::Name(shop),
            ..
        }) = ContentPath::parse(shop)
        else {
            return Err(unknown());
        };
        return Ok(MirrorRequest {
            shop,
            gateways: Vec::new(),
            policy,
            anew,
        });
    }
    let url = Url::parse(shop).map_err(|_| unknown())?;
    let (shop, mut gateway) = at_gateway(&url).ok_or_else(unknown)?;
    gateway.set_path("/");
    gateway.set_query(None);
    gateway.set_fragment(None);
    Ok(MirrorRequest {
        shop,
        gateways: vec![gateway.to_string()],
        policy,
        anew,
    })
}

/// The name in `http://gateway/ipns/NAME/…` or `http://NAME.ipns.gateway/…`, and the gateway.
fn at_gateway(url: &Url) -> Option<(Name, Url)> {
    let mut segments = url.path_segments()?;
    if segments.next() == Some("ipns") {
        let name = segments.next()?.parse().ok()?;
        return Some((name, url.clone()));
    }
    let Some(Host::Domain(host)) = url.host() else {
        return None;
    };
    let (name, host) = host.split_once(".ipns.")?;
    let mut gateway = url.clone();
    gateway.set_host(Some(host)).ok()?;
    Some((name.parse().ok()?, gateway))
}

fn changed(shop: &Name) -> Outcome {
    Outcome::MirrorChanged {
        shop: shop.to_string(),
    }
}

fn outcome(shop: String, estimate: Estimate, added: bool) -> Outcome {
    Outcome::MirrorAdd {
        shop,
        added,
        title: estimate.title,
        seq: estimate.seq,
        products: estimate.products,
        releases: estimate.releases,
        files: estimate.files,
        bytes: estimate.bytes,
        traffic_bytes: estimate.traffic,
        left_out_releases: estimate.left_out,
        free_bytes: estimate.free,
        is_most: estimate.is_most,
        keeps: keeps(&estimate.policy),
        kept_before: estimate.before.as_ref().map(keeps),
    }
}

fn keeps(policy: &MirrorPolicy) -> MirrorKeeps {
    MirrorKeeps {
        quota_bytes: policy.quota,
        keep: policy.keep.map(|keep| keep.to_string()),
        channels: policy.channels.iter().map(ToString::to_string).collect(),
        products: policy.products.iter().map(ToString::to_string).collect(),
        bytes_per_second: policy.bytes_per_second,
        hours: policy.hours.map(|hours| hours.to_string()),
    }
}

fn item(status: Status) -> Mirror {
    let Status {
        shop,
        record,
        progress,
        freshness,
    } = status;
    let now = Timestamp::now();
    let held = record.held.as_ref().map(|held| held.head.seq);
    let is_whole = held.is_some() && held == record.known.as_ref().map(|known| known.seq);
    let left = progress.total.saturating_sub(progress.bytes);
    let products = progress.products.iter();
    Mirror {
        shop: shop.to_string(),
        state: match (record.paused, progress.is_busy, is_whole) {
            (true, ..) => "paused",
            (_, true, _) => "fetching",
            (.., true) => "whole",
            _ => "waiting",
        }
        .to_owned(),
        head: record.known.as_ref().map(|known| MirrorHead {
            seq: known.seq,
            cid: known.root.to_string(),
            issued: format!("{:.0}", known.issued),
            age_seconds: u64::try_from(now.duration_since(known.issued).as_secs()).unwrap_or(0),
            freshness: match freshness {
                Some(Freshness::Stale { .. }) => "stale",
                Some(Freshness::Expired) => "expired",
                _ => "fresh",
            }
            .to_owned(),
        }),
        whole_seq: held,
        kept_bytes: record.held.as_ref().map_or(0, |held| held.bytes),
        bytes: progress.bytes,
        total_bytes: progress.total,
        fetched_bytes: progress.fetched,
        bytes_per_second: progress.rate,
        eta_seconds: (progress.is_busy && progress.rate > 0).then(|| left / progress.rate),
        sources: progress
            .sources
            .into_iter()
            .map(|given| MirrorSource {
                source: given.source,
                bytes: given.bytes,
                blocks: given.blocks,
                errors: given.errors,
                lied: given.lied,
            })
            .collect(),
        products: products
            .map(|(product, (bytes, total))| MirrorProduct {
                product: product.to_string(),
                bytes: *bytes,
                total_bytes: *total,
            })
            .collect(),
        left_out_releases: progress.left_out.0,
        left_out_bytes: progress.left_out.1,
        stall: progress.stall.filter(|_| !record.paused),
        keeps: keeps(&record.policy),
        gateways: record.gateways,
        refused: record
            .refused
            .into_iter()
            .map(|refused| RefusedHead {
                seq: refused.seq,
                why: refused.why,
                from: refused.from,
                when: format!("{:.0}", refused.when),
                times: refused.times,
            })
            .collect(),
        added: format!("{:.0}", record.added),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shops_are_named_by_key_and_by_urls_of_gateways() {
        let name = "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r";
        for (text, gateway) in [
            (name.to_owned(), None),
            (format!("/ipns/{name}"), None),
            (
                format!("http://127.0.0.1:8899/ipns/{name}/p/x"),
                Some("http://127.0.0.1:8899/"),
            ),
            (
                format!("https://{name}.ipns.gateway.example/?q#f"),
                Some("https://gateway.example/"),
            ),
        ] {
            let request = request(&text, MirrorPolicy::default(), false).unwrap();
            assert_eq!(request.shop.to_string(), name, "{text}");
            assert_eq!(request.gateways.first().map(String::as_str), gateway);
        }
        for text in [
            "",
            "album",
            "http://gateway.example/ipfs/bafkqaaa",
            "ftp://x/ipns/y",
        ] {
            assert!(
                request(text, MirrorPolicy::default(), false).is_err(),
                "{text}"
            );
        }
    }
}
