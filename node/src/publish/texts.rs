//! What a release carries besides its tree: file list, notes, description, cover.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cid::Cid;
use serde::{Deserialize, Serialize};

use super::{MAX_TITLE_LEN, PublishError, PublishOptions, Source};
use crate::dag::import::{self, ImportError, ImportOptions, ImportedFile, OnProgress, Sink};
use crate::manifest::record::{Cover, Text};
use crate::node::Node;
use crate::store::PackKind;

/// Longest description kept in the manifest itself, in bytes.
const INLINE_TEXT_LEN: usize = 1024;
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
    if let Source::Reader { name, .. } = source
        && let Some(reason) = unusable_name(name)
    {
        return refuse("name", name, reason);
    }
    options.cover.as_deref().map_or(Ok(()), check_cover)
}

/// Refuses a title that cannot be shown.
pub(crate) fn check_title(title: &str) -> Result<(), PublishError> {
    if title.trim().is_empty() {
        return refuse("title", title, "it is empty");
    }
    if title.len() > MAX_TITLE_LEN {
        return refuse("title", title, "it is longer than 256 bytes");
    }
    Ok(())
}

/// Refuses a cover whose name cannot be kept.
pub(crate) fn check_cover(cover: &Path) -> Result<(), PublishError> {
    let name = file_name(cover);
    unusable_name(&name).map_or(Ok(()), |reason| refuse("cover", &name, reason))
}

fn refuse(what: &'static str, text: &str, reason: &'static str) -> Result<(), PublishError> {
    let text = text.to_owned();
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
    Ok(Cover {
        cid: import_file(sink, path)?,
        name: file_name(path),
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
