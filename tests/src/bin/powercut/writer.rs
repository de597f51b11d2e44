//! The writer: looks for what was acknowledged before, then writes until it is stopped.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result};
use bytes::Bytes;
use bytesize::ByteSize;
use cid::Cid;
use duka_config::Config;
use duka_node::block::{Block, RAW};
use duka_node::dag::import::{ImportOptions, Sink, import_reader};
use duka_node::disk::Disk;
use duka_node::fetch::FetchOptions;
use duka_node::gc::{self, GcOptions};
use duka_node::manifest::change::{Change, Op};
use duka_node::manifest::{Manifest, ManifestOptions};
use duka_node::node::{self, Node};
use duka_node::pin::{self, PinRequest};
use duka_node::publish::{PublishOptions, Source, publish};
use duka_node::store::{PackKind, Store, StoreOptions};
use duka_tests::disk::Hooked;
use duka_tests::disk::point::{Namer, SyncKind};
use futures::TryStreamExt;

use crate::Workload;
use crate::fact::{Checker, Fact, Line};
use crate::ledger;
use crate::point::{Point, Switches};
use crate::session::mix;

/// Packs are small, so that many are sealed.
const PACK_SIZE: u64 = 3 << 20;
/// Files in a folder of small ones.
const SMALL_FILES: u64 = 60;
/// Pins that are there at once.
const MOST_PINS: usize = 12;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    dir: PathBuf,
    /// What must be so
    #[arg(long)]
    facts: PathBuf,
    /// For files to publish
    #[arg(long)]
    scratch: PathBuf,
    #[arg(long)]
    workload: Workload,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    without_sync: Option<SyncKind>,
    #[arg(long)]
    buffered: bool,
    #[arg(long)]
    kill_at: Option<Point>,
    /// How often the point is passed before
    #[arg(long, default_value_t = 0)]
    passes: u64,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let disk = Hooked::shared(Switches {
        namer: Namer::default(),
        without_sync: args.without_sync,
        kill_at: args.kill_at.map(|point| (point, args.passes)),
        passed: AtomicU64::new(0),
        buffered: args.buffered,
    });
    match args.workload {
        Workload::Blocks => blocks(args, disk),
        Workload::Checkpoint => changes(args, disk),
        _ => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            runtime.block_on(whole_node(args, disk))
        }
    }?;
    Ok(ExitCode::FAILURE)
}

/// Prints a line at once.
fn say(line: &Line) -> Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(std::io::stdout().lock().write_all(&text)?)
}

/// Looks for everything that was acknowledged, and says what came of it.
fn look(args: &Args, store: Option<&Store>, manifest: Option<&Manifest>) -> Result<()> {
    let mut checker = Checker {
        store,
        manifest,
        whole: HashSet::new(),
    };
    let facts = ledger::load(&args.facts)?;
    let found = facts.iter().try_for_each(|fact| checker.check(fact));
    say(&match &found {
        Ok(()) => Line::Ready,
        Err(loss) => Line::Lost(format!("{loss:#}")),
    })?;
    found
}

/// What cannot be opened is lost.
fn opened<T, E: Into<anyhow::Error>>(opened: Result<T, E>) -> Result<T> {
    let opened = opened.map_err(Into::into);
    if let Err(error) = &opened {
        say(&Line::Lost(format!("it does not open: {error:#}")))?;
    }
    opened
}

fn blocks(args: &Args, disk: Arc<dyn Disk>) -> Result<()> {
    let options = StoreOptions {
        pack_size: PACK_SIZE,
        reserve: 0,
        ..StoreOptions::default()
    };
    let (store, _) = opened(Store::open_on(disk, &args.dir.join("blocks"), options))?;
    look(args, Some(&store), None)?;
    for round in 0.. {
        let seed = mix(args.seed ^ round);
        let block = |number| {
            let seed = mix(seed ^ number);
            Block::of(RAW, Bytes::from(random_bytes(seed, 100 + seed % 200_000)))
        };
        let batch: Vec<Block> = (1..2 + seed % 12).map(block).collect();
        say(&Line::Begin(None))?;
        store.put(PackKind::Kept, &batch)?;
        store.commit()?;
        for block in &batch {
            say(&Line::Done(Fact::Block(*block.cid())))?;
        }
    }
    Ok(())
}

fn changes(args: &Args, disk: Arc<dyn Disk>) -> Result<()> {
    let options = ManifestOptions {
        journal_limit: 16 << 10,
        reserve: 0,
    };
    std::fs::create_dir_all(&args.dir)?;
    let (manifest, _) = opened(Manifest::open_on(disk, &args.dir.join("manifest"), options))?;
    look(args, None, Some(&manifest))?;
    for round in 0.. {
        let seed = mix(args.seed ^ round);
        let fact = Fact::State {
            key: format!("key {}", seed % 200),
            value: format!("{seed:x}").repeat(1 + usize::try_from(seed % 90)?),
        };
        let Fact::State { key, value } = fact.clone() else {
            continue;
        };
        say(&Line::Begin(Some(fact.clone())))?;
        manifest.commit_blocking(Change {
            ops: vec![Op::PutState(key, value.into_bytes())],
            ..Change::default()
        })?;
        say(&Line::Done(fact))?;
    }
    Ok(())
}

async fn whole_node(args: &Args, disk: Arc<dyn Disk>) -> Result<()> {
    opened(node::init(&args.dir))?;
    let mut config = Config::default();
    config.network.offline = true;
    config.store.pack_size = ByteSize(PACK_SIZE);
    config.store.reserve = ByteSize(0);
    let node = opened(Node::open_on(disk, &args.dir, &config).await)?;
    look(args, Some(node.store()), Some(node.manifest()))?;
    let (seed, scratch) = (args.seed, &args.scratch);
    match args.workload {
        Workload::Publish => publish_files(&node, seed).await,
        Workload::Shared => publish_shared(&node, &args.dir, seed).await,
        Workload::Small => publish_folders(&node, scratch, seed).await,
        Workload::Pins => pin_and_unpin(&node, seed).await,
        Workload::Gc => tokio::try_join!(pin_and_unpin(&node, seed), collect(&node)).map(drop),
        _ => tokio::try_join!(
            publish_files(&node, mix(seed)),
            publish_folders(&node, scratch, mix(seed ^ 1)),
            pin_and_unpin(&node, mix(seed ^ 2)),
            collect(&node),
        )
        .map(drop),
    }
}

async fn publish_files(node: &Node, seed: u64) -> Result<()> {
    for round in 0.. {
        let seed = mix(seed ^ round);
        let bytes = random_bytes(seed, 1_000_000 + seed % 5_000_000);
        let source = Source::Reader {
            name: "file".to_owned(),
            reader: Box::new(std::io::Cursor::new(bytes)),
        };
        release(node, "files", source).await?;
    }
    Ok(())
}

/// The files are on the disk of the data directory.
async fn publish_shared(node: &Node, dir: &Path, seed: u64) -> Result<()> {
    let file = dir.with_file_name("source");
    for round in 0.. {
        let seed = mix(seed ^ round);
        let bytes = random_bytes(seed, 1_100_000 + seed % 5_000_000);
        std::fs::write(&file, bytes)?;
        release(node, "shared", Source::Path(file.clone())).await?;
    }
    Ok(())
}

async fn publish_folders(node: &Node, scratch: &Path, seed: u64) -> Result<()> {
    for round in 0.. {
        let seed = mix(seed ^ round);
        let folder = tempfile::tempdir_in(scratch)?;
        for file in 0..SMALL_FILES {
            let bytes = random_bytes(mix(seed ^ file), 4096);
            std::fs::write(folder.path().join(file.to_string()), bytes)?;
        }
        let source = Source::Path(folder.path().to_owned());
        release(node, "folders", source).await?;
    }
    Ok(())
}

async fn release(node: &Node, product: &str, source: Source) -> Result<()> {
    say(&Line::Begin(None))?;
    let options = PublishOptions::new(product.parse()?);
    let published = publish(node, source, options, Arc::new(|_| true)).await?;
    say(&Line::Done(Fact::Released {
        product: product.to_owned(),
        version: published.version.to_string(),
        root: published.cid.parse()?,
    }))
}

async fn pin_and_unpin(node: &Node, seed: u64) -> Result<()> {
    let mut pinned = Vec::new();
    for row in node.manifest().pins() {
        let (cid, pin) = row?;
        if pin.name.is_none() {
            pinned.push(cid);
        }
    }
    for round in 0.. {
        let seed = mix(seed ^ round);
        if pinned.len() >= MOST_PINS || pinned.len() > 2 && seed.is_multiple_of(3) {
            let at = usize::try_from(seed)? % pinned.len();
            let cid = pinned.swap_remove(at);
            say(&Line::Begin(Some(Fact::Pinned(cid))))?;
            pin::remove(node, cid).await?;
            say(&Line::Done(Fact::Unpinned(cid)))?;
        } else {
            let cid = pin_new(node, seed).await?;
            pinned.push(cid);
        }
    }
    Ok(())
}

/// Pins what was not there before.
async fn pin_new(node: &Node, seed: u64) -> Result<Cid> {
    say(&Line::Begin(None))?;
    let mut temp_pin = node.temp_pin();
    let store = node.store().clone();
    let import = move || {
        let bytes = random_bytes(seed, 1_000 + seed % 3_000_000);
        let sink = Sink::Store(store, PackKind::Kept);
        let options = ImportOptions::default();
        import_reader(
            &sink,
            &mut bytes.as_slice(),
            &options,
            &(Arc::new(|_| true) as _),
        )
    };
    let cid = tokio::task::spawn_blocking(import).await??.root;
    temp_pin.hold(cid);
    let request = PinRequest {
        cid,
        recursive: true,
        name: None,
        fetch: FetchOptions::offline(),
    };
    let progress = std::pin::pin!(pin::add(node, request));
    progress
        .try_for_each(|_| std::future::ready(Ok(())))
        .await?;
    say(&Line::Done(Fact::Pinned(cid)))?;
    Ok(cid)
}

async fn collect(node: &Node) -> Result<()> {
    let options = GcOptions {
        dry_run: false,
        seal: true,
        bytes_per_second: 0,
        spare_recent: false,
    };
    loop {
        gc::collect(node, options)
            .await
            .context("collecting garbage")?;
        tokio::task::yield_now().await;
    }
}

fn random_bytes(seed: u64, len: u64) -> Vec<u8> {
    let len = usize::try_from(len).unwrap_or(0);
    let mut bytes = vec![0; len.next_multiple_of(8)];
    for (word, chunk) in (0..).zip(bytes.chunks_exact_mut(8)) {
        chunk.copy_from_slice(&mix(seed ^ word << 32).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
