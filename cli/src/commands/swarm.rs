//! `duka swarm`.

use clap::Subcommand;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::Request;

use crate::context::Context;
use crate::error::CliError;
use crate::ui::Ui;

/// List the connected peers, and connect to others
///
///     duka swarm peers
///     duka swarm connect /ip4/203.0.113.5/tcp/4101/p2p/12D3KooW…
///     duka --json swarm peers
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum Swarm {
    /// List connected peers: id, address, program, ping
    ///
    ///     duka swarm peers
    ///     duka --json swarm peers
    ///     duka swarm peers | wc -l
    #[command(verbatim_doc_comment)]
    Peers,

    /// Connect to a peer and remember it
    ///
    ///     duka swarm connect /ip4/203.0.113.5/tcp/4101/p2p/12D3KooW…
    ///     duka swarm connect /dns4/mirror.example/udp/4101/quic-v1/p2p/12D3KooW…
    ///     duka --timeout 10s swarm connect /ip4/127.0.0.1/tcp/4001/p2p/12D3KooW…
    #[command(verbatim_doc_comment)]
    Connect {
        /// Multiaddr with /p2p/PEER-ID
        address: String,
    },
}

/// Runs a subcommand.
pub(crate) async fn run(args: Swarm, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = match args {
        Swarm::Peers => Request::SwarmPeers,
        Swarm::Connect { address } => Request::SwarmConnect { address },
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::SwarmConnect { peer_id } => ui.line(format!("connected to {peer_id}")),
        _ => Ok(()),
    })
}
