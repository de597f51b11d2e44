//! `duka get`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytesize::ByteSize;
use clap::Args;
use duka_gateway::control::event::{Givers, Outcome, Progress, Source};
use duka_gateway::control::failure::{Code, Failure};
use duka_gateway::control::file::file_size;
use duka_gateway::control::recorded::{Sum, recorded_files};
use duka_gateway::control::request::{self, Request};
use duka_node::dag::path::{self, ContentPath};
use duka_node::dag::read;
use duka_node::get::{self, GetOptions};
use duka_node::rate::Rate;
use duka_node::source::trustless::TrustlessSource;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use url::Url;

use super::import::absolute;
use crate::context::{Context, Signals};
use crate::error::CliError;
use crate::gateways::{self, Tries};
use crate::shop::{self, Located};
use crate::ui::{Ui, count, size};

/// Download a product, a file or a folder; every block is verified
///
///     duka get https://gateway.example/ipns/k51…/album -o album
///     duka get songs/album:beta --mirror https://a.example --mirror https://b.example
///     duka get songs/album@1.2 -o album --update
///
/// A shop is its k51… name, a domain with a DNSLink, or what you call it (`duka shop alias`). Of a
/// product comes the release of the channel `stable`, or the newest one; `@1.2` is that version,
/// `:beta` what that channel names. The newest head of a shop is remembered, and older ones and
/// false ones are refused; so are the gateways, which need not be given again.
///
/// Peers are asked, and the gateways, all at once; with gateways and without a running node they
/// alone. One that is slow or blocked is routed around, one that sends wrong bytes is asked no
/// more. Run again after an interruption, it goes on where it stopped, also where curl or a browser
/// did: with `-o` on their file, or `--from` it. With --update only what changed comes. The output
/// appears when it is whole, or not at all.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Get {
    /// SHOP/PRODUCT, CID, /ipfs/CID/path, /ipns/NAME/path, or the URL of one at a gateway
    reference: String,

    /// Where to; `-` writes a file to standard output [default: the product, the last name of the
    /// path, or the CID]
    #[arg(long, short, value_name = "OUT")]
    output: Option<PathBuf>,

    /// Gateway to ask; may be given several times
    #[arg(long, alias = "gateway", value_name = "URL")]
    mirror: Vec<String>,

    /// Gateways that are asked at a time [default: all]
    #[arg(long, short = 'x', value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_sources: Option<u16>,

    /// How often a gateway that failed is asked again for the same block [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1000))]
    retries: Option<u32>,

    /// Bytes a second that may come, such as 500K or 10MiB
    #[arg(long, value_name = "RATE", value_parser = rate)]
    bwlimit: Option<u64>,

    /// Go on with what an interrupted run left; this is the default
    #[arg(long = "continue", short = 'c', conflicts_with = "restart")]
    resume: bool,

    /// Begin anew
    #[arg(long)]
    restart: bool,

    /// File or folder that has parts of it, such as what a browser began to download
    /// (`.part`, `.crdownload`); may be given several times
    #[arg(long, value_name = "FILE")]
    from: Vec<PathBuf>,

    /// Write into an existing folder: files that differ are replaced, others stay
    #[arg(long)]
    update: bool,
}

/// A number of bytes a second, not 0.
fn rate(text: &str) -> Result<u64, String> {
    match text.parse::<ByteSize>() {
        Ok(rate) if rate.as_u64() > 0 => Ok(rate.as_u64()),
        Ok(_) => Err("nothing could come at that rate".to_owned()),
        Err(_) => Err("write it like 500K or 10MiB".to_owned()),
    }
}

/// What works with files is nothing for standard output.
fn refuse_files(args: &Get) -> Result<(), CliError> {
    let given = [
        ("--from", !args.from.is_empty()),
        ("--restart", args.restart),
        ("--continue", args.resume),
        ("--update", args.update),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => {
            let message = format!("{option} needs a file, and -o - is none");
            Err(CliError::usage(message).hint("leave it out, or give a file with -o"))
        }
        None => Ok(()),
    }
}

/// Downloads: through the running node, or from gateways without any node.
pub(crate) async fn run(args: Get, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let tries = Tries {
        retries: args.retries,
        max_sources: args.max_sources.map(usize::from),
    };
    let given = gateways::given(cx, &args.mirror)?;
    if args.output.as_deref() == Some(Path::new("-")) {
        refuse_files(&args)?;
        ui.data_only();
    }
    let Located {
        path,
        gateways,
        name,
    } = shop::locate(cx, ui, &args.reference, given, tries).await?;
    if args.output.as_deref() == Some(Path::new("-")) {
        return to_stdout(cx, ui, &path, gateways, tries, args.bwlimit).await;
    }
    let out = match &args.output {
        Some(out) => absolute(out)?,
        None => absolute(Path::new(&name))?,
    };
    let from: Vec<PathBuf> = args
        .from
        .iter()
        .map(|file| absolute(file))
        .collect::<Result<_, _>>()?;
    let missing = from.iter().find(|file| !file.exists());
    if let Some(missing) = missing {
        let message = format!("{} is not there", missing.display());
        return Err(CliError::new(Code::NotFound, message).hint("check what --from names"));
    }
    let got = if let Some(source) = gateways::alone(cx, &gateways, tries).await? {
        let options = GetOptions {
            update: args.update,
            restart: args.restart,
            window: cx.config().network.limits.window,
            from: from.clone(),
            record: None,
            rate: args.bwlimit,
        };
        let outcome = from_gateways(ui, &source, &path, &out, options).await;
        gateways::remember(cx, &source);
        outcome
    } else {
        let request = Request::Get(request::Get {
            path: path.to_string(),
            out: out.clone(),
            gateways: gateways.iter().map(Url::to_string).collect(),
            update: args.update,
            restart: args.restart,
            from,
            retries: tries.retries,
            max_sources: tries.max_sources,
            rate: args.bwlimit,
        });
        cx.run(ui, request, None, super::row).await
    };
    let outcome = got.map_err(|error| with_part(error, &out))?;
    ui.outcome(&outcome, |ui| {
        let Outcome::Get {
            path,
            files,
            bytes,
            fetched,
            reused,
            sources,
            ..
        } = &outcome
        else {
            return Ok(());
        };
        for source in sources {
            ui.note(line(source))?;
        }
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

/// Says where what came is.
fn with_part(error: CliError, out: &Path) -> CliError {
    let mut part = out.as_os_str().to_owned();
    part.push(".duka-part");
    match Path::new(&part).exists() {
        true => error.hint(format!(
            "what came is in {}: run it again to go on, or remove that",
            Path::new(&part).display()
        )),
        false => error,
    }
}

/// What a source gave, for people.
fn line(source: &Source) -> String {
    let errors = match source.errors {
        0 => String::new(),
        errors => format!(", {}", count(errors, "error")),
    };
    let lied = match source.lied {
        true => ", dropped for sending wrong bytes",
        false => "",
    };
    format!("{}: {}{errors}{lied}", source.source, size(source.bytes))
}

/// Writes one file to standard output, as `cat` does.
async fn to_stdout(
    cx: &Context,
    ui: &mut Ui,
    path: &ContentPath,
    gateways: Vec<Url>,
    tries: Tries,
    rate: Option<u64>,
) -> Result<(), CliError> {
    let Some(source) = gateways::alone(cx, &gateways, tries).await? else {
        let request = Request::Cat {
            path: path.to_string(),
            offset: 0,
            length: None,
            gateways: gateways.iter().map(Url::to_string).collect(),
            retries: tries.retries,
            max_sources: tries.max_sources,
            rate,
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
        let mut sum = Sum::of(recorded_files(&source, root, &segments).await?);
        let rate = rate.map(Rate::new);
        let mut file = read::read_range(&source, found.cid, 0..size).boxed();
        while let Some(data) = file.try_next().await.map_err(Failure::from)? {
            if let Some(rate) = &rate {
                rate.take(data.len() as u64).await;
            }
            sum.add(&data);
            ui.bytes(&data)?;
        }
        Ok(sum.check()?)
    };
    let written = tokio::select! {
        written = write => written,
        error = signals.next() => Err(error),
    };
    gateways::remember(cx, &source);
    written
}

/// Downloads over the trustless protocol, with neither a node nor a data directory.
async fn from_gateways(
    ui: &mut Ui,
    source: &TrustlessSource,
    path: &ContentPath,
    out: &Path,
    mut options: GetOptions,
) -> Result<Outcome, CliError> {
    let (sender, mut progress) = mpsc::channel(16);
    let work = async {
        let (root, segments) = gateways::locate(source, path).await?;
        let found = path::resolve(source, root, &segments)
            .await
            .map_err(Failure::from)?;
        options.record = recorded_files(source, root, &segments).await?;
        let givers = source.clone();
        let on_progress: get::OnProgress = Arc::new(move |bytes, total| {
            let _reader_is_behind = sender.try_send(Progress {
                bytes,
                total,
                givers: Some(Givers::of(&givers.given())),
            });
        });
        let got = get::get(source, found.cid, out, &options, on_progress)
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
                    sources: source.given().into_iter().map(Into::into).collect(),
                });
            }
            Some(now) = progress.recv() => ui.progress(now)?,
            error = signals.next() => return Err(error),
        }
    }
}
