//! IPNS names.

use std::path::Path;
use std::time::Duration;

use duka_node::dag::path::ContentPath;
use duka_node::ipns::Record;
use duka_node::keys::Name;
use duka_node::node::Node;
use tokio::io::AsyncReadExt;

use crate::control::event::Outcome;
use crate::control::explain::of_io;
use crate::control::failure::{Code, Failure};

/// Longest record, in bytes (IPNS spec, "record size limit").
const MAX_RECORD: u64 = 10 << 10;

pub(super) async fn publish(
    node: &Node,
    path: &str,
    lifetime_seconds: u64,
) -> Result<Outcome, Failure> {
    let path = ContentPath::parse(path)?;
    let lifetime = Duration::from_secs(lifetime_seconds);
    let (name, record) = duka_node::name::publish(node, &path, lifetime).await?;
    let path = record.value.clone();
    Ok(outcome(&name, record, path))
}

pub(super) async fn resolve(node: &Node, name: &str) -> Result<Outcome, Failure> {
    let name = parse(name)?;
    let resolved = node.resolve_name(&name, &[]).await?;
    Ok(outcome(&name, resolved.record, resolved.path))
}

pub(super) async fn put(node: &Node, name: &str, file: &Path) -> Result<Outcome, Failure> {
    let name = parse(name)?;
    let bytes = read_record(file).await?;
    let record = node.put_name(&name, &bytes).await?;
    let path = record.value.clone();
    Ok(outcome(&name, record, path))
}

async fn read_record(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| {
        let message = format!("cannot read {}: {error}", file.display());
        Failure::new(of_io(&error), message)
    };
    let mut bytes = Vec::new();
    let open = tokio::fs::File::open(file).await.map_err(failed)?;
    // One byte more than allowed, so that the check of the record sees that it is too long.
    let mut limited = open.take(MAX_RECORD + 1);
    limited.read_to_end(&mut bytes).await.map_err(failed)?;
    Ok(bytes)
}

pub(super) fn parse(name: &str) -> Result<Name, Failure> {
    name.trim_start_matches("/ipns/").parse().map_err(|error| {
        Failure::new(
            Code::Usage,
            format!("{name:?} is not an IPNS name: {error}"),
        )
        .hint("a name looks like k51… or 12D3KooW…")
    })
}

fn outcome(name: &Name, record: Record, path: String) -> Outcome {
    Outcome::Name {
        name: name.to_string(),
        value: record.value,
        path,
        sequence: record.sequence,
        validity: record.validity.to_string(),
    }
}
