//! `duka id`.

use clap::Args;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::Request;

use crate::context::Context;
use crate::error::CliError;
use crate::ui::Ui;

/// Show the shop's name, the peer id and the addresses
///
///     duka id
///     duka --json id
///     duka --data-dir /srv/shop id
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Id {}

/// Shows.
pub(crate) async fn run(_args: &Id, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let outcome = cx.run(ui, Request::Id, None, super::row).await?;
    ui.outcome(&outcome, |ui| {
        let Outcome::Id {
            peer_id,
            name,
            addresses,
        } = &outcome
        else {
            return Ok(());
        };
        ui.line(format!("name\t{name}\npeer id\t{peer_id}"))?;
        for address in addresses {
            ui.line(format!("address\t{address}"))?;
        }
        Ok(())
    })
}
