//! What a reference leads to: names of shops are followed to their newest valid head, and a product to
//! the release that is meant.

use duka_gateway::control::event::{Outcome, ShopHead};
use duka_gateway::control::failure::{Code, Failure};
use duka_gateway::control::following::{self, Answers};
use duka_gateway::control::release::Wanted;
use duka_gateway::control::request::{self, Request};
use duka_node::dag::path::{ContentPath, Root};
use duka_node::keys::Name;
use duka_node::source::trustless::{Listen, TrustlessSource, gateway_url, is_public};
use futures::FutureExt;
use url::Url;

use crate::commands::row;
use crate::context::Context;
use crate::error::CliError;
use crate::gateways::{self, Tries};
use crate::reference::Reference;
use crate::state::KnownShop;
use crate::ui::Ui;

/// What is in the directory of a shop besides products.
const ENTRIES: [&str; 8] = [
    "p",
    "products",
    "shop.json",
    "heads",
    "search",
    "assets",
    "ledger",
    "index.html",
];

/// Content, and who may have it.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) path: ContentPath,
    pub(crate) gateways: Vec<Url>,
    /// What it is called on disk where the user does not say.
    pub(crate) name: String,
}

/// Follows what the user typed to content, or to a name that is not that of a shop.
pub(crate) async fn locate(
    cx: &Context,
    ui: &mut Ui,
    text: &str,
    mut given: Vec<Url>,
    tries: Tries,
) -> Result<Located, CliError> {
    let state = cx.state()?;
    let Reference { mut path, gateway } = Reference::parse(text, |alias| state.alias(alias))?;
    if let Some(gateway) = gateway {
        gateways::refuse_offline(cx, &gateway)?;
        given.push(gateway);
    }
    if let Root::Domain(domain) = &path.root {
        let target = gateways::dnslink(cx, domain).await?;
        path = ContentPath {
            root: target.root,
            segments: [target.segments, path.segments].concat(),
        };
    }
    let Root::Name(shop) = path.root.clone() else {
        return Ok(plain(path, given));
    };
    let (wanted, inside) = wanted(&path.segments)?;
    let known = state.shop(&shop)?;
    let places = places(cx, &given, known.as_ref());
    let args = request::ShopHead {
        name: shop.to_string(),
        gateways: places.iter().map(Url::to_string).collect(),
        wanted,
        known: known.as_ref().map(|known| known.followed.clone()),
    };
    let Some(head) = newest_head(cx, ui, &shop, args, &places, tries).await? else {
        return Ok(plain(path, given));
    };
    for warning in &head.warnings {
        ui.warn(warning.clone())?;
    }
    let known = following_now(&head, known, &given);
    if let Err(error) = state.remember(&shop, known.clone()) {
        let (_, message, _) = error.describe().unwrap_or_default();
        ui.warn(format!(
            "what is known of {shop} is not remembered, so that an older head is not told from it: {message}"
        ))?;
    }
    let segments = match &head.chosen {
        Some(chosen) => {
            let release = [
                "p".to_owned(),
                chosen.product.to_string(),
                chosen.version.to_string(),
            ];
            [&release, inside].concat()
        }
        None => path.segments.clone(),
    };
    let name = match (inside.last(), &head.chosen) {
        (None, Some(chosen)) => Some(chosen.product.to_string()),
        _ => segments.last().cloned(),
    };
    Ok(Located {
        name: name.unwrap_or_else(|| shop.to_string()),
        path: ContentPath {
            root: Root::Cid(head.followed.root),
            segments,
        },
        gateways: self::places(cx, &given, Some(&known)),
    })
}

/// Content that is no shop's.
fn plain(path: ContentPath, gateways: Vec<Url>) -> Located {
    let name = match path.segments.last() {
        Some(name) => name.clone(),
        None => match &path.root {
            Root::Cid(cid) => cid.to_string(),
            Root::Name(name) => name.to_string(),
            Root::Domain(domain) => domain.clone(),
        },
    };
    Located {
        path,
        gateways,
        name,
    }
}

/// The product that a path below a shop begins with, and the path inside of its release.
fn wanted(segments: &[String]) -> Result<(Option<Wanted>, &[String]), CliError> {
    match segments {
        [first, inside @ ..] if !ENTRIES.contains(&first.as_str()) => {
            match first.parse::<Wanted>() {
                Ok(wanted) => Ok((Some(wanted), inside)),
                // Not every name is that of a shop.
                Err(_) if !first.contains(['@', ':']) => Ok((None, &[])),
                Err(failure) => Err(failure.into()),
            }
        }
        _ => Ok((None, &[])),
    }
}

/// Gateways to ask: those given now, those given before, those that the shop names. What a shop names
/// never leads into the network that this machine is in. Offline, there are none.
fn places(cx: &Context, given: &[Url], known: Option<&KnownShop>) -> Vec<Url> {
    if cx.config().network.offline {
        return Vec::new();
    }
    let mut places = given.to_vec();
    let before = known.iter().flat_map(|known| &known.given);
    let named = known.iter().flat_map(|known| &known.gateways);
    let before = before.filter_map(|url| gateway_url(url));
    let named = named.filter_map(|url| gateway_url(url)).filter(is_public);
    for url in before.chain(named) {
        if !places.contains(&url) {
            places.push(url);
        }
    }
    places
}

/// Asks gateways alone, or the running node, or one for the time of the command.
async fn newest_head(
    cx: &Context,
    ui: &mut Ui,
    shop: &Name,
    args: request::ShopHead,
    places: &[Url],
    tries: Tries,
) -> Result<Option<ShopHead>, CliError> {
    let Some(source) = gateways::alone(cx, places, tries).await? else {
        let outcome = cx
            .run(ui, Request::ShopHead(Box::new(args)), None, row)
            .await?;
        return match outcome {
            Outcome::ShopHead { head } => Ok(head.map(|head| *head)),
            _ => Err(CliError::new(Code::Other, "the operation has no result")),
        };
    };
    let listen = following::listen(args.known.as_ref());
    let ask = |name: Name| {
        let source = source.clone();
        async move { records(&source, &name, listen).await }.boxed()
    };
    let (known, wanted) = (args.known.as_ref(), args.wanted.as_ref());
    let asked = source.count();
    Ok(following::head(&source, shop, known, wanted, asked, &ask).await?)
}

/// The records that gateways have of a name.
async fn records(
    source: &TrustlessSource,
    name: &Name,
    listen: Listen,
) -> Result<Answers, Failure> {
    let records = source.ipns_record(name, listen).await;
    match records.silent.first() {
        Some((gateway, silence)) if records.found.is_empty() => {
            let message = format!("{gateway} was asked for the record of {name}, but {silence}");
            Err(Failure::new(Code::Temporary, message)
                .hint("try again, or ask another gateway with --mirror URL"))
        }
        _ => Ok(Answers {
            records: records.found,
            silent: records.silent.into_iter().map(|(url, _)| url).collect(),
        }),
    }
}

/// What is known of a shop now. Passwords in URLs are not kept.
fn following_now(head: &ShopHead, known: Option<KnownShop>, given: &[Url]) -> KnownShop {
    let (title, gateways, before) = known
        .map(|known| (known.title, known.gateways, known.given))
        .unwrap_or_default();
    let given = given.iter().map(without_password);
    KnownShop {
        followed: head.followed.clone(),
        title: head.title.clone().unwrap_or(title),
        gateways: head.gateways.clone().unwrap_or(gateways),
        given: recent(given.collect(), before),
    }
}

fn without_password(gateway: &Url) -> String {
    let mut gateway = gateway.clone();
    // Fails for URLs that can have none.
    gateway.set_username("").ok();
    gateway.set_password(None).ok();
    gateway.to_string()
}

/// Gateways that are remembered as given, the last ones.
const MAX_GIVEN: usize = 16;

fn recent(mut given: Vec<String>, before: Vec<String>) -> Vec<String> {
    for url in before {
        if !given.contains(&url) {
            given.push(url);
        }
    }
    given.truncate(MAX_GIVEN);
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_below_a_shop_begins_with_an_entry_or_a_product() {
        let split = |path: &str| {
            let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
            let (wanted, inside) = wanted(&segments).unwrap();
            (
                wanted.map(|wanted| wanted.product.to_string()),
                inside.len(),
            )
        };
        assert_eq!(split("p/album/stable"), (None, 0));
        assert_eq!(split("album@1.2/a/b"), (Some("album".to_owned()), 2));
        assert_eq!(split("album:beta"), (Some("album".to_owned()), 0));
        assert_eq!(split("No Product/a"), (None, 0));
        assert!(wanted(&["album@beta".to_owned()]).is_err());
    }
}
