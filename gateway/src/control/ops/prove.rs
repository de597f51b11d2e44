//! Waiting until others have what was published.

use std::time::{Duration, Instant};

use cid::Cid;
use duka_node::node::Node;
use duka_node::prove::{self, Answer, Missing, Release, Wanted};
use duka_node::publish::Published;
use url::Url;

use crate::control::failure::{Code, Failure};
use crate::control::request::{Publish, Wait};

/// How long others are waited for where the command does not say.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// Pause before those that lack something are asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Who must have a release, and how long that may take.
pub(super) struct Waiting {
    wanted: Vec<Wanted>,
    limit: Option<Duration>,
}

/// Time in which others must have it.
struct Clock {
    since: Instant,
    limit: Duration,
}

impl Clock {
    /// What the command gave counts from its start; else nobody has been waited for until now.
    fn new(given: Option<Duration>, started: Instant) -> Self {
        match given {
            Some(limit) => Self {
                since: started,
                limit,
            },
            None => Self {
                since: Instant::now(),
                limit: LIMIT,
            },
        }
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.since.elapsed())
    }
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
            limit: args.wait_seconds.map(Duration::from_secs),
        }))
    }

    /// Waits, after a publish that started then, until all have it. Returns who has.
    pub(super) async fn until_proved(
        &self,
        node: &Node,
        published: &Published,
        started: Instant,
    ) -> Result<Vec<String>, Failure> {
        let clock = Clock::new(self.limit, started);
        if !published.wait_until_signed(node, clock.left()).await? {
            let what = "the shop's head is not signed yet";
            return Err(partly(published, clock.limit, what));
        }
        let root: Cid = published.cid.parse().map_err(|_| {
            let message = format!("{} is no CID", published.cid);
            Failure::new(Code::Other, message)
        })?;
        let release = Release::read(node, root).await?;
        let mut proved = Vec::new();
        for wanted in &self.wanted {
            let mut before = Vec::new();
            let answers = loop {
                let mut answers = prove::ask(node, &release, wanted, clock.left()).await?;
                prove::remember(&mut answers, before);
                if prove::is_proved(wanted, &answers) {
                    break answers;
                }
                if clock.left().is_zero() {
                    return Err(partly(published, clock.limit, &missing(wanted, &answers)));
                }
                before = answers;
                tokio::time::sleep(PAUSE.min(clock.left())).await;
            };
            let have = prove::who_have(&answers);
            proved.extend(have.map(|answer| answer.place.clone()));
        }
        proved.sort();
        proved.dedup();
        Ok(proved)
    }
}

fn partly(published: &Published, limit: Duration, what: &str) -> Failure {
    let (product, version) = (&published.product, &published.version);
    let seconds = limit.as_secs();
    let message = format!("{product} {version} is published, but after {seconds} s {what}");
    Failure::new(Code::Partial, message).hint(
        "it stays published: the node goes on to announce it; --timeout gives others more time",
    )
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

/// What is missing, in words.
fn missing(wanted: &Wanted, answers: &[Answer]) -> String {
    let lacking = answers
        .iter()
        .filter_map(|answer| Some(format!("{}: {}", answer.place, answer.missing.as_ref()?)));
    let told = lacking.collect::<Vec<_>>().join("; ");
    match (wanted, answers) {
        (Wanted::Gateway(url), [answer]) if answer.missing == Some(Missing::NoAnswer) => {
            format!("the gateway {url} has not answered")
        }
        (Wanted::Gateway(_), _) => format!("the gateway does not have it: {told}"),
        (Wanted::Mirrors(least), []) => {
            format!("0 of {least} mirrors have it: the head names none")
        }
        (Wanted::Mirrors(least), _) => {
            let (have, named) = (prove::who_have(answers).count(), answers.len());
            format!("{have} of {least} mirrors have it, and the head names {named}: {told}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_the_publish_took_counts_only_where_the_command_gave_a_limit() {
        let Some(started) = Instant::now().checked_sub(LIMIT) else {
            return;
        };
        assert!(Clock::new(Some(LIMIT), started).left().is_zero());
        assert!(!Clock::new(None, started).left().is_zero());
    }
}
