//! What a channel named, one release after the other: back to these it goes, and to none that was on another
//! channel only.

use crate::ids::{Channel, ProductId, Version};
use crate::manifest::record::{Product, Release};
use crate::manifest::{Manifest, ManifestError};

/// Releases that are remembered of a channel.
const MAX_REMEMBERED: usize = 64;

/// Points a channel to a release. Returns the version that it named before.
pub(crate) fn point(
    manifest: &Manifest,
    id: &ProductId,
    product: &mut Product,
    channel: &Channel,
    (version, number): (&Version, u64),
) -> Result<Option<Version>, ManifestError> {
    let mut named = of(manifest, id, product, channel)?;
    if !named.contains(&number) {
        // What the channel was led back from does not count as before this.
        named = until_now(manifest, id, product, channel)?;
        named.push(number);
    }
    let forgotten = named.len().saturating_sub(MAX_REMEMBERED);
    named.drain(..forgotten);
    product.history.insert(channel.clone(), named);
    Ok(product.channels.insert(channel.clone(), version.clone()))
}

/// The newest release that is still offered of those that the channel named before the present one.
pub(crate) fn before(
    manifest: &Manifest,
    id: &ProductId,
    product: &Product,
    channel: &Channel,
) -> Result<Option<(Version, Release)>, ManifestError> {
    let named = until_now(manifest, id, product, channel)?;
    // Of a channel that is gone all are before.
    let is_named = product.channels.contains_key(channel);
    for number in named.iter().rev().skip(usize::from(is_named)) {
        let release = manifest.release_by_number(id, *number)?;
        if let Some(offered) = release.filter(|(_, release)| release.yanked.is_none()) {
            return Ok(Some(offered));
        }
    }
    Ok(None)
}

/// Numbers of the releases that the channel named up to the present one, oldest first.
pub(crate) fn until_now(
    manifest: &Manifest,
    id: &ProductId,
    product: &Product,
    channel: &Channel,
) -> Result<Vec<u64>, ManifestError> {
    let mut named = of(manifest, id, product, channel)?;
    if let Some(current) = current(manifest, id, product, channel)?
        && let Some(at) = named.iter().position(|number| *number == current)
    {
        named.truncate(at + 1);
    }
    Ok(named)
}

/// Whether the channel names, or ever named, this release.
pub(crate) fn has_named(
    manifest: &Manifest,
    id: &ProductId,
    product: &Product,
    channel: &Channel,
    number: u64,
) -> Result<bool, ManifestError> {
    Ok(of(manifest, id, product, channel)?.contains(&number))
}

/// Numbers of the releases that the channel named, oldest first. Of a channel whose history was not noted yet
/// these are presumed to be all up to the present one that no other channel names.
fn of(
    manifest: &Manifest,
    id: &ProductId,
    product: &Product,
    channel: &Channel,
) -> Result<Vec<u64>, ManifestError> {
    if let Some(named) = product.history.get(channel) {
        return Ok(named.clone());
    }
    let Some(current) = current(manifest, id, product, channel)? else {
        return Ok(Vec::new());
    };
    let mut named = Vec::new();
    for row in manifest.releases(id).rev() {
        let (version, release) = row?;
        let mut others = product.channels.iter();
        let is_elsewhere = others.any(|(other, named)| other != channel && *named == version);
        if release.number == current || (release.number < current && !is_elsewhere) {
            named.push(release.number);
        }
        if named.len() == MAX_REMEMBERED {
            break;
        }
    }
    named.reverse();
    Ok(named)
}

fn current(
    manifest: &Manifest,
    id: &ProductId,
    product: &Product,
    channel: &Channel,
) -> Result<Option<u64>, ManifestError> {
    let Some(version) = product.channels.get(channel) else {
        return Ok(None);
    };
    let release = manifest.release(id, version)?;
    Ok(release.map(|release| release.number))
}
