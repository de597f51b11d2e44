//! Waiting until others have what was published.

use std::time::{Duration, Instant};

use cid::Cid;
use duka_node::announce;
use duka_node::node::Node;
use duka_node::prove::{self, Answer, Wanted};
use duka_node::publish::Published;

use crate::control::failure::{Code, Failure};
use crate::control::request::{Publish, Wait};

/// Pause before those that lack something are asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Who must have a release, and how long that may take.
pub(super) struct Waiting {
    wanted: Vec<Wanted>,
    limit: Duration,
}

impl Waiting {
    /// `None` when nobody is waited for.
    pub(super) fn new(node: &Node, args: &Publish) -> Result<Option<Self>, Failure> {
        if args.wait.is_empty() || args.dry_run {
            return Ok(None);
        }
        if node.network().is_none() {
            let message =
                "nobody can fetch it from here while no node runs, so that waiting has no end";
            return Err(Failure::new(Code::Permanent, message)
                .hint("start `duka serve`, and run this again; nothing was published"));
        }
        let wanted = args.wait.iter().map(|wait| {
            Ok(match wait {
                Wait::Mirrors(count) => Wanted::Mirrors(*count),
                Wait::Gateway(url) => Wanted::Gateway(super::gateway(url)?),
            })
        });
        Ok(Some(Self {
            wanted: wanted.collect::<Result<_, Failure>>()?,
            limit: Duration::from_secs(args.wait_seconds),
        }))
    }

    /// Waits until all have it. Returns who has.
    pub(super) async fn until_proved(
        &self,
        node: &Node,
        published: &Published,
        started: Instant,
    ) -> Result<Vec<String>, Failure> {
        let Published {
            product, version, ..
        } = published;
        let left = || self.limit.saturating_sub(started.elapsed());
        if !announce::wait_for_head(node, product, version, left()).await? {
            return Err(self.partly(published, "the shop's head is not signed yet"));
        }
        let root: Cid = published.cid.parse().map_err(|_| {
            let message = format!("{} is no CID", published.cid);
            Failure::new(Code::Other, message)
        })?;
        let mut proved = Vec::new();
        for wanted in &self.wanted {
            let mut answers = Vec::new();
            loop {
                let asked = tokio::time::timeout(left(), prove::ask(node, root, wanted)).await;
                match asked {
                    Ok(asked) => answers = asked?,
                    Err(_) => return Err(self.partly(published, &missing(wanted, &answers))),
                }
                if prove::is_proved(wanted, &answers) {
                    break;
                }
                tokio::time::sleep(PAUSE.min(left())).await;
            }
            let have = answers
                .into_iter()
                .filter(|answer| answer.missing.is_none());
            proved.extend(have.map(|answer| answer.place));
        }
        proved.sort();
        proved.dedup();
        Ok(proved)
    }

    fn partly(&self, published: &Published, what: &str) -> Failure {
        let (product, version) = (&published.product, &published.version);
        let seconds = self.limit.as_secs();
        let message = format!("{product} {version} is published, but after {seconds} s {what}");
        Failure::new(Code::Partial, message).hint(
            "it stays published: the node goes on to announce it; --timeout gives others more time",
        )
    }
}

/// What is missing, in words.
fn missing(wanted: &Wanted, answers: &[Answer]) -> String {
    let told: Vec<String> = answers
        .iter()
        .filter_map(|answer| Some(format!("{}: {}", answer.place, answer.missing.as_ref()?)))
        .collect();
    let told = match told.is_empty() {
        true => "no answer came".to_owned(),
        false => told.join("; "),
    };
    match wanted {
        Wanted::Gateway(url) if answers.is_empty() => format!("the gateway {url} has not answered"),
        Wanted::Gateway(_) => format!("the gateway does not have it: {told}"),
        Wanted::Mirrors(least) => {
            let have = answers.iter().filter(|answer| answer.missing.is_none());
            let (have, named) = (have.count(), answers.len());
            format!("{have} of {least} mirrors have it, and the head names {named}: {told}")
        }
    }
}
