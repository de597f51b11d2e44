//! `duka up`.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use clap::Args;
use duka_config::{Config, Origin};
use duka_gateway::control;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::failure::Failure;
use duka_gateway::control::request::{self, Import, Request, Source};
use duka_node::ids::ProductId;
use duka_node::keys;
use duka_node::node;
use duka_node::publish::Published;
use serde_json::json;

use super::import::{absolute, readable};
use super::listen::{ListenArgs, check_addresses};
use super::serving::Serving;
use crate::context::{Context, Signals, back_up, wait_for_head};
use crate::error::CliError;
use crate::ui::{Ui, count, size};

/// Publish a folder, run a node and print the links: all in one
///
///     duka up album/
///     duka up album/ --gateway 0.0.0.0:8899
///     duka --offline up album/
///
/// Makes the data directory and the keys if they are not there. The product is named after the
/// folder; the same files again are no new version. Ctrl-C stops.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Up {
    /// File or folder
    folder: PathBuf,

    /// How files are cut: size-N or buzhash [default: as the newest version]
    #[arg(long, value_name = "CHUNKER")]
    chunker: Option<String>,

    #[command(flatten)]
    pub(crate) listen: ListenArgs,
}

/// Publishes, serves until a signal.
pub(crate) async fn run(args: Up, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let mut signals = Signals::new()?;
    let folder = absolute(&args.folder)?;
    // Before anything is made: a mistyped name leaves no shop behind.
    readable(&folder)?;
    let product = product_of(&folder)?;
    check_addresses(cx)?;
    let made = node::init(&cx.data_dir).map_err(Failure::from)?;
    if made.origin == keys::Origin::Restored {
        let name = made.keys.shop.name();
        ui.note(format!("restored shop {name} in {}", cx.data_dir.display()))?;
    }
    let config = with_free_ports(cx, ui)?;

    let serving = Serving::start(cx, &config, false).await?;
    let published = tokio::select! {
        published = publish(cx, ui, &serving, folder, product, args.chunker) => published,
        _ = signals.next() => Err(CliError::Interrupted),
    };
    let published = match published {
        Ok(published) => published,
        Err(error) => {
            serving.stop().await;
            return Err(error);
        }
    };
    print_links(ui, &serving, &published).await?;
    if made.keys.shop.key().is_some() {
        ui.note(back_up(&made.shop_key))?;
    }
    ui.note("Ctrl-C stops.")?;
    serving.ready(ui, links(&serving, &published)).await?;

    serving.run(ui, &mut signals).await?;
    ui.result("up", json!({}))
}

/// The product id that a folder's name stands for.
fn product_of(folder: &Path) -> Result<ProductId, CliError> {
    // `up .` means the folder that the dot stands for.
    let real = folder.canonicalize();
    let named = real.as_deref().unwrap_or(folder);
    let name = named.file_name().map(|name| name.to_string_lossy());
    name.and_then(|name| ProductId::from_file_name(&name))
        .ok_or_else(|| {
            CliError::usage(format!("{} has no name for a product", folder.display()))
                .hint("rename it with letters or digits")
        })
}

/// Publishes the folder, if it is not the newest version, and waits for the shop's head.
async fn publish(
    cx: &Context,
    ui: &mut Ui,
    serving: &Serving,
    folder: PathBuf,
    product: ProductId,
    chunker: Option<String>,
) -> Result<Published, CliError> {
    let request = Request::Publish(Box::new(request::Publish {
        source: Source::Path(folder),
        product,
        version: None,
        channel: None,
        title: None,
        description: None,
        price: None,
        notes: None,
        cover: None,
        import: Import {
            chunker,
            ..Import::default()
        },
        if_changed: true,
        dry_run: false,
        wait: Vec::new(),
        wait_seconds: None,
    }));
    let events = control::run(serving.node.clone(), request, None);
    let outcome = cx.consume(ui, events, super::row).await?;
    let Outcome::Publish(mut published) = outcome else {
        return Err(CliError::usage("a publish has another outcome"));
    };
    wait_for_head(&serving.node, &mut published).await?;
    if !published.signed {
        ui.warn("the shop's head is not signed yet; its links will answer when it is")?;
    }
    Ok(published)
}

fn links(serving: &Serving, published: &Published) -> serde_json::Value {
    let (gateway, name) = (&serving.gateway, serving.node.shop_name());
    let Published {
        product,
        version,
        cid,
        ..
    } = published;
    json!({
        "product": product,
        "version": version,
        "cid": cid,
        "shop_url": format!("{gateway}/ipns/{name}/"),
        "release_url": format!("{gateway}/ipns/{name}/p/{product}/{version}/"),
        "cid_url": format!("{gateway}/ipfs/{cid}"),
    })
}

async fn print_links(ui: &mut Ui, serving: &Serving, made: &Published) -> Result<(), CliError> {
    let links = links(serving, made);
    let link = |key: &str| links[key].as_str().unwrap_or_default().to_owned();
    let said = if made.released {
        "published"
    } else {
        "already published"
    };
    ui.note(format!(
        "{said}: {} {}, {}, {}, in {:.2} s",
        made.product,
        made.version,
        count(made.files, "file"),
        size(made.bytes),
        made.duration_seconds
    ))?;
    ui.line(format!("shop      {}", link("shop_url")))?;
    ui.line(format!("release   {}", link("release_url")))?;
    ui.line(format!("name      /ipns/{}", serving.node.shop_name()))?;
    ui.line(format!("CID       {}", made.cid))?;
    for address in useful(serving.addresses().await?) {
        ui.line(format!("peer      {address}"))?;
    }
    Ok(())
}

/// The addresses that are of use on another machine, or all where none is.
fn useful(addresses: Vec<String>) -> Vec<String> {
    let is_useful = |address: &&String| {
        let mut parts = address.split('/').skip(2);
        match parts.next().and_then(|ip| ip.parse().ok()) {
            Some(IpAddr::V4(ip)) => !ip.is_loopback() && !ip.is_link_local(),
            Some(IpAddr::V6(ip)) => !ip.is_loopback() && !ip.is_unicast_link_local(),
            None => true,
        }
    };
    let useful: Vec<_> = addresses.iter().filter(is_useful).cloned().collect();
    if useful.is_empty() { addresses } else { useful }
}

/// The settings, with another port in place of a default one that is taken.
fn with_free_ports(cx: &Context, ui: &mut Ui) -> Result<Config, CliError> {
    let mut config = cx.config().clone();
    let is_default = |key| {
        let explained = cx.settings.explain(key);
        explained.is_ok_and(|explained| explained.origin == Origin::Default)
    };
    let gateway = config.gateway.listen;
    if is_default("gateway.listen") && TcpListener::bind(gateway).is_err() {
        ui.note(format!("{gateway} is taken: the gateway gets a free port"))?;
        config.gateway.listen.set_port(0);
    }
    if !config.network.offline && is_default("network.listen") {
        for address in &mut config.network.listen {
            if let Some(free) = with_free_port(address) {
                ui.note(format!("{address} is taken: peers get a free port"))?;
                *address = free;
            }
        }
    }
    Ok(config)
}

/// The multiaddr with port 0, if its own port is taken: `/ip4/0.0.0.0/tcp/4101`.
fn with_free_port(address: &str) -> Option<String> {
    let mut parts: Vec<&str> = address.split('/').collect();
    let ["", _, ip, transport, port, ..] = parts.as_mut_slice() else {
        return None;
    };
    let at = (*ip, port.parse::<u16>().ok()?);
    let error = match *transport {
        "tcp" => TcpListener::bind(at).err(),
        "udp" => UdpSocket::bind(at).err(),
        _ => None,
    }?;
    // Without IPv6, say, another port does not help; the network leaves such an address out.
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return None;
    }
    *port = "0";
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_port_becomes_a_free_one_and_a_free_port_stays() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let address = format!("/ip4/127.0.0.1/tcp/{port}");
        assert_eq!(
            with_free_port(&address).as_deref(),
            Some("/ip4/127.0.0.1/tcp/0")
        );
        drop(taken);
        assert_eq!(with_free_port("/ip4/127.0.0.1/udp/0/quic-v1"), None);
        assert_eq!(with_free_port("/dns4/x"), None);
    }

    #[test]
    fn addresses_that_are_of_no_use_elsewhere_are_left_out_when_there_are_others() {
        let own = [
            "/ip4/127.0.0.1/tcp/4101/p2p/12D3",
            "/ip6/::1/udp/4101/quic-v1/p2p/12D3",
            "/ip6/fe80::1/tcp/4101/p2p/12D3",
            "/ip4/169.254.3.4/tcp/4101/p2p/12D3",
        ];
        let others = [
            "/ip4/192.168.1.2/tcp/4101/p2p/12D3",
            "/ip6/fd00::2/tcp/4101/p2p/12D3",
            "/dns4/shop.example/tcp/4101/p2p/12D3",
        ];
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            useful(owned(&[own.as_slice(), &others].concat())),
            owned(&others)
        );
        assert_eq!(useful(owned(&own)), owned(&own));
    }

    #[test]
    fn product_is_named_after_the_folder() {
        let name = |path: &str| product_of(Path::new(path)).map(String::from).ok();
        assert_eq!(name("/nowhere/My Album"), Some("my-album".to_owned()));
        assert_eq!(name("/"), None);
    }
}
