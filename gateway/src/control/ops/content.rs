//! Content that is no release: add, cat, ls.

use cid::Cid;
use duka_node::block::RAW;
use duka_node::blocking::blocking;
use duka_node::dag::import::{ImportError, Imported, Sink, import_path, import_reader};
use duka_node::dag::read;
use duka_node::dag::unixfs::{Link, UnixFs};
use duka_node::fetch::{FetchOptions, Fetcher};
use duka_node::node::Node;
use duka_node::pin::{self, PinRequest};
use duka_node::rate::Rate;
use duka_node::recent;
use duka_node::store::PackKind;
use futures::{StreamExt, TryStreamExt};

use super::import::{self, ImportProgress};
use super::{content_at, locate, resolve};
use crate::control::Input;
use crate::control::event::{Event, Item, Outcome, Progress};
use crate::control::failure::{Code, Failure};
use crate::control::file::file_size;
use crate::control::recorded::{Sum, recorded_files};
use crate::control::request::{Add, Source};
use crate::control::sink::EventSink;

/// Entries of a directory that are looked at ahead of the reader.
const LOOK_AHEAD: usize = 16;

pub(super) async fn add(
    node: &Node,
    args: Add,
    input: Option<Input>,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let options = import::options(&args.import)?;
    let target = if args.only_hash {
        Sink::Discard
    } else {
        Sink::Store(node.store().clone(), PackKind::Kept)
    };
    let progress = ImportProgress::new(sink);
    let (callback, import_options) = (progress.callback(), options.clone());
    let source = args.source.clone();
    let reader = match source {
        Source::Path(_) => None,
        Source::Stdin(_) => Some(stdin(input)?),
    };
    let work = blocking(move || match (source, reader) {
        (Source::Path(path), _) => import_path(&target, &path, &import_options, &callback),
        (Source::Stdin(_), Some(mut reader)) => {
            import_reader(&target, &mut *reader, &import_options, &callback)
        }
        (Source::Stdin(_), None) => Err(ImportError::Stopped),
    });
    let mut temp_pin = node.temp_pin();
    let tree: Imported = progress.run(&args.source, &options, work).await?;
    temp_pin.hold(tree.root);
    if !args.only_hash {
        node.commit_blocks().await?;
    }
    match args.pin {
        _ if args.only_hash => {}
        true => pin_stored(node, tree.root).await?,
        false => recent::note(node, [tree.root]).await?,
    }
    Ok(Outcome::Add {
        cid: tree.root.to_string(),
        files: tree.files.len() as u64,
        bytes: tree.bytes,
        new_bytes: tree.new_bytes,
    })
}

pub(super) async fn cat(
    node: &Node,
    path: &str,
    source: FetchOptions,
    (offset, length): (u64, Option<u64>),
    rate: Option<u64>,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let located = locate(node, path, &source.gateways).await?;
    let fetcher = &node.fetcher(source).limited(rate.map(Rate::new));
    let cid = content_at(path, &located, fetcher).await?;
    let size = file_size(fetcher, &cid, path).await?;
    let start = offset.min(size);
    let end = length.map_or(size, |length| start.saturating_add(length).min(size));
    let is_whole = end - start == size;
    let record = match is_whole {
        true => recorded_files(fetcher, located.root, &located.segments).await?,
        false => None,
    };
    let mut sum = Sum::of(record);
    let mut bytes = 0;
    let mut file = read::read_range(fetcher, cid, start..end).boxed();
    while let Some(data) = file.try_next().await? {
        bytes += data.len() as u64;
        sum.add(&data);
        sink.send(Event::Data(data)).await;
        sink.progress(Progress::new(bytes, Some(end - start)));
    }
    sum.check()?;
    Ok(Outcome::Cat {
        cid: cid.to_string(),
        bytes,
    })
}

pub(super) async fn ls(node: &Node, path: &str, sink: &EventSink) -> Result<Outcome, Failure> {
    let fetcher = node.fetcher(FetchOptions::cached());
    let cid = resolve(node, path, &fetcher).await?;
    if !matches!(
        read::load(&fetcher, &cid).await?,
        UnixFs::Directory(_) | UnixFs::Shard(_)
    ) {
        let message = format!("{path} is not a directory");
        return Err(Failure::new(Code::Permanent, message).hint("`duka cat` shows a file"));
    }
    let mut entries = read::list(&fetcher, cid)
        .map_ok(|link| entry(&fetcher, link))
        .try_buffered(LOOK_AHEAD)
        .boxed();
    let mut count = 0;
    while let Some(entry) = entries.try_next().await? {
        count += 1;
        sink.item(entry).await;
    }
    Ok(Outcome::List { count })
}

/// An entry with its type and size. One that cannot be had is listed without a type.
async fn entry<E>(fetcher: &Fetcher, link: Link) -> Result<Item, E> {
    let (entry_type, size) = if link.cid.codec() == RAW {
        (Some("file"), link.tsize)
    } else {
        match read::load(fetcher, &link.cid).await {
            Ok(UnixFs::File(file)) => (Some("file"), file.size),
            Ok(UnixFs::Directory(_) | UnixFs::Shard(_)) => (Some("directory"), link.tsize),
            Ok(UnixFs::Symlink { .. }) => (Some("symlink"), link.tsize),
            Err(_) => (None, link.tsize),
        }
    };
    Ok(Item::Entry {
        name: String::from_utf8_lossy(&link.name).into_owned(),
        cid: link.cid.to_string(),
        entry_type: entry_type.map(str::to_owned),
        size,
    })
}

/// Pins a DAG that is all in the store.
pub(super) async fn pin_stored(node: &Node, cid: Cid) -> Result<(), Failure> {
    let request = PinRequest {
        cid,
        recursive: true,
        name: None,
        fetch: FetchOptions::offline(),
    };
    let mut progress = std::pin::pin!(pin::add(node, request));
    while let Some(step) = progress.next().await {
        step?;
    }
    Ok(())
}

/// Standard input, which the command line sends along.
pub(super) fn stdin(input: Option<Input>) -> Result<Input, Failure> {
    input.ok_or_else(|| Failure::new(Code::Usage, "nothing was sent as standard input"))
}
