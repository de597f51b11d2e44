//! What a release carries besides its tree: file list, notes, description, cover.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cid::Cid;
use serde::{Deserialize, Serialize};

use super::{PublishError, PublishOptions, Source};
use crate::dag::import::{self, ImportError, ImportOptions, ImportedFile, OnProgress, Sink};
use crate::manifest::record::{Cover, Text};
use crate::node::Node;
use crate::picture;
use crate::shop::{MAX_COVER_LEN, is_too_large_a_cover};
use crate::store::PackKind;
use crate::title;

/// Longest description kept in the manifest itself, in bytes.
const INLINE_TEXT_LEN: usize = 1024;
/// Bytes of a cover that tell its kind.
const COVER_KIND: u64 = 8 << 10;
/// Longest notes, in bytes.
const MAX_NOTES_LEN: u64 = 1 << 20;
/// Longest file name, in bytes.
const MAX_NAME_LEN: usize = 255;

/// One line of a release's file list (JSON lines, one file each, in path order).
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct FileEntry {
    /// Path inside the release, segments joined by `/`. A release whose root is a file has one
    /// entry with the file's name.
    pub path: String,
    /// The file's own root.
    pub cid: String,
    /// Length in bytes.
    pub size: u64,
    /// Whether it is executable.
    pub executable: bool,
}

/// The imported texts of one release.
pub(super) struct Texts {
    pub(super) file_list: Cid,
    pub(super) notes: Option<Cid>,
    pub(super) description: Option<Text>,
    pub(super) cover: Option<Cover>,
}

/// Refuses titles and names that could not be stored or served.
pub(super) fn check(source: &Source, options: &PublishOptions) -> Result<(), PublishError> {
    if let Some(title) = &options.title {
        check_title(title)?;
    }
    if let Some(notes) = &options.notes {
        check_notes(notes)?;
    }
    if let Source::Reader { name, .. } = source
        && let Some(reason) = unusable_name(name)
    {
        return refuse("name", name, reason);
    }
    Ok(())
}

/// Refuses a title that cannot be shown.
pub(crate) fn check_title(title: &str) -> Result<(), PublishError> {
    title::unusable(title).map_or(Ok(()), |reason| refuse("title", title, reason))
}

/// Refuses notes that are no file, or too long for a page.
fn check_notes(notes: &Path) -> Result<(), PublishError> {
    let name = notes.to_string_lossy();
    match std::fs::metadata(notes) {
        Ok(found) if !found.is_file() => refuse("notes", &name, "they are not a file"),
        Ok(found) if found.len() > MAX_NOTES_LEN => {
            refuse("notes", &name, "they are longer than 1 MiB")
        }
        // What cannot be read is told when it is read.
        _ => Ok(()),
    }
}

/// Refuses a cover whose name cannot be kept, or of which no small picture could be made, so large it is.
pub(crate) async fn check_cover(node: &Node, cover: PathBuf) -> Result<(), PublishError> {
    let name = file_name(&cover);
    let unusable = match unusable_name(&name) {
        Some(reason) => Some(reason),
        None => node.blocking(move || unusable_cover(&cover)).await?,
    };
    unusable.map_or(Ok(()), |reason| refuse("cover", &name, reason))
}

fn unusable_cover(cover: &Path) -> Result<Option<&'static str>, ImportError> {
    let failed = |source| ImportError::Read {
        path: cover.to_owned(),
        source,
    };
    // A pipe would be waited for when it is opened.
    if !std::fs::metadata(cover).map_err(failed)?.is_file() {
        return Ok(Some("it is not a file"));
    }
    let file = beginning(cover, MAX_COVER_LEN + 1)?;
    Ok(if file.len() as u64 > MAX_COVER_LEN {
        Some("it is longer than 16 MiB")
    } else if is_too_large_a_cover(&file) {
        Some("decoded it takes more than 52 MiB, which 2000 × 2000 pixels never do")
    } else if picture::extensions(&file).is_none() {
        Some("it is no picture that browsers show: PNG, JPEG, GIF, WebP, AVIF or SVG")
    } else {
        None
    })
}

fn beginning(path: &Path, most: u64) -> Result<Vec<u8>, ImportError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|source| ImportError::Read {
            path: path.to_owned(),
            source,
        })?;
    Ok(bytes)
}

fn refuse(what: &'static str, text: &str, reason: &'static str) -> Result<(), PublishError> {
    let text = title::beginning(text);
    Err(PublishError::Text { what, text, reason })
}

fn unusable_name(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("it is empty"),
        "." | ".." => Some("it is a path, not a name"),
        _ if name.contains(['/', '\0']) => Some("it is a path, not a name"),
        _ if name.len() > MAX_NAME_LEN => Some("it is longer than 255 bytes"),
        _ => None,
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Imports all texts, off the runtime.
pub(super) async fn import(
    node: &Node,
    options: &PublishOptions,
    files: &[ImportedFile],
) -> Result<Texts, ImportError> {
    let sink = Sink::Store(node.store().clone(), PackKind::Kept);
    let file_list = file_list(files);
    let (notes, cover) = (options.notes.clone(), options.cover.clone());
    let description = options.description.clone();
    node.blocking(move || {
        Ok(Texts {
            file_list: import_bytes(&sink, file_list)?,
            notes: notes.map(|path| import_file(&sink, &path)).transpose()?,
            description: description
                .map(|text| import_text(&sink, text))
                .transpose()?,
            cover: cover.map(|path| cover_of(&sink, &path)).transpose()?,
        })
    })
    .await
}

/// Imports a description, off the runtime.
pub(crate) async fn import_description(node: &Node, text: String) -> Result<Text, ImportError> {
    let sink = Sink::Store(node.store().clone(), PackKind::Kept);
    node.blocking(move || import_text(&sink, text)).await
}

/// Imports a cover, off the runtime.
pub(crate) async fn import_cover(node: &Node, path: PathBuf) -> Result<Cover, ImportError> {
    let sink = Sink::Store(node.store().clone(), PackKind::Kept);
    node.blocking(move || cover_of(&sink, &path)).await
}

fn cover_of(sink: &Sink, path: &Path) -> Result<Cover, ImportError> {
    let mut name = file_name(path);
    // Gateways tell browsers by the name what it is.
    let known = picture::extensions(&beginning(path, COVER_KIND)?).unwrap_or_default();
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    let is_known = |given: &str| known.iter().any(|known| known.eq_ignore_ascii_case(given));
    if let Some(usual) = known.first()
        && !extension.is_some_and(is_known)
    {
        name = format!("cover.{usual}");
    }
    Ok(Cover {
        cid: import_file(sink, path)?,
        name,
    })
}

fn file_list(files: &[ImportedFile]) -> Vec<u8> {
    let mut lines = Vec::new();
    for file in files {
        let entry = FileEntry {
            path: file.path.clone(),
            cid: file.cid.to_string(),
            size: file.size,
            executable: file.executable,
        };
        serde_json::to_writer(&mut lines, &entry).expect("strings and numbers are valid JSON");
        lines.push(b'\n');
    }
    lines
}

fn import_text(sink: &Sink, text: String) -> Result<Text, ImportError> {
    if text.len() <= INLINE_TEXT_LEN {
        Ok(Text::Inline(text))
    } else {
        Ok(Text::Stored(import_bytes(sink, text.into_bytes())?))
    }
}

fn import_bytes(sink: &Sink, bytes: Vec<u8>) -> Result<Cid, ImportError> {
    let imported = import::import_reader(
        sink,
        &mut Cursor::new(bytes),
        &ImportOptions::default(),
        &quiet(),
    )?;
    Ok(imported.root)
}

fn import_file(sink: &Sink, path: &Path) -> Result<Cid, ImportError> {
    Ok(import::import_path(sink, path, &ImportOptions::default(), &quiet())?.root)
}

fn quiet() -> OnProgress {
    Arc::new(|_| true)
}
