//! A publish.

use std::time::Instant;

use duka_node::node::Node;
use duka_node::publish::{self, PublishOptions};

use super::import::{self, ImportProgress};
use super::prove;
use crate::control::Input;
use crate::control::event::Outcome;
use crate::control::failure::Failure;
use crate::control::request::{Publish, Source};
use crate::control::sink::EventSink;

pub(super) async fn publish(
    node: &Node,
    args: Publish,
    input: Option<Input>,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let waiting = prove::Waiting::new(node, &args).await?;
    let import = import::options(&args.import)?;
    let options = PublishOptions {
        version: args.version,
        channel: args.channel,
        title: args.title,
        description: args.description,
        price: args.price,
        notes: args.notes,
        cover: args.cover,
        ignore: import.ignore.clone(),
        hidden: import.hidden,
        if_changed: args.if_changed,
        dry_run: args.dry_run,
        preserve_mode: import.preserve_mode,
        preserve_mtime: import.preserve_mtime,
        in_place: import.in_place,
        reflink: import.reflink,
        profile: import::profile(&args.import)?,
        chunker: import.chunker,
        ..PublishOptions::new(args.product)
    };
    let source = match &args.source {
        Source::Path(path) => publish::Source::Path(path.clone()),
        Source::Stdin(name) => publish::Source::Reader {
            name: name.clone(),
            reader: super::content::stdin(input)?,
        },
    };
    let progress = ImportProgress::new(sink);
    let work = publish::publish(node, source, options, progress.callback());
    let mut published = progress.run(&args.source, &import, work).await?;
    if let Some(waiting) = waiting {
        published.proved_by = waiting.until_proved(node, &published, started).await?;
        published.signed = true;
    }
    Ok(Outcome::Publish(published))
}
