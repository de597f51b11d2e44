//! Waiting until others have what was published.

use std::time::{Duration, Instant};

use cid::Cid;
use duka_node::node::Node;
use duka_node::prove::{self, Answer, Release, Wanted};
use duka_node::publish::Published;
use url::Url;

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
    pub(super) async fn new(node: &Node, args: &Publish) -> Result<Option<Self>, Failure> {
        if args.wait.is_empty() || args.dry_run {
            return Ok(None);
        }
        if node.network().is_none() {
            let message =
                "nobody can fetch it from here while no node runs, so that waiting has no end";
            return Err(Failure::new(Code::Permanent, message)
                .hint("start `duka serve`, and run this again; nothing was published"));
        }
        let mut wanted = Vec::new();
        for wait in &args.wait {
            wanted.push(match wait {
                Wait::Mirrors(count) => Wanted::Mirrors(enough(node, *count)?),
                Wait::Gateway(url) => Wanted::Gateway(not_own(node, super::gateway(url)?).await?),
            });
        }
        Ok(Some(Self {
            wanted,
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
        let left = || self.limit.saturating_sub(started.elapsed());
        if !published.wait_until_signed(node, left()).await? {
            return Err(self.partly(published, "the shop's head is not signed yet"));
        }
        let root: Cid = published.cid.parse().map_err(|_| {
            let message = format!("{} is no CID", published.cid);
            Failure::new(Code::Other, message)
        })?;
        let release = Release::read(node, root).await?;
        let mut proved = Vec::new();
        for wanted in &self.wanted {
            let mut known: Option<Vec<Answer>> = None;
            let answers = loop {
                let asked = tokio::time::timeout(left(), prove::ask(node, &release, wanted)).await;
                if let Ok(asked) = asked {
                    let answers = asked?;
                    if prove::is_proved(wanted, &answers) {
                        break answers;
                    }
                    known = Some(answers);
                }
                if left().is_zero() {
                    return Err(self.partly(published, &missing(wanted, known.as_deref())));
                }
                tokio::time::sleep(PAUSE.min(left())).await;
            };
            let have = prove::who_have(&answers);
            proved.extend(have.map(|answer| answer.place.clone()));
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

/// Refuses to wait for more than the head can name.
fn enough(node: &Node, wanted: usize) -> Result<usize, Failure> {
    let named = prove::named(node)?;
    if named >= wanted {
        return Ok(wanted);
    }
    let message = format!(
        "nothing was published: the shop names {named} of the {wanted} gateways and mirrors that are to have it"
    );
    Err(Failure::new(Code::Permanent, message).hint(
        "`duka shop set mirrors ADDRESS…` names mirrors, `duka shop set gateways URL…` gateways",
    ))
}

/// Refuses the node's own gateway before anything is published: it would be asked in vain.
async fn not_own(node: &Node, gateway: Url) -> Result<Url, Failure> {
    if !prove::is_own(node, &gateway).await {
        return Ok(gateway);
    }
    let message = format!("{gateway} is this node's own gateway: it proves nothing of others");
    Err(Failure::new(Code::Permanent, message)
        .hint("name a gateway of somebody else; nothing was published"))
}

/// What is missing, in words; of no answers when none came.
fn missing(wanted: &Wanted, answers: Option<&[Answer]>) -> String {
    let told = |answers: &[Answer]| {
        let lacking = answers
            .iter()
            .filter_map(|answer| Some(format!("{}: {}", answer.place, answer.missing.as_ref()?)));
        lacking.collect::<Vec<_>>().join("; ")
    };
    match (wanted, answers) {
        (Wanted::Gateway(url), None) => format!("the gateway {url} has not answered"),
        (Wanted::Gateway(_), Some(answers)) => {
            format!("the gateway does not have it: {}", told(answers))
        }
        (Wanted::Mirrors(least), None) => {
            format!("of {least} mirrors that must have it not all have answered")
        }
        (Wanted::Mirrors(least), Some([])) => {
            format!("0 of {least} mirrors have it: the head names none")
        }
        (Wanted::Mirrors(least), Some(answers)) => {
            let (have, named) = (prove::who_have(answers).count(), answers.len());
            let told = told(answers);
            format!("{have} of {least} mirrors have it, and the head names {named}: {told}")
        }
    }
}
