//! `duka init`.

use clap::Args;
use duka_gateway::control::failure::Failure;
use duka_node::keys::Origin;
use serde_json::json;

use crate::context::{Context, back_up};
use crate::error::CliError;
use crate::ui::Ui;

/// Make the data directory and the keys
///
///     duka init
///     duka --data-dir /srv/shop init
///     DUKA_DATA_DIR=/srv/shop duka init
///
/// Run again, it changes nothing. A shop is restored in a new data directory from a copy of its
/// `keys/shop.key` alone. `up`, `serve`, `publish` and `add` do this by themselves.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Init {}

/// Makes them.
pub(crate) fn run(_args: &Init, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let made = duka_node::node::init(&cx.data_dir).map_err(Failure::from)?;
    let name = made.keys.shop.name().to_string();
    let data_dir = cx.data_dir.display();
    match made.origin {
        Origin::Made => {
            ui.note(format!("made a new shop in {data_dir}"))?;
            ui.note(back_up(&made.shop_key))?;
        }
        Origin::Restored => ui.note(format!("restored shop {name} in {data_dir}"))?,
        Origin::Found => ui.note(format!("the shop in {data_dir} was there"))?,
    }
    ui.result(
        "init",
        json!({
            "name": name,
            "peer_id": made.keys.peer.public().to_peer_id().to_string(),
            "new": made.origin == Origin::Made,
            "restored": made.origin == Origin::Restored,
            "data_dir": cx.data_dir,
            "shop_key": made.shop_key,
        }),
    )?;
    ui.line(name)
}
