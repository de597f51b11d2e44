//! `duka config`.

use clap::Subcommand;
use duka_gateway::control::failure::{Code, Failure};
use serde_json::json;

use crate::context::Context;
use crate::error::CliError;
use crate::ui::Ui;

/// Show and explain the settings in use
///
///     duka config show
///     duka config explain network.listen
///     duka config show > ~/.config/duka/config.toml
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum Config {
    /// Print all settings as TOML
    ///
    ///     duka config show
    ///     duka config show > ~/.config/duka/config.toml
    ///     duka --json config show
    #[command(verbatim_doc_comment)]
    Show,

    /// Say what a setting means, what it is and where that came from
    ///
    ///     duka config explain network.listen
    ///     duka config explain gateway.listen
    ///     duka --offline config explain network.offline
    #[command(verbatim_doc_comment)]
    Explain {
        /// Key, such as network.listen
        key: String,
    },
}

/// Runs a subcommand.
pub(crate) fn run(args: Config, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    match args {
        Config::Show => {
            let settings = cx.settings.effective();
            ui.result("config-show", json!({ "config": settings }))?;
            ui.line(settings.to_string().trim_end())
        }
        Config::Explain { key } => {
            let explained = cx.settings.explain(&key).map_err(|error| {
                CliError::from(Failure::of(Code::NotFound, &error))
                    .hint("`duka config show` lists all settings")
            })?;
            let origin = explained.origin.to_string();
            ui.result(
                "config-explain",
                json!({
                    "key": explained.key,
                    "value": explained.value,
                    "origin": origin,
                    "default": explained.default,
                    "variable": explained.variable,
                    "meaning": explained.meaning,
                }),
            )?;
            ui.line(format!("{} = {}", explained.key, explained.value))?;
            ui.line(format!("from: {origin}"))?;
            ui.line(format!("default: {}", explained.default))?;
            ui.line(format!("variable: {}", explained.variable))?;
            ui.line(format!("\n{}", explained.meaning))
        }
    }
}
