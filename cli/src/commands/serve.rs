//! `duka serve`.

use clap::Args;
use serde_json::json;

use super::listen::{ListenArgs, check_addresses};
use super::serving::Serving;
use crate::context::{Context, Signals};
use crate::error::CliError;
use crate::ui::Ui;

/// Run the node in the foreground: peers, gateway and the commands of this machine
///
///     duka serve
///     duka serve --gateway 0.0.0.0:8899
///     duka serve --listen /ip4/0.0.0.0/tcp/4001 --bootstrap /dnsaddr/peer.example/p2p/12D3KooW…
///
///     duka serve --take-over
///
/// A line that begins with `ready` says that everything answers. Ctrl-C or SIGTERM finishes what is
/// under way and ends within ten seconds, with exit code 0.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) listen: ListenArgs,

    /// Take the place of the node that runs on this data directory: no request is dropped, and the other
    /// process ends when its downloads have
    #[arg(long)]
    take_over: bool,
}

/// Serves until a signal.
pub(crate) async fn run(args: Serve, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let mut signals = Signals::new()?;
    check_addresses(cx)?;
    cx.init(ui)?;
    let serving = Serving::start(cx, cx.config(), args.take_over).await?;
    let (gateway, name) = (&serving.gateway, serving.node.shop_name());
    ui.line(format!("ready gateway={gateway} name={name}"))?;
    serving.ready(ui, json!({})).await?;
    serving.run(ui, &mut signals).await?;
    ui.result("serve", json!({}))
}
