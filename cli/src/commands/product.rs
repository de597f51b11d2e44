//! `duka product`.

use clap::{Subcommand, ValueEnum};
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::Request;
use duka_node::human::printable;
use duka_node::ids::{ProductId, Version};
use duka_node::product::Setting;

use super::unsigned;
use super::value::Value;
use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, size};

/// Show the products of the shop and their versions, and change what they say
///
///     duka product list
///     duka product history album
///     duka product set album price 9.50USD
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

    /// Compare two versions: files added, removed and changed, and what an upgrade costs
    ///
    ///     duka product diff album 1.1 1.2
    ///     duka --json product diff album 1.1 1.2
    ///     duka product diff album 1.1 1.2 | grep ^changed
    ///
    /// Nothing is downloaded: both versions are compared by their trees. Bytes are those of blocks that the
    /// newer version has and the older one lacks.
    #[command(verbatim_doc_comment)]
    Diff {
        /// Product id, as in `duka product list`
        id: ProductId,
        /// The older version
        from: Version,
        /// The newer version
        to: Version,
    },

    /// Change what a product says: title, description, price, cover
    ///
    ///     duka product set album title "Songs of the harbour"
    ///     duka product set album description --file about.md
    ///     duka product set album cover front.jpg
    #[command(verbatim_doc_comment)]
    Set {
        /// Product id, as in `duka product list`
        id: ProductId,
        /// What
        key: Key,
        #[command(flatten)]
        value: Value,
    },

    /// Take away what a product says
    ///
    ///     duka product unset album price
    ///     duka product unset album cover
    ///     duka --json product unset album description
    #[command(verbatim_doc_comment)]
    Unset {
        /// Product id, as in `duka product list`
        id: ProductId,
        /// What
        key: Key,
    },
}

/// What a product says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Key {
    /// Title shown to buyers
    Title,
    /// Description shown to buyers, Markdown
    Description,
    /// Price, such as 9.50USD
    Price,
    /// Cover picture, a file of 16 MiB and 52 MiB decoded at most: 4000 × 4000 pixels
    Cover,
}

/// Runs a subcommand.
pub(crate) async fn run(args: Product, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = match args {
        Product::List => Request::ProductList,
        Product::Show { id } => Request::ProductShow { product: id },
        Product::History { id } => Request::ProductHistory { product: id },
        Product::Diff { id, from, to } => Request::ProductDiff {
            product: id,
            from,
            to,
        },
        Product::Set { id, key, value } => Request::ProductSet {
            product: id,
            setting: setting(key, value, ui)?,
        },
        Product::Unset { id, key } => Request::ProductSet {
            product: id,
            setting: match key {
                Key::Title => {
                    return Err(CliError::usage("a product always has a title")
                        .hint("`duka product set ID title TEXT` gives it another one"));
                }
                Key::Description => Setting::Description(None),
                Key::Price => Setting::Price(None),
                Key::Cover => Setting::Cover(None),
            },
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
            ui.line(format!("title\t{}", printable(&product.title)))?;
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
                let lines = description.trim_end().lines().map(printable);
                let lines: Vec<_> = lines.collect();
                ui.line(format!("\n{}", lines.join("\n")))?;
            }
            Ok(())
        }
        Outcome::ProductDiff {
            added,
            removed,
            changed,
            unchanged,
            bytes,
            buyer_bytes,
            mirror_bytes,
            creator_bytes,
            missing_blocks,
            ..
        } => {
            ui.note(format!(
                "{added} added, {removed} removed, {changed} changed, {unchanged} the same; of {} an upgrade \
                 downloads {} ({}), a mirror fetches {}, the creator stores {}",
                size(*bytes),
                size(*buyer_bytes),
                percent(*buyer_bytes, *bytes),
                size(*mirror_bytes),
                size(*creator_bytes)
            ))?;
            match missing_blocks {
                0 => Ok(()),
                missing => ui.warn(format!(
                    "{} not stored here and not counted: run `duka fsck`",
                    match missing {
                        1 => "1 block is".to_owned(),
                        several => format!("{several} blocks are"),
                    }
                )),
            }
        }
        Outcome::ProductSet { signed: false, .. } => unsigned(ui),
        Outcome::ProductSet { product, .. } => {
            ui.note(format!("the shop's new head has {product} with it"))
        }
        _ => Ok(()),
    }
}

fn percent(part: u64, of: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / (of.max(1)) as f64)
}

fn setting(key: Key, value: Value, ui: &mut Ui) -> Result<Setting, CliError> {
    Ok(match key {
        Key::Title => Setting::Title(value.one()?.trim_end().to_owned()),
        Key::Description => Setting::Description(Some(value.one()?)),
        Key::Price => {
            let price = value.one()?;
            let parsed = crate::price::parse(price.trim());
            super::publish::warn_of_price(ui)?;
            Setting::Price(Some(parsed.map_err(CliError::usage)?))
        }
        Key::Cover => Setting::Cover(Some(super::import::existing(&value.path()?)?)),
    })
}
