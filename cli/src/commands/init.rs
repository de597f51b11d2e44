//! `duka init`.

use clap::Args;
use duka_gateway::control::failure::Failure;
use duka_node::keys::name_of;
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
/// Run again, it changes nothing. `up`, `serve`, `publish` and `add` do this by themselves.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Init {}

/// Makes them.
pub(crate) fn run(_args: &Init, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let made = duka_node::node::init(&cx.data_dir).map_err(Failure::from)?;
    let name = name_of(&made.keys.shop).to_string();
    if made.new {
        ui.note(format!("made a new shop in {}", cx.data_dir.display()))?;
        ui.note(back_up(&made.shop_key))?;
    } else {
        ui.note(format!("the shop in {} was there", cx.data_dir.display()))?;
    }
    ui.result(
        "init",
        json!({
            "name": name,
            "peer_id": made.keys.peer.public().to_peer_id().to_string(),
            "new": made.new,
            "data_dir": cx.data_dir,
            "shop_key": made.shop_key,
        }),
    )?;
    ui.line(name)
}
