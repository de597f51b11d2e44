//! The operations, one file per group. Each is a thin shell around a flow of the node: it turns the
//! request into the flow's arguments and the outcome into events.

mod backup;
mod car;
mod channel;
mod content;
mod diff;
mod following;
mod fsck;
mod gc;
mod get;
mod import;
mod key;
mod mirror;
mod name;
mod network;
mod pin;
mod product;
mod prove;
mod publish;
mod rebuild;
mod shop;
mod stat;
#[cfg(test)]
mod tests;
mod verify;

use duka_node::announce;
use duka_node::dag::path::{self, ContentPath, Root};
use duka_node::fetch::{FetchOptions, Fetcher};
use duka_node::fsck::FsckOptions;
use duka_node::node::Node;
use duka_node::source::trustless::Effort;
use url::Url;

use super::Input;
use super::event::Outcome;
use super::failure::{Code, Failure};
use super::request::Request;
use super::sink::EventSink;

pub(super) use backup::restore;
pub(super) use rebuild::rebuild;

/// Runs one operation to its end.
pub(super) async fn execute(
    node: &Node,
    request: Request,
    input: Option<Input>,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    if request.is_signed() {
        node.keys().publishing.key()?;
        announce::check_publisher(node)?;
    }
    if (request.is_signed() || request.shows_shop())
        && let Some(stranger) = announce::stranger(node)?
    {
        sink.warn(stranger.to_string()).await;
    }
    match request {
        Request::Id => network::id(node).await,
        Request::Publish(args) => publish::publish(node, *args, input, sink).await,
        Request::ProductList => product::list(node, sink).await,
        Request::Search { terms, limit } => product::search(node, terms, limit, sink).await,
        Request::ProductShow { product } => product::show(node, &product).await,
        Request::ProductHistory { product } => product::history(node, &product, sink).await,
        Request::ProductSet { product, setting } => product::set(node, &product, setting).await,
        Request::ProductDiff { product, from, to } => {
            diff::diff(node, &product, [&from, &to], sink).await
        }
        Request::ChannelSet {
            product,
            channel,
            version,
        } => channel::set(node, &product, &channel, &version).await,
        Request::ChannelList { product } => channel::list(node, &product, sink).await,
        Request::ChannelRemove { product, channel } => {
            channel::remove(node, &product, &channel).await
        }
        Request::Rollback {
            product,
            channel,
            version,
        } => channel::roll_back(node, &product, &channel, version.as_ref()).await,
        Request::Yank {
            product,
            version,
            undo,
        } => product::yank(node, &product, &version, undo).await,
        Request::ShopShow => shop::show(node),
        Request::ShopSet { setting } => shop::set(node, setting).await,
        Request::KeyList => key::list(node, sink).await,
        Request::KeyCheck { shop, publishing } => key::check(node, shop, publishing),
        Request::KeyReload => key::reload(node).await,
        Request::KeyOffline { expiry_seconds } => key::take_offline(node, expiry_seconds).await,
        Request::KeyRotate => key::rotate(node).await,
        Request::PinAdd { path, name, direct } => pin::add(node, &path, name, !direct, sink).await,
        Request::PinRm { path } => pin::remove(node, &path).await,
        Request::PinLs { recursive, size } => pin::list(node, recursive, size, sink).await,
        Request::PinStat { path } => pin::stat(node, &path).await,
        Request::Add(args) => content::add(node, args, input, sink).await,
        Request::Cat {
            path,
            offset,
            length,
            gateways,
            retries,
            max_sources,
            rate,
        } => {
            let source = FetchOptions {
                gateways: reachable(node, &gateways)?,
                effort: effort(retries, max_sources),
                ..FetchOptions::cached()
            };
            content::cat(node, &path, source, (offset, length), rate, sink).await
        }
        Request::Ls { path } => content::ls(node, &path, sink).await,
        Request::Verify {
            path,
            cid,
            gateways,
        } => verify::verify(node, &path, cid, &gateways, sink).await,
        Request::CarImport { files, pin } => car::import(node, &files, pin, sink).await,
        Request::CarExport { path, file } => car::export(node, &path, &file).await,
        Request::NamePublish {
            path,
            lifetime_seconds,
        } => name::publish(node, &path, lifetime_seconds).await,
        Request::NameResolve { name } => name::resolve(node, &name).await,
        Request::NamePut { name, file } => name::put(node, &name, &file).await,
        Request::MirrorEstimate { shop, policy, anew } => {
            mirror::estimate(node, mirror::request(&shop, policy, anew)?, sink).await
        }
        Request::MirrorAdd { shop, policy, anew } => {
            mirror::add(node, mirror::request(&shop, policy, anew)?, sink).await
        }
        Request::MirrorList { shop } => mirror::list(node, shop.as_deref(), sink).await,
        Request::MirrorCensus { shop, challenges } => {
            mirror::census(node, shop.as_deref(), challenges, sink).await
        }
        Request::MirrorPause { shop, paused } => mirror::pause(node, &shop, paused).await,
        Request::MirrorRemove { shop } => mirror::remove(node, &shop).await,
        Request::SwarmPeers => network::peers(node, sink).await,
        Request::SwarmConnect { address } => network::connect(node, &address).await,
        Request::ShopHead(args) => following::head(node, *args).await,
        Request::Get(args) => get::get(node, args, sink).await,
        Request::Backup {
            dir,
            keys,
            settings,
        } => backup::backup(node, dir, keys, settings, sink).await,
        Request::Gc { dry_run } => gc::gc(node, dry_run).await,
        Request::Stat => stat::stat(node).await,
        Request::Fsck {
            deep,
            repair,
            repair_index,
        } => {
            let options = FsckOptions {
                deep,
                repair,
                repair_index,
            };
            fsck::fsck(node, options, sink).await
        }
    }
}

/// A source for one request that asks these gateways, too.
fn fetcher(node: &Node, gateways: Vec<Url>) -> Fetcher {
    node.fetcher(FetchOptions {
        gateways,
        ..FetchOptions::cached()
    })
}

/// How hard gateways are tried, where the request says.
fn effort(retries: Option<u32>, max_sources: Option<usize>) -> Effort {
    let usual = Effort::default();
    Effort {
        retries: retries.unwrap_or(usual.retries),
        max_sources: max_sources.unwrap_or(usual.max_sources),
    }
}

/// The gateways of a request, unless the node is offline.
fn reachable(node: &Node, gateways: &[String]) -> Result<Vec<Url>, Failure> {
    let urls = urls(gateways)?;
    Ok(match node.config().network.offline {
        true => Vec::new(),
        false => urls,
    })
}

/// The gateways of a request.
fn urls(gateways: &[String]) -> Result<Vec<Url>, Failure> {
    gateways.iter().map(|url| gateway(url)).collect()
}

fn gateway(url: &str) -> Result<Url, Failure> {
    Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| {
            let message = format!("{url:?} is not the URL of a gateway");
            Failure::new(Code::Usage, message).hint("write it like https://gateway.example")
        })
}

/// A content path, followed to the root it begins at.
struct Located {
    root: cid::Cid,
    segments: Vec<String>,
}

/// Resolves the name of a content path, if it begins with one; these gateways are asked for it, too.
async fn locate(node: &Node, text: &str, gateways: &[Url]) -> Result<Located, Failure> {
    let path = ContentPath::parse(text)?;
    let name = match path.root {
        Root::Cid(root) => {
            return Ok(Located {
                root,
                segments: path.segments,
            });
        }
        Root::Name(name) => name,
        Root::Domain(domain) => return Err(no_dnslink(&domain)),
    };
    let resolved = node.resolve_name(&name, gateways).await?;
    let target = ContentPath::parse(&resolved.path)?;
    match target.root {
        Root::Cid(root) => Ok(Located {
            root,
            segments: [target.segments, path.segments].concat(),
        }),
        Root::Domain(domain) => Err(no_dnslink(&domain)),
        Root::Name(name) => Err(Failure::new(
            Code::Limit,
            format!("{name} does not lead to content"),
        )),
    }
}

fn no_dnslink(domain: &str) -> Failure {
    let message = format!("{domain} is a domain, and names in the DNS are not resolved");
    Failure::new(Code::Permanent, message).hint("give the k51… name or the CID")
}

/// The CID that a content path leads to.
async fn resolve(node: &Node, text: &str, fetcher: &Fetcher) -> Result<cid::Cid, Failure> {
    let located = locate(node, text, &[]).await?;
    content_at(text, &located, fetcher).await
}

/// The CID that the path `text` leads to, once it is located.
async fn content_at(text: &str, located: &Located, fetcher: &Fetcher) -> Result<cid::Cid, Failure> {
    let found = path::resolve(fetcher, located.root, &located.segments).await?;
    if found.remainder.is_empty() {
        Ok(found.cid)
    } else {
        let message = format!(
            "{text} leads to a value inside {}, not to a file",
            found.cid
        );
        Err(Failure::new(Code::Permanent, message))
    }
}
