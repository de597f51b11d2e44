//! Names and paths over gateways alone: nothing they say is believed unverified.

use cid::Cid;
use duka_gateway::control::failure::{Code, Failure};
use duka_node::dag::path::{ContentPath, Root};
use duka_node::ipns::{self, Record};
use duka_node::keys::Name;
use duka_node::source::trustless::TrustlessSource;
use jiff::Timestamp;
use url::Url;

use crate::error::CliError;

/// Names that may lead to one another (IPNS spec, "recursion").
const MAX_NAMES: usize = 32;

/// The URL of a gateway.
pub(crate) fn parse(url: &str) -> Result<Url, CliError> {
    Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| CliError::usage(format!("{url:?} is not the URL of a gateway")))
}

/// Follows the names that a path begins with to a CID and the segments below it.
pub(crate) async fn locate(
    source: &TrustlessSource,
    path: &ContentPath,
) -> Result<(Cid, Vec<String>), CliError> {
    let mut path = path.clone();
    for _ in 0..MAX_NAMES {
        let name = match path.root {
            Root::Cid(cid) => return Ok((cid, path.segments)),
            Root::Name(name) => name,
            Root::Domain(domain) => {
                let message =
                    format!("{domain} is a domain, and names in the DNS are not resolved");
                return Err(
                    CliError::new(Code::Permanent, message).hint("give the k51… name or the CID")
                );
            }
        };
        let record = newest_record(source, &name).await?;
        let target = ContentPath::parse(&record.value).map_err(Failure::from)?;
        path = ContentPath {
            root: target.root,
            segments: [target.segments, path.segments].concat(),
        };
    }
    let message = format!("the name goes through more than {MAX_NAMES} names");
    Err(CliError::new(Code::Limit, message))
}

/// The newest valid record that the gateways have.
async fn newest_record(source: &TrustlessSource, name: &Name) -> Result<Record, CliError> {
    let (mut newest, mut refused) = (None::<Record>, None);
    for bytes in source.ipns_record(name).await {
        match ipns::verify(name, &bytes, Timestamp::now()) {
            Ok(record) => {
                if newest
                    .as_ref()
                    .is_none_or(|best| ipns::newer(&record, best))
                {
                    newest = Some(record);
                }
            }
            Err(error) => refused = Some(error),
        }
    }
    match (newest, refused) {
        (Some(record), _) => Ok(record),
        (None, Some(error)) => Err(Failure::from(error)
            .hint("ask another gateway with --gateway URL")
            .into()),
        (None, None) => {
            let message = format!("no gateway has a record of {name}");
            Err(CliError::new(Code::NotFound, message)
                .hint("check the name, or ask another gateway with --gateway URL"))
        }
    }
}
