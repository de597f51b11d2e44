//! Names and paths over gateways alone: nothing they say is believed unverified.

use cid::Cid;
use duka_gateway::control;
use duka_gateway::control::failure::{Code, Failure};
use duka_node::dag::path::{ContentPath, Root};
use duka_node::ipns::{self, Record};
use duka_node::keys::Name;
use duka_node::source::trustless::{Effort, Listen, TrustlessSource, gateway_url};
use jiff::Timestamp;
use url::Url;

use crate::context::Context;
use crate::error::CliError;

/// Names that may lead to one another (IPNS spec, "recursion").
const MAX_NAMES: usize = 32;

/// How hard gateways are tried, as far as the user says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tries {
    pub(crate) retries: Option<u32>,
    pub(crate) max_sources: Option<usize>,
}

impl Tries {
    fn effort(self) -> Effort {
        let usual = Effort::default();
        Effort {
            retries: self.retries.unwrap_or(usual.retries),
            max_sources: self.max_sources.unwrap_or(usual.max_sources),
        }
    }
}

/// The gateways of the command line.
pub(crate) fn given(cx: &Context, urls: &[String]) -> Result<Vec<Url>, CliError> {
    let urls = urls.iter().map(|url| {
        let url = parse(url)?;
        refuse_offline(cx, &url)?;
        Ok(url)
    });
    urls.collect()
}

/// A gateway is the network.
pub(crate) fn refuse_offline(cx: &Context, gateway: &Url) -> Result<(), CliError> {
    if !cx.config().network.offline {
        return Ok(());
    }
    let message = format!("{gateway} cannot be asked: the network is off");
    Err(CliError::usage(message)
        .hint("run it without --offline and with `network.offline = false`"))
}

/// The gateways as the only source, if there are any and no node runs.
pub(crate) async fn alone(
    cx: &Context,
    given: &[Url],
    tries: Tries,
) -> Result<Option<TrustlessSource>, CliError> {
    let mut gateways = given.to_vec();
    if !cx.config().network.offline {
        for url in &cx.config().gateway.upstreams {
            gateways.push(parse(url)?);
        }
    }
    if gateways.is_empty() || cx.running_node().await?.is_some() {
        return Ok(None);
    }
    let timeout = cx.config().network.limits.block_timeout;
    let memory = cx.state()?.gateways();
    let source = TrustlessSource::with(gateways, timeout, tries.effort(), memory);
    Ok(Some(source))
}

/// Remembers how the gateways did, for the next download. That it cannot is no reason to fail.
pub(crate) fn remember(cx: &Context, source: &TrustlessSource) {
    let remembered = cx
        .state()
        .and_then(|state| state.remember_gateways(source.remember()));
    if let Err(error) = remembered {
        tracing::debug!(?error, "how gateways did is not remembered");
    }
}

/// Where a domain leads to.
pub(crate) async fn dnslink(cx: &Context, domain: &str) -> Result<ContentPath, CliError> {
    if cx.config().network.offline {
        let message = format!("{domain} cannot be looked up: the network is off");
        return Err(CliError::usage(message).hint("give the k51… name or the CID"));
    }
    Ok(control::dnslink(domain, &cx.config().gateway).await?)
}

/// The URL of a gateway.
fn parse(url: &str) -> Result<Url, CliError> {
    gateway_url(url).ok_or_else(|| {
        CliError::usage(format!("{url:?} is not the URL of a gateway"))
            .hint("write it like https://gateway.example")
    })
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
    let records = source.ipns_record(name, Listen::ToAll).await;
    for bytes in &records.found {
        match ipns::verify(name, bytes, Timestamp::now()) {
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
    match (newest, refused, records.silent.first()) {
        (Some(record), _, _) => Ok(record),
        (None, Some(error), _) => Err(Failure::from(error)
            .hint("ask another gateway with --mirror URL")
            .into()),
        (None, None, Some((gateway, silence))) => {
            let message = format!("{gateway} was asked for the record of {name}, but {silence}");
            Err(CliError::new(Code::Temporary, message)
                .hint("try again, or ask another gateway with --mirror URL"))
        }
        (None, None, None) => {
            let message = format!("no gateway has a record of {name}");
            Err(CliError::new(Code::NotFound, message)
                .hint("check the name, or ask another gateway with --mirror URL"))
        }
    }
}
