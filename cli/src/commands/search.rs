//! `duka search`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::Request;

use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, count};

/// Search the products of the shop
///
///     duka search lighthouse
///     duka search field recordings --limit 5
///     duka --json search ligthouse | jq -r .product
///
/// All words must be in title, id or description: as they are, as the beginning of a word, or with one
/// letter wrong (two in words of eight letters and more).
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Search {
    /// Words
    #[arg(required = true, value_parser = NonEmptyStringValueParser::new())]
    terms: Vec<String>,

    /// Most products that are shown
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
}

/// Shows what matches, best first.
pub(crate) async fn run(args: Search, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = Request::Search {
        terms: args.terms.join(" "),
        limit: args.limit.into(),
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| {
        let Outcome::Search { total } = &outcome else {
            return Ok(());
        };
        ui.note(match total {
            0 => "nothing matches".to_owned(),
            total => format!("{} found", count(*total, "product")),
        })
    })
}
