//! `duka get`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use duka_gateway::control::event::{Outcome, Progress};
use duka_gateway::control::executables::executables;
use duka_gateway::control::failure::Failure;
use duka_gateway::control::file::file_size;
use duka_gateway::control::request::{self, Request};
use duka_node::dag::path::{self, ContentPath, Root};
use duka_node::dag::read;
use duka_node::get::{self, GetOptions};
use duka_node::source::trustless::TrustlessSource;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use url::Url;

use super::import::absolute;
use crate::context::{Context, Signals};
use crate::error::CliError;
use crate::gateways;
use crate::reference::Reference;
use crate::ui::{Ui, count, size};

/// Download a file or a folder; every block is verified
///
///     duka get http://127.0.0.1:8899/ipns/k51…/p/album/stable -o album
///     duka get bafy… --gateway https://a.example --gateway https://b.example
///     duka get /ipns/k51…/p/album/1.2 -o album --update
///
/// Peers are asked, and the gateways; with gateways and without a running node they alone. Run again
/// after an interruption, it goes on where it stopped. The output appears when it is whole, or not
/// at all.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Get {
    /// CID, /ipfs/CID/path, /ipns/NAME/path, or the URL of one at a gateway
    reference: String,

    /// Where to; `-` writes a file to standard output [default: the last name of the path, or the CID]
    #[arg(long, short, value_name = "OUT")]
    output: Option<PathBuf>,

    /// Gateway to ask; may be given several times
    #[arg(long, value_name = "URL")]
    gateway: Vec<String>,

    /// Go on with what an interrupted run left; this is the default
    #[arg(long = "continue", short = 'c', conflicts_with = "restart")]
    resume: bool,

    /// Begin anew
    #[arg(long)]
    restart: bool,

    /// Write into an existing folder: files that differ are replaced, others stay
    #[arg(long)]
    update: bool,
}

/// Downloads: through the running node, or from gateways without any node.
pub(crate) async fn run(args: Get, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let reference = Reference::parse(&args.reference)?;
    let mut gateways = gateways::given(cx, &args.gateway)?;
    if let Some(gateway) = &reference.gateway {
        gateways::refuse_offline(cx, gateway)?;
        gateways.push(gateway.clone());
    }
    if args.output.as_deref() == Some(Path::new("-")) {
        return to_stdout(cx, ui, &reference.path, gateways).await;
    }
    let out = match &args.output {
        Some(out) => absolute(out)?,
        None => absolute(Path::new(&default_name(&reference.path)))?,
    };
    let outcome = if let Some(source) = gateways::alone(cx, &gateways).await? {
        let options = GetOptions {
            update: args.update,
            restart: args.restart,
            window: cx.config().network.limits.window,
            executables: Vec::new(),
        };
        from_gateways(ui, source, &reference.path, &out, options).await?
    } else {
        let request = Request::Get(request::Get {
            path: reference.path.to_string(),
            out: out.clone(),
            gateways: gateways.iter().map(Url::to_string).collect(),
            update: args.update,
            restart: args.restart,
        });
        cx.run(ui, request, None, super::row).await?
    };
    ui.outcome(&outcome, |ui| {
        let Outcome::Get {
            path,
            files,
            bytes,
            fetched,
            reused,
            ..
        } = &outcome
        else {
            return Ok(());
        };
        ui.note(format!(
            "{}, {}: {} fetched, {} were here",
            count(*files, "file"),
            size(*bytes),
            size(*fetched),
            size(*reused)
        ))?;
        ui.line(path)
    })
}

/// Writes one file to standard output, as `cat` does.
async fn to_stdout(
    cx: &Context,
    ui: &mut Ui,
    path: &ContentPath,
    gateways: Vec<Url>,
) -> Result<(), CliError> {
    ui.data_only();
    let Some(source) = gateways::alone(cx, &gateways).await? else {
        let request = Request::Cat {
            path: path.to_string(),
            offset: 0,
            length: None,
            gateways: gateways.iter().map(Url::to_string).collect(),
        };
        cx.run(ui, request, None, super::row).await?;
        return Ok(());
    };
    let mut signals = Signals::new()?;
    let write = async {
        let (root, segments) = gateways::locate(&source, path).await?;
        let found = path::resolve(&source, root, &segments)
            .await
            .map_err(Failure::from)?;
        let size = file_size(&source, &found.cid, &path.to_string()).await?;
        let mut file = read::read_range(&source, found.cid, 0..size).boxed();
        while let Some(data) = file.try_next().await.map_err(Failure::from)? {
            ui.bytes(&data)?;
        }
        Ok(())
    };
    tokio::select! {
        written = write => written,
        error = signals.next() => Err(error),
    }
}

/// The last name of the path, or what it begins with.
fn default_name(path: &ContentPath) -> String {
    match path.segments.last() {
        Some(name) => name.clone(),
        None => match &path.root {
            Root::Cid(cid) => cid.to_string(),
            Root::Name(name) => name.to_string(),
            Root::Domain(domain) => domain.clone(),
        },
    }
}

/// Downloads over the trustless protocol, with neither a node nor a data directory.
async fn from_gateways(
    ui: &mut Ui,
    source: TrustlessSource,
    path: &ContentPath,
    out: &Path,
    mut options: GetOptions,
) -> Result<Outcome, CliError> {
    let (sender, mut progress) = mpsc::channel(16);
    let work = async {
        let (root, segments) = gateways::locate(&source, path).await?;
        let found = path::resolve(&source, root, &segments)
            .await
            .map_err(Failure::from)?;
        options.executables = executables(&source, root, &segments).await?;
        let on_progress: get::OnProgress = Arc::new(move |bytes, total| {
            let _reader_is_behind = sender.try_send(Progress { bytes, total });
        });
        let got = get::get(&source, found.cid, out, &options, on_progress)
            .await
            .map_err(Failure::from)?;
        Ok::<_, CliError>((found.cid, got))
    };
    let mut work = std::pin::pin!(work);
    let mut signals = Signals::new()?;
    loop {
        tokio::select! {
            done = work.as_mut() => {
                let (cid, got) = done?;
                return Ok(Outcome::Get {
                    cid: cid.to_string(),
                    path: out.display().to_string(),
                    files: got.files,
                    bytes: got.bytes,
                    fetched: got.fetched,
                    reused: got.reused,
                });
            }
            Some(now) = progress.recv() => ui.progress(now)?,
            error = signals.next() => return Err(error),
        }
    }
}
