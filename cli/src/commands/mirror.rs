//! `duka mirror`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bytesize::ByteSize;
use clap::{Args, Subcommand};
use duka_gateway::control::event::{self, Item, MirrorKeeps, MirrorProduct, Outcome};
use duka_gateway::control::request::Request;
use duka_node::dag::path::{ContentPath, Root};
use duka_node::ids::{Channel, ProductId};
use duka_node::manifest::record::{Hours, Keep, MirrorPolicy};
use url::Url;

use crate::confirm::confirm;
use crate::context::Context;
use crate::error::CliError;
use crate::gateways;
use crate::ui::{Ui, count, size};

/// Keep the shops of others alive: follow them, store them, serve them
///
///     duka mirror add https://gateway.example/ipns/k51…
///     duka mirror status
///     duka mirror remove k51…
///
/// A mirror follows the shop's signed heads, fetches what is new and serves it, from `duka serve`
/// or `duka up`. It has no key of the shop, and refuses heads that are older than, or beside, one
/// it knows.
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum Mirror {
    Add(Box<Add>),

    /// List mirrors, a line each
    ///
    ///     duka mirror list
    ///     duka --json mirror list
    ///     duka mirror list | cut -f 1
    #[command(verbatim_doc_comment)]
    List,

    /// Show how far mirrors are, what they wait for, and which heads they refused
    ///
    ///     duka mirror status
    ///     duka mirror status k51…
    ///     duka --json mirror status
    #[command(verbatim_doc_comment)]
    Status {
        /// Only this shop
        shop: Option<String>,
    },

    /// Find out who really has the blocks of a shop, by challenges and not by claims
    ///
    ///     duka mirror census
    ///     duka mirror census k51… --challenges 200
    ///     duka --json mirror census
    ///
    /// Asks each peer and gateway that follows, provides or is named by the shop for random blocks, one at
    /// a time, within the time that a read takes. Fifty challenges catch who lacks a tenth with 99 % and
    /// more. A right answer says that the block was at hand: in that store, or in one as near to it. It
    /// does not say that two of them have two copies. duka answers with a hash that takes the whole block;
    /// other peers (bitswap) and gateways (http, only what they have without fetching) send the block
    /// itself, and have the time that this takes besides.
    ///
    /// `lacks`: some block it does not have, or brings late each time, while others come in time. `busy`:
    /// some came late, which proves nothing; another census tells more. Late ones widen the share.
    #[command(verbatim_doc_comment)]
    Census {
        /// The shop; without it this node's own
        shop: Option<String>,

        /// Blocks that each peer is asked for
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        challenges: u32,
    },

    /// Fetch nothing more for now; what is here is served
    ///
    ///     duka mirror pause k51…
    ///     duka mirror pause https://gateway.example/ipns/k51…
    ///     duka --json mirror pause k51…
    #[command(verbatim_doc_comment)]
    Pause {
        /// The shop
        shop: String,
    },

    /// Go on fetching
    ///
    ///     duka mirror resume k51…
    ///     duka mirror resume https://gateway.example/ipns/k51…
    ///     duka --json mirror resume k51…
    #[command(verbatim_doc_comment)]
    Resume {
        /// The shop
        shop: String,
    },

    /// Mirror a shop no longer; `duka gc` frees the room
    ///
    ///     duka mirror remove k51…
    ///     duka mirror remove k51… && duka gc
    ///     duka --json mirror remove k51…
    #[command(verbatim_doc_comment)]
    Remove {
        /// The shop
        shop: String,
    },
}

/// Mirror a shop from now on, or change what is kept of one
///
///     duka mirror add k51… --quota 200GiB
///     duka mirror add https://gateway.example/ipns/k51… --keep latest:3
///     duka mirror add shop.example
///     duka mirror add k51… --channel stable --products album,game --hours 22:00-06:00
///
/// Says what it will take and asks, unless --yes. The catalogue is always kept; the options choose
/// releases. Added again, options that are not given stay as they were, unless --anew. What the
/// mirror holds on purpose it gives to everybody who asks.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Add {
    /// The shop: its k51… name, its URL at a gateway, or a domain with a DNSLink
    shop: String,

    /// Most bytes to keep, such as 200GiB; the newest releases go first
    #[arg(long, value_name = "SIZE")]
    quota: Option<ByteSize>,

    /// Releases of each product: `all`, or `latest:3` and what channels name
    #[arg(long, value_name = "WHICH", value_parser = keep)]
    keep: Option<Keep>,

    /// Only what this channel names; with --keep also releases before it
    #[arg(long = "channel", value_name = "CHANNEL", value_delimiter = ',')]
    channels: Vec<Channel>,

    /// Only releases of these products
    #[arg(long, value_name = "PRODUCT,…", value_delimiter = ',')]
    products: Vec<ProductId>,

    /// Most bytes to fetch in a second, such as 10MB/s
    #[arg(long, value_name = "RATE", value_parser = rate)]
    bwlimit: Option<u64>,

    /// Fetch only in these hours of the day, such as 22:00-06:00
    #[arg(long, value_name = "FROM-TO", value_parser = hours)]
    hours: Option<Hours>,

    /// Forget the options of an earlier `mirror add`
    #[arg(long)]
    anew: bool,
}

/// Runs a subcommand.
pub(crate) async fn run(args: Mirror, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = match args {
        Mirror::Add(args) => return add(*args, cx, ui).await,
        Mirror::List => Request::MirrorList { shop: None },
        Mirror::Status { shop } => {
            let shop = match shop {
                Some(shop) => Some(without_domain(cx, shop).await?),
                None => None,
            };
            let request = Request::MirrorList { shop };
            let outcome = cx.run(ui, request, None, status).await?;
            return ui.outcome(&outcome, |_| Ok(()));
        }
        Mirror::Census { shop, challenges } => {
            let shop = match shop {
                Some(shop) => Some(without_domain(cx, shop).await?),
                None => None,
            };
            let request = Request::MirrorCensus { shop, challenges };
            let outcome = cx.run(ui, request, None, proved).await?;
            return ui.outcome(&outcome, |ui| match &outcome {
                Outcome::MirrorCensus { blocks, asked, .. } => ui.note(format!(
                    "asked {} for some of {}",
                    count(*asked, "machine"),
                    count(*blocks, "block")
                )),
                _ => Ok(()),
            });
        }
        Mirror::Pause { shop } => Request::MirrorPause {
            shop: without_domain(cx, shop).await?,
            paused: true,
        },
        Mirror::Resume { shop } => Request::MirrorPause {
            shop: without_domain(cx, shop).await?,
            paused: false,
        },
        Mirror::Remove { shop } => Request::MirrorRemove {
            shop: without_domain(cx, shop).await?,
        },
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::MirrorChanged { shop } => ui.note(format!("done: {shop}")),
        _ => Ok(()),
    })
}

/// The shop as the node understands it: domains are looked up here.
async fn without_domain(cx: &Context, shop: String) -> Result<String, CliError> {
    let Some(domain) = domain_of(&shop) else {
        return Ok(shop);
    };
    let path = gateways::dnslink(cx, &domain.name).await?;
    let Root::Name(name) = path.root else {
        let message = format!("{} leads to /ipfs/ content, and not to a shop", domain.name);
        return Err(CliError::usage(message).hint("give the shop's k51… name"));
    };
    Ok(match domain.gateway {
        Some(gateway) => format!("{gateway}/ipns/{name}"),
        None => name.to_string(),
    })
}

/// A domain in the place of a shop's name.
#[derive(Debug, PartialEq, Eq)]
struct Domain {
    name: String,
    /// Where the shop was said to be.
    gateway: Option<String>,
}

/// The domain in `shop.example`, `/ipns/shop.example`, `https://gateway.example/ipns/shop.example` or
/// `https://shop.example`; `None` where there is a key.
fn domain_of(shop: &str) -> Option<Domain> {
    let has_domain = |text: &str| match ContentPath::parse(text).ok()?.root {
        Root::Domain(name) if name.contains('.') && name.parse::<IpAddr>().is_err() => Some(name),
        _ => None,
    };
    if !shop.starts_with("http://") && !shop.starts_with("https://") {
        let name = has_domain(shop).or_else(|| has_domain(&format!("/ipns/{shop}")))?;
        let gateway = None;
        return Some(Domain { name, gateway });
    }
    let url = Url::parse(shop).ok()?;
    let host = url.host_str()?;
    let name = match url.path().starts_with("/ipns/") {
        true => has_domain(url.path())?,
        false if host.contains(".ipns.") => return None,
        false => has_domain(&format!("/ipns/{host}"))?,
    };
    let gateway = Some(url.origin().ascii_serialization());
    Some(Domain { name, gateway })
}

async fn add(args: Add, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let policy = MirrorPolicy {
        quota: args.quota.map(|quota| quota.as_u64()),
        keep: args.keep,
        channels: args.channels.into_iter().collect::<BTreeSet<_>>(),
        products: args.products.into_iter().collect::<BTreeSet<_>>(),
        bytes_per_second: args.bwlimit,
        hours: args.hours,
    };
    let shop = without_domain(cx, args.shop).await?;
    if !cx.yes() {
        let request = Request::MirrorEstimate {
            shop: shop.clone(),
            policy: policy.clone(),
            anew: args.anew,
        };
        let outcome = cx.run(ui, request, None, super::row).await?;
        ui.note(in_words(&outcome))?;
        confirm(cx, "Mirror it?", "nothing is mirrored")?;
    }
    let anew = args.anew;
    let request = Request::MirrorAdd { shop, policy, anew };
    let outcome = cx.run(ui, request, None, super::row).await?;
    let is_alone = !cx.is_served().await?;
    ui.outcome(&outcome, |ui| {
        if let Outcome::MirrorAdd { shop, .. } = &outcome {
            ui.note(in_words(&outcome))?;
            if is_alone {
                ui.note("it is fetched while `duka serve` runs")?;
            }
            ui.line(shop)?;
        }
        Ok(())
    })
}

/// What a mirror takes.
fn in_words(outcome: &Outcome) -> String {
    let Outcome::MirrorAdd {
        title,
        seq,
        products,
        releases,
        files,
        bytes,
        traffic_bytes,
        left_out_releases,
        free_bytes,
        is_most,
        keeps,
        kept_before,
        ..
    } = outcome
    else {
        return String::new();
    };
    let files = files.map_or_else(String::new, |files| format!(", {}", count(files, "file")));
    let left_out = match left_out_releases {
        0 => String::new(),
        left_out => format!("; left out by the quota: {}", count(*left_out, "release")),
    };
    let scarce = match traffic_bytes > free_bytes {
        true => ": it may not all fit (what releases share is counted for each)",
        false => "",
    };
    let most = match is_most {
        true => "at most (it is read in its hours) ",
        false => "",
    };
    let kept = changes(kept_before.as_ref(), keeps);
    format!(
        "{title:?}, head {seq}: {}, {}{files}, {most}{} to keep, {} to fetch first; the disk has {} \
         left{scarce}{left_out}{kept}",
        count(*products, "product"),
        count(*releases, "release"),
        size(*bytes),
        size(*traffic_bytes),
        size(*free_bytes)
    )
}

/// What is chosen, as the options of `mirror add` say it; `None` where nothing is.
fn options(keeps: &MirrorKeeps) -> [(&'static str, Option<String>); 6] {
    let listed = |names: &[String]| (!names.is_empty()).then(|| names.join(","));
    [
        ("quota", keeps.quota_bytes.map(size)),
        ("keep", keeps.keep.clone()),
        ("channel", listed(&keeps.channels)),
        ("products", listed(&keeps.products)),
        (
            "bwlimit",
            keeps
                .bytes_per_second
                .map(|rate| format!("{}/s", size(rate))),
        ),
        ("hours", keeps.hours.clone()),
    ]
}

/// What is chosen, on one line.
pub(super) fn chosen(keeps: &MirrorKeeps) -> String {
    let chosen = options(keeps).into_iter();
    let chosen = chosen.filter_map(|(name, value)| Some(format!("{name} {}", value?)));
    let chosen: Vec<String> = chosen.collect();
    match chosen.is_empty() {
        true => "all".to_owned(),
        false => chosen.join(", "),
    }
}

/// What is kept in another way than before, and what stays.
fn changes(before: Option<&MirrorKeeps>, now: &MirrorKeeps) -> String {
    let Some(before) = before else {
        return String::new();
    };
    let said = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let both = options(before).into_iter().zip(options(now));
    let lines = both.filter_map(|((name, before), (_, now))| match (before, now) {
        (None, None) => None,
        (before, now) if before == now => Some(format!("{name} {} as before", said(now))),
        (before, now) => Some(format!("{name} {} → {}", said(before), said(now))),
    });
    let lines: Vec<String> = lines.collect();
    match lines.is_empty() {
        true => String::new(),
        false => format!("; {}", lines.join(", ")),
    }
}

/// Products that are listed for people.
const MAX_PRODUCTS: usize = 50;

/// What is there of each product, those that are not whole first.
fn by_product(products: &[MirrorProduct]) -> String {
    let mut sorted: Vec<&MirrorProduct> = products.iter().collect();
    sorted.sort_by_key(|product| product.bytes >= product.total_bytes);
    let mut text = String::new();
    for product in sorted.iter().take(MAX_PRODUCTS) {
        let total = size(product.total_bytes);
        let bytes = match product.bytes >= product.total_bytes {
            true => format!("{total}, whole"),
            false => format!("{} of {total}", size(product.bytes)),
        };
        text += &format!("\n  product\t{}\t{bytes}", product.product);
    }
    let whole = sorted.iter().skip(MAX_PRODUCTS).len() as u64;
    if whole > 0 {
        text += &format!("\n  and {} more: --json lists all", count(whole, "product"));
    }
    text
}

/// What somebody proved.
fn proved(item: &Item) -> String {
    match item {
        Item::Proved {
            who,
            by,
            asked,
            proved,
            late,
            slow,
            wrong,
            absent,
            verdict,
            share_low,
            share_high,
            round_trip_seconds,
        } => {
            let trip = round_trip_seconds
                .map_or_else(|| "-".to_owned(), |s| format!("{:.1} ms", s * 1000.0));
            format!(
                "{who}\t{by}\t{verdict}\t{proved} of {asked} proved\t{late} late\t{slow} slow\t\
                 {wrong} wrong\t{absent} absent\thas {:.0} to {:.0} %\t{trip}",
                share_low * 100.0,
                share_high * 100.0
            )
        }
        Item::ProvedProduct {
            product,
            asked,
            proved,
        } => format!("{product}\t{proved} of {asked} blocks proved by somebody"),
        item => super::row(item),
    }
}

/// A mirror on a few lines.
fn status(item: &Item) -> String {
    let Item::Mirror(mirror) = item else {
        return super::row(item);
    };
    let event::Mirror {
        shop,
        state,
        head,
        whole_seq,
        bytes,
        total_bytes,
        fetched_bytes,
        bytes_per_second,
        eta_seconds,
        sources,
        products,
        left_out_releases,
        left_out_bytes,
        stall,
        gateways,
        keeps,
        refused,
        ..
    } = mirror.as_ref();
    let mut text = format!("{shop}\t{state}");
    if let Some(head) = head {
        let whole = match whole_seq {
            Some(seq) if *seq == head.seq => String::new(),
            Some(seq) => format!(", shown: {seq}"),
            None => ", none shown yet".to_owned(),
        };
        let issued = &head.issued;
        text += &format!(
            "\n  head\t{} of {issued}, {}{whole}",
            head.seq, head.freshness
        );
    }
    if *total_bytes > 0 {
        let percent = bytes.saturating_mul(100) / total_bytes;
        text += &format!(
            "\n  here\t{} of {}, {percent} %, {} fetched",
            size(*bytes),
            size(*total_bytes),
            size(*fetched_bytes)
        );
    }
    if let Some(eta) = eta_seconds {
        let eta = humantime::format_duration(std::time::Duration::from_secs(*eta));
        text += &format!("\n  rate\t{}/s, {eta} left", size(*bytes_per_second));
    }
    for given in sources {
        let bytes = size(given.bytes);
        let failed = match (given.lied, given.errors) {
            (true, _) => ", dropped: it sent wrong bytes".to_owned(),
            (false, 0) => String::new(),
            (false, errors) => format!(", {} failed", count(errors, "request")),
        };
        text += &format!("\n  from\t{}\t{bytes}{failed}", given.source);
    }
    text += &by_product(products);
    for (name, value) in options(keeps) {
        if let Some(value) = value {
            text += &format!("\n  {name}\t{value}");
        }
    }
    for gateway in gateways {
        text += &format!("\n  at\t{gateway}");
    }
    if *left_out_releases > 0 {
        let releases = count(*left_out_releases, "release");
        text += &format!(
            "\n  left out\t{releases}, {}, by the quota",
            size(*left_out_bytes)
        );
    }
    if let Some(stall) = stall {
        text += &format!("\n  waits\t{stall}");
    }
    for refused in refused {
        let head = refused
            .seq
            .map_or_else(|| "a record".to_owned(), |seq| format!("head {seq}"));
        text += &format!(
            "\n  refused\t{head} from {} at {}: {}",
            refused.from, refused.when, refused.why
        );
    }
    text
}

fn keep(text: &str) -> Result<Keep, String> {
    let latest = text.strip_prefix("latest:").and_then(|n| n.parse().ok());
    match (text, latest) {
        ("all", _) => Ok(Keep::All),
        (_, Some(count)) if count > 0 => Ok(Keep::Latest(count)),
        _ => Err("write it like all or latest:3".to_owned()),
    }
}

fn rate(text: &str) -> Result<u64, String> {
    let bytes: Result<ByteSize, _> = text.trim_end_matches("/s").parse();
    match bytes {
        Ok(bytes) if bytes.as_u64() > 0 => Ok(bytes.as_u64()),
        _ => Err("write it like 10MB/s".to_owned()),
    }
}

fn hours(text: &str) -> Result<Hours, String> {
    let minute = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    };
    text.split_once('-')
        .and_then(|(from, to)| {
            Some(Hours {
                from: minute(from)?,
                to: minute(to)?,
            })
        })
        .ok_or_else(|| "write it like 22:00-06:00".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_people_write_them() {
        assert_eq!(keep("all"), Ok(Keep::All));
        assert_eq!(keep("latest:3"), Ok(Keep::Latest(3)));
        assert!(keep("latest:0").is_err() && keep("3").is_err());
        assert_eq!(rate("10MB/s"), Ok(10_000_000));
        assert_eq!(rate("1MiB"), Ok(1 << 20));
        assert!(rate("0").is_err() && rate("fast").is_err());
        let night = Hours {
            from: 22 * 60,
            to: 6 * 60,
        };
        assert_eq!(hours("22:00-06:00"), Ok(night));
        assert!(hours("24:00-06:00").is_err() && hours("22-6").is_err());
        assert_eq!(night.until_open(23 * 60), None);
        assert_eq!(night.until_open(5 * 60 + 59), None);
        let an_hour = std::time::Duration::from_secs(60 * 60);
        assert_eq!(night.until_open(21 * 60), Some(an_hour));
    }

    #[test]
    fn what_is_left_out_and_what_may_not_fit_is_said() {
        let said = |left_out_releases, free_bytes| {
            in_words(&Outcome::MirrorAdd {
                shop: String::new(),
                added: false,
                title: "Shop".to_owned(),
                seq: 1,
                products: 1,
                releases: 2,
                files: None,
                bytes: 10,
                traffic_bytes: 10,
                left_out_releases,
                free_bytes,
                is_most: false,
                keeps: MirrorKeeps::default(),
                kept_before: None,
            })
        };
        let all = said(0, 10);
        assert!(all.ends_with("the disk has 10 B left"), "{all}");
        let some = said(1, 9);
        assert!(some.contains("9 B left: it may not all fit"), "{some}");
        assert!(
            some.ends_with("; left out by the quota: 1 release"),
            "{some}"
        );
    }

    #[test]
    fn domains_are_found_in_the_place_of_names() {
        let key = "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r";
        let domain = |gateway: Option<&str>| {
            Some(Domain {
                name: "shop.example".to_owned(),
                gateway: gateway.map(str::to_owned),
            })
        };
        for text in ["shop.example", "/ipns/shop.example", "shop.example/p/album"] {
            assert_eq!(domain_of(text), domain(None), "{text}");
        }
        let at = domain(Some("https://gateway.example:8080"));
        assert_eq!(
            domain_of("https://gateway.example:8080/ipns/shop.example/p"),
            at
        );
        let own = domain(Some("https://shop.example"));
        assert_eq!(domain_of("https://shop.example/"), own);
        for text in [
            key.to_owned(),
            format!("/ipns/{key}"),
            format!("https://gateway.example/ipns/{key}"),
            format!("https://{key}.ipns.gateway.example/"),
            "http://127.0.0.1:8899/".to_owned(),
            "http://localhost:8899/".to_owned(),
            "album".to_owned(),
        ] {
            assert_eq!(domain_of(&text), None, "{text}");
        }
    }
}
