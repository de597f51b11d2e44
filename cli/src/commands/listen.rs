//! Arguments that `serve` and `up` share.

use std::net::SocketAddr;

use clap::Args;
use duka_config::Flag;
use duka_gateway::control::failure::Failure;
use duka_node::net;

use crate::context::Context;
use crate::error::CliError;

/// Where a node listens and whom it dials first.
#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// Where the gateway listens, such as 127.0.0.1:8899; port 0 lets the system choose
    #[arg(long, value_name = "ADDR", value_parser = gateway_address)]
    gateway: Option<SocketAddr>,

    /// Where peers connect, such as /ip4/0.0.0.0/tcp/4101; may be given several times
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<String>,

    /// First peers to dial instead of those in the settings; may be given several times
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

impl ListenArgs {
    /// The settings that the arguments stand for.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        if let Some(gateway) = self.gateway {
            flags.push(Flag {
                flag: "--gateway",
                key: "gateway.listen",
                value: gateway.to_string().into(),
            });
        }
        let lists = [
            ("--listen", "network.listen", &self.listen),
            ("--bootstrap", "network.bootstrap", &self.bootstrap),
        ];
        for (flag, key, list) in lists {
            if !list.is_empty() {
                let value = list.clone().into();
                flags.push(Flag { flag, key, value });
            }
        }
        flags
    }
}

fn gateway_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "it must be an IP address and a port, such as 127.0.0.1:8899")
}

/// Refuses addresses that are none, before anything is made; without a network, too.
pub(super) fn check_addresses(cx: &Context) -> Result<(), CliError> {
    Ok(net::check_addresses(&cx.config().network).map_err(Failure::from)?)
}
