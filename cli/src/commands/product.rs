//! `duka product`.

use clap::Subcommand;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::Request;
use duka_node::ids::{ProductId, Version};

use crate::context::Context;
use crate::error::CliError;
use crate::ui::Ui;

/// Show the products of the shop and their versions, and withdraw a version
///
///     duka product list
///     duka product history album
///     duka product yank album 1.2
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum Product {
    /// List all products: id, title, price, releases
    ///
    ///     duka product list
    ///     duka --json product list
    ///     duka product list | cut -f1
    #[command(verbatim_doc_comment)]
    List,

    /// Show one product
    ///
    ///     duka product show album
    ///     duka --json product show album
    ///     duka --data-dir /srv/shop product show album
    #[command(verbatim_doc_comment)]
    Show {
        /// Product id, as in `duka product list`
        id: ProductId,
    },

    /// List the versions of a product, oldest first
    ///
    ///     duka product history album
    ///     duka --json product history album
    ///     duka product history album | tail -1
    #[command(verbatim_doc_comment)]
    History {
        /// Product id, as in `duka product list`
        id: ProductId,
    },

    /// Withdraw a version: it is no longer offered, but stays downloadable by its number
    ///
    ///     duka product yank album 1.2
    ///     duka --json product yank album 1.2
    ///     duka --data-dir /srv/shop product yank album 1.2
    #[command(verbatim_doc_comment)]
    Yank {
        /// Product id, as in `duka product list`
        id: ProductId,
        /// The version to withdraw, such as 1.2
        version: Version,
    },
}

/// Runs a subcommand.
pub(crate) async fn run(args: Product, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = match args {
        Product::List => Request::ProductList,
        Product::Show { id } => Request::ProductShow { product: id },
        Product::History { id } => Request::ProductHistory { product: id },
        Product::Yank { id, version } => Request::ProductYank {
            product: id,
            version,
        },
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| show(&outcome, ui))
}

fn show(outcome: &Outcome, ui: &mut Ui) -> Result<(), CliError> {
    match outcome {
        Outcome::ProductShow {
            product,
            description,
            newest,
        } => {
            ui.line(format!("product\t{}", product.product))?;
            ui.line(format!("title\t{}", product.title))?;
            ui.line(format!(
                "price\t{}",
                product.price.as_deref().unwrap_or("free")
            ))?;
            ui.line(format!("created\t{}", product.created))?;
            ui.line(format!("releases\t{}", product.releases))?;
            for (channel, version) in &product.channels {
                ui.line(format!("channel\t{channel}\t{version}"))?;
            }
            if let Some(newest) = newest {
                let yanked = newest.yanked.as_ref();
                let yanked = yanked.map_or_else(String::new, |time| format!("\tyanked {time}"));
                ui.line(format!(
                    "newest\t{}\t{}{yanked}",
                    newest.version, newest.cid
                ))?;
            }
            if !description.is_empty() {
                ui.line(format!("\n{}", description.trim_end()))?;
            }
            Ok(())
        }
        Outcome::ProductYank { product, version } => {
            ui.note(format!("{product} {version} is no longer offered"))
        }
        _ => Ok(()),
    }
}
