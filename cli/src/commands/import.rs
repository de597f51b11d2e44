//! Arguments that `publish` and `add` share.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use duka_gateway::control::request::{self, Import, Source};

use crate::error::CliError;
use crate::stdin::Stdin;
use crate::ui::{Ui, count};

/// How files become a tree.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Leave out what matches, such as '*.tmp'; may be given several times
    #[arg(long, value_name = "GLOB")]
    ignore: Vec<String>,

    /// Include names that begin with a dot
    #[arg(long)]
    hidden: bool,

    /// Keep Unix permission bits in the tree; changes its CID
    #[arg(long)]
    preserve_mode: bool,

    /// Keep modification times in the tree; changes its CID
    #[arg(long)]
    preserve_mtime: bool,

    /// Leave the files' bytes where they are; they must stay there unchanged
    #[arg(long)]
    in_place: bool,

    /// Share the room of the files on the disk, where the file system has reflinks (XFS, Btrfs)
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        conflicts_with = "in_place"
    )]
    reflink: Reflink,

    /// Import profile: unixfs-v1-2025 or unixfs-v0-2015 [default: as the product's newest version, or
    /// unixfs-v1-2025]
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,

    /// How files are cut: size-N, or buzhash, with which an update moves only what changed also where bytes
    /// were put in or taken out [default: as the product's newest version, or size-1048576]
    #[arg(long, value_name = "CHUNKER")]
    chunker: Option<String>,
}

/// When bytes share the room of their file.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Reflink {
    /// Where the file system can
    #[default]
    Auto,
    /// Fail where it cannot; files under 1 MiB are copied
    Always,
    /// Copy
    Never,
}

/// Chunks below this, in bytes, make more of links than of the files.
const SMALL_CHUNK: u32 = 4 << 10;

impl ImportArgs {
    /// Says what very small chunks cost.
    pub(crate) fn warn(&self, ui: &mut Ui) -> Result<(), CliError> {
        let size = self
            .chunker
            .as_deref()
            .and_then(|text| text.strip_prefix("size-"));
        match size.and_then(|size| size.parse::<u32>().ok()) {
            Some(size @ 1..SMALL_CHUNK) => ui.warn(format!(
                "chunks of {} make many blocks: they take far more room, and far more time to fetch, than the files",
                count(size.into(), "byte")
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn request(self) -> Import {
        Import {
            ignore: self.ignore,
            hidden: self.hidden,
            preserve_mode: self.preserve_mode,
            preserve_mtime: self.preserve_mtime,
            in_place: self.in_place,
            reflink: match self.reflink {
                Reflink::Auto => request::Reflink::Auto,
                Reflink::Always => request::Reflink::Always,
                Reflink::Never => request::Reflink::Never,
            },
            profile: self.profile,
            chunker: self.chunker,
        }
    }
}

/// Where the bytes come from: a path, or with `-` standard input.
pub(crate) fn source(
    path: &Path,
    name: Option<String>,
) -> Result<(Source, Option<Stdin>), CliError> {
    if path == Path::new("-") {
        let name = name.ok_or_else(|| {
            CliError::usage("standard input has no file name")
                .hint("give one: `duka publish - --name FILE --product ID`")
        })?;
        let stdin =
            Stdin::open().map_err(|error| CliError::io("standard input cannot be read", &error))?;
        return Ok((Source::Stdin(name), Some(stdin)));
    }
    if name.is_some() {
        return Err(CliError::usage("--name is for standard input, `-`"));
    }
    Ok((Source::Path(existing(path)?), None))
}

/// Fails when nothing is at the path, before any work is done for it.
pub(crate) fn readable(path: &Path) -> Result<(), CliError> {
    let what = format!("cannot read {}", path.display());
    match std::fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(CliError::io(&what, &error)),
    }
}

/// What is imported must be there: looked for before a shop is made for it, and before an import that may take
/// hours.
pub(crate) fn existing(path: &Path) -> Result<PathBuf, CliError> {
    let path = absolute(path)?;
    readable(&path)?;
    Ok(path)
}

/// The path as the node needs it, whatever its working directory is.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    let what = format!("{} cannot be used", path.display());
    std::path::absolute(path).map_err(|error| CliError::io(&what, &error))
}
