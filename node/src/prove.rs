//! PROVE: others have a release. A gateway is asked as a buyer asks it: does it give the newest head, and blocks of
//! the release that are chosen by chance? A mirror is challenged as in a census: it proves that
//! it has them now, and hands none out. One that does not know this gives them over bitswap.

use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

use cid::Cid;
use futures::future::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use libp2p::{Multiaddr, PeerId};
use url::Url;

use crate::announce;
use crate::ipns;
use crate::keys::Name;
use crate::manifest::ManifestError;
use crate::manifest::record::Head;
use crate::mirror::census::{self, Sampled, challenge_peer, draw};
use crate::net::{DialErrorKind, NetError, Network};
use crate::node::Node;
use crate::shop::settings::{self, Settings};
use crate::source::place::place_of;
use crate::source::trustless::{Listen, TrustlessSource, gateway_url};
use crate::source::{BlockSource, FetchError, delegated};
use crate::store::StoreError;

/// Blocks of a release that each has to give, besides its root.
const GIVEN: usize = 3;
/// Blocks of a release for which a mirror is challenged: who lacks a tenth of them passes once in two hundred times.
const CHALLENGES: usize = 50;
/// Time for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Who must have a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This gateway.
    Gateway(Url),
    /// So many others of the gateways and mirrors that the shop's head names.
    Mirrors(usize),
}

/// Why a head and a release are not proved to be somewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// It is this node, and proves nothing of others.
    #[error("it is this node itself, and proves nothing of others")]
    Own,
    /// It does not give a valid record of the shop.
    #[error("it gives no valid record of the shop")]
    NoRecord,
    /// It gives an older head.
    #[error("it gives head {found}, and the newest is {wanted}")]
    OldHead {
        /// Its number.
        found: u64,
        /// The newest one.
        wanted: u64,
    },
    /// It gives a head that this node did not sign.
    #[error("it gives head {found}, which this node did not sign")]
    StrangeHead {
        /// Its number.
        found: u64,
    },
    /// It was asked, and nothing came until then.
    #[error("it has not answered")]
    NoAnswer,
    /// It cannot be connected to.
    #[error("it cannot be connected to")]
    Unreachable,
    /// It does not give a block, or does not prove in time that it has it.
    #[error("it does not have block {cid}")]
    NoBlock {
        /// The block.
        cid: Cid,
    },
    /// It gives wrong bytes.
    #[error("it gives wrong bytes for block {cid}")]
    Lie {
        /// The block.
        cid: Cid,
    },
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// What was found out about one gateway or mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which: an address, or an URL.
    pub place: String,
    /// Who is there: a peer, or as much as an URL says. The same may be named more than once.
    pub who: String,
    /// What is missing; `None` when it has all that was asked for.
    pub missing: Option<Missing>,
}

/// Blocks of a release, among which are drawn those that others must have.
#[derive(Clone, Debug)]
pub struct Release {
    root: Cid,
    blocks: Vec<Sampled>,
}

impl Release {
    /// The release with this root, which is here.
    pub async fn read(node: &Node, root: Cid) -> Result<Self, ProveError> {
        let store = node.store().clone();
        let trees = vec![(root, None)];
        let sample = node.blocking(move || census::sample(&store, trees));
        let (blocks, _) = sample.await?;
        Ok(Self { root, blocks })
    }

    /// The root, and others that nobody can foresee.
    fn to_be_given(&self) -> Vec<Cid> {
        let mut blocks = draw(&self.blocks, GIVEN);
        blocks.retain(|cid| *cid != self.root);
        blocks.insert(0, self.root);
        blocks
    }
}

/// How many gateways and mirrors the shop's next head names, as far as their addresses tell: the node itself is none.
pub fn named(node: &Node) -> Result<usize, ManifestError> {
    let named = settings::read(node)?;
    let own = node.network().map(Network::peer_id);
    let mirrors = named.mirrors.iter().map(|address| {
        let peer = address.rsplit_once("/p2p/").map(|(_, peer)| peer);
        peer.unwrap_or(address).to_owned()
    });
    let mirrors = mirrors.filter(|mirror| own.is_none_or(|own| *mirror != own.to_string()));
    let gateways = gateways(&named).map(|url| place_of(&url));
    Ok(gateways.chain(mirrors).collect::<HashSet<_>>().len())
}

fn gateways(named: &Settings) -> impl Iterator<Item = Url> {
    named.gateways.iter().filter_map(|url| gateway_url(url))
}

/// Asks those that are wanted once, all at the same time, for the newest head and for blocks of the release, until
/// enough have them, or for so long. Who gave no answer until then has [`Missing::NoAnswer`].
pub async fn ask(
    node: &Node,
    release: &Release,
    wanted: &Wanted,
    limit: Duration,
) -> Result<Vec<Answer>, ProveError> {
    let Some(head) = node.manifest().head()? else {
        return Ok(Vec::new());
    };
    let asked = Asked {
        node,
        shop: node.shop_name(),
        head,
        release,
    };
    let (urls, mirrors) = match wanted {
        Wanted::Gateway(url) => (vec![url.clone()], Vec::new()),
        Wanted::Mirrors(_) => {
            let named = settings::read(node)?;
            (gateways(&named).collect(), named.mirrors)
        }
    };
    let gateways = urls.iter().map(|url| {
        let answer = asked.gateway(url).map(Ok);
        (url.to_string(), answer.boxed())
    });
    let mirrors = mirrors
        .iter()
        .map(|address| (address.clone(), asked.mirror(address).boxed()));
    until_enough(gateways.chain(mirrors), wanted, limit).await
}

/// Takes answers of these places until enough have it, or for so long.
async fn until_enough<F>(
    asked: impl Iterator<Item = (String, F)>,
    wanted: &Wanted,
    limit: Duration,
) -> Result<Vec<Answer>, ProveError>
where
    F: Future<Output = Result<Answer, ProveError>>,
{
    let (mut places, answering): (HashSet<_>, FuturesUnordered<_>) = asked.unzip();
    let mut answering = answering.take_until(Box::pin(tokio::time::sleep(limit)));
    let mut answers = Vec::new();
    while let Some(answer) = answering.next().await {
        let answer = answer?;
        places.remove(&answer.place);
        answers.push(answer);
        if is_proved(wanted, &answers) {
            return Ok(answers);
        }
    }
    answers.extend(places.into_iter().map(|place| Answer {
        who: place.clone(),
        place,
        missing: Some(Missing::NoAnswer),
    }));
    answers.sort_by(|one, other| one.place.cmp(&other.place));
    Ok(answers)
}

/// Puts what was answered before in the place of no answer.
pub fn remember(answers: &mut [Answer], before: Vec<Answer>) {
    for known in before {
        let unanswered = answers.iter_mut().find(|answer| {
            answer.place == known.place && answer.missing == Some(Missing::NoAnswer)
        });
        if let Some(unanswered) = unanswered {
            *unanswered = known;
        }
    }
}

/// Whether that is all that was wanted.
pub fn is_proved(wanted: &Wanted, answers: &[Answer]) -> bool {
    let have = who_have(answers).count();
    match wanted {
        Wanted::Gateway(_) => have == 1,
        Wanted::Mirrors(least) => have >= *least,
    }
}

/// Of those who have it one answer each.
pub fn who_have(answers: &[Answer]) -> impl Iterator<Item = &Answer> {
    let mut seen = HashSet::new();
    let have = answers.iter().filter(|answer| answer.missing.is_none());
    have.filter(move |answer| seen.insert(&answer.who))
}

/// Whether this gateway is the node's own.
pub async fn is_own(node: &Node, gateway: &Url) -> bool {
    match node.network() {
        Some(network) => delegated::node_of(gateway).await == Some(network.peer_id()),
        None => false,
    }
}

struct Asked<'a> {
    node: &'a Node,
    shop: Name,
    head: Head,
    release: &'a Release,
}

impl Asked<'_> {
    async fn gateway(&self, url: &Url) -> Answer {
        let source = TrustlessSource::new(vec![url.clone()], ANSWER_LIMIT);
        let peer = delegated::node_of(url).await;
        let missing = async {
            if peer.is_some_and(|peer| self.is_own(peer)) {
                return Err(Missing::Own);
            }
            self.newest_by(&source).await?;
            for cid in self.release.to_be_given() {
                source
                    .fetch(&cid)
                    .await
                    .map_err(|error| lacks(cid, &error))?;
            }
            Ok(())
        };
        Answer {
            place: url.to_string(),
            who: peer.map_or_else(|| place_of(url), |peer| peer.to_string()),
            missing: missing.await.err(),
        }
    }

    /// The newest head, by the names, as a buyer finds it.
    async fn newest_by(&self, source: &TrustlessSource) -> Result<(), Missing> {
        let shop = newest_record(source, &self.shop).await?;
        let publishing = announce::leads_to(&shop).ok_or(Missing::NoRecord)?;
        let found = newest_record(source, &publishing).await?;
        // There may be a next one here since.
        let newest = self.node.manifest().head().ok().flatten();
        is_own_head(&found, [Some(&self.head), newest.as_ref()])
    }

    async fn mirror(&self, address: &str) -> Result<Answer, ProveError> {
        let (who, missing) = match self.connected(address).await {
            Ok((network, peer)) => (peer.to_string(), self.missing_at(network, peer).await?),
            Err(missing) => (address.to_owned(), Some(missing)),
        };
        Ok(Answer {
            place: address.to_owned(),
            who,
            missing,
        })
    }

    fn is_own(&self, peer: PeerId) -> bool {
        let network = self.node.network();
        network.is_some_and(|network| network.peer_id() == peer)
    }

    async fn connected(&self, address: &str) -> Result<(&Network, PeerId), Missing> {
        let unreachable = Missing::Unreachable;
        let network = self.node.network().ok_or(unreachable.clone())?;
        let address: Multiaddr = address.parse().map_err(|_| unreachable.clone())?;
        match tokio::time::timeout(ANSWER_LIMIT, network.connect(address)).await {
            Ok(Ok(peer)) => Ok((network, peer)),
            Ok(Err(NetError::Dial {
                kind: DialErrorKind::Itself,
                ..
            })) => Err(Missing::Own),
            _ => Err(unreachable),
        }
    }

    /// What a peer does not prove: the newest head first, as without it there is nothing of the release.
    async fn missing_at(
        &self,
        network: &Network,
        peer: PeerId,
    ) -> Result<Option<Missing>, ProveError> {
        let head = [(self.head.root, None)];
        for (blocks, challenges) in [(&head[..], 1), (&self.release.blocks, CHALLENGES)] {
            let challenged = challenge_peer(self.node, network, peer, blocks, challenges);
            let (proved, answers) = challenged.await?;
            if proved.round_trip.is_none() {
                return Ok(self.not_given_by(network, peer).await.err());
            }
            if let Some((cid, _)) = answers.iter().find(|(_, is_proved)| !is_proved) {
                let cid = *cid;
                return Ok(Some(match proved.wrong {
                    0 => Missing::NoBlock { cid },
                    _ => Missing::Lie { cid },
                }));
            }
        }
        Ok(None)
    }

    /// Of a peer that answers no challenges, such as a Kubo.
    async fn not_given_by(&self, network: &Network, peer: PeerId) -> Result<(), Missing> {
        from_peer(network, peer, &self.head.root).await?;
        for cid in self.release.to_be_given() {
            from_peer(network, peer, &cid).await?;
        }
        Ok(())
    }
}

/// Whether a gateway's record leads to one of the own heads: a higher number alone is whoever's has the
/// publishing key.
fn is_own_head(found: &ipns::Record, own: [Option<&Head>; 2]) -> Result<(), Missing> {
    let own = own.into_iter().flatten();
    let wanted = own.clone().map(|head| head.seq).max().unwrap_or(0);
    let is_one = own
        .clone()
        .any(|head| found.value == format!("/ipfs/{}", head.root));
    if is_one {
        Ok(())
    } else if found.sequence > wanted {
        Err(Missing::StrangeHead {
            found: found.sequence,
        })
    } else {
        Err(Missing::OldHead {
            found: found.sequence,
            wanted,
        })
    }
}

/// The newest valid record of a name that the gateway gives.
async fn newest_record(source: &TrustlessSource, name: &Name) -> Result<ipns::Record, Missing> {
    let found = source.ipns_record(name, Listen::ToAll).await.found;
    let now = Timestamp::now();
    let valid = found
        .iter()
        .filter_map(|bytes| ipns::verify(name, bytes, now).ok());
    let newest = valid.reduce(|one, other| match ipns::newer(&other, &one) {
        true => other,
        false => one,
    });
    newest.ok_or(Missing::NoRecord)
}

/// Fetches a block over bitswap, and makes sure that it came from this peer.
async fn from_peer(network: &Network, peer: PeerId, cid: &Cid) -> Result<(), Missing> {
    let no_block = || Missing::NoBlock { cid: *cid };
    let session = network.bitswap().session(vec![peer]);
    let fetched = tokio::time::timeout(ANSWER_LIMIT, session.fetch(cid)).await;
    fetched
        .map_err(|_| no_block())?
        .map_err(|error| lacks(*cid, &error))?;
    let from = session.stats();
    let is_from_it = from
        .iter()
        .any(|(from, _, blocks)| *from == peer && *blocks > 0);
    if is_from_it { Ok(()) } else { Err(no_block()) }
}

fn lacks(cid: Cid, error: &FetchError) -> Missing {
    match error {
        FetchError::Lied { .. } | FetchError::Block(_) => Missing::Lie { cid },
        _ => Missing::NoBlock { cid },
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;
    use crate::block::{RAW, cid_of};

    fn head(seq: u64) -> Head {
        Head {
            seq,
            root: cid_of(RAW, &seq.to_be_bytes()),
            prev: None,
            issued: Timestamp::UNIX_EPOCH,
        }
    }

    fn record(value: &str, sequence: u64) -> ipns::Record {
        let key = Keypair::generate_ed25519();
        ipns::sign(&key, value, sequence, Timestamp::MAX, ANSWER_LIMIT)
    }

    #[test]
    fn only_own_heads_are_the_newest_whatever_their_number() {
        let (asked_for, next) = (head(5), head(6));
        let own = [Some(&asked_for), Some(&next)];
        for head in [&asked_for, &next] {
            let found = record(&format!("/ipfs/{}", head.root), head.seq);
            assert_eq!(is_own_head(&found, own), Ok(()));
        }
        let theft = record("/ipfs/bafkqaaa", 900);
        let strange = Missing::StrangeHead { found: 900 };
        assert_eq!(is_own_head(&theft, own), Err(strange));
        let old = record("/ipfs/bafkqaaa", 4);
        let (found, wanted) = (4, 6);
        assert_eq!(
            is_own_head(&old, own),
            Err(Missing::OldHead { found, wanted })
        );
    }

    fn answer(place: &str, who: &str, missing: Option<Missing>) -> Answer {
        Answer {
            place: place.to_owned(),
            who: who.to_owned(),
            missing,
        }
    }

    #[test]
    fn who_is_named_twice_counts_once_and_who_lacks_something_does_not() {
        let answers = [
            answer("/ip4/192.0.2.1/tcp/1", "one", None),
            answer("/ip4/192.0.2.1/udp/1/quic-v1", "one", None),
            answer("https://one.example", "one", None),
            answer("https://own.example", "own", Some(Missing::Own)),
        ];
        assert!(is_proved(&Wanted::Mirrors(1), &answers));
        assert!(!is_proved(&Wanted::Mirrors(2), &answers));
        let have: Vec<_> = who_have(&answers).map(|answer| &answer.place).collect();
        assert_eq!(have, ["/ip4/192.0.2.1/tcp/1"]);
        let (own, other) = (&answers[3..], answer("https://two.example", "two", None));
        assert!(!is_proved(&Wanted::Mirrors(1), own));
        let answers = [&answers[..], &[other]].concat();
        assert!(is_proved(&Wanted::Mirrors(2), &answers));
    }

    type Answering = futures::future::BoxFuture<'static, Result<Answer, ProveError>>;

    /// Two who have it at once, one that lacks it, and one that never answers.
    fn places() -> impl Iterator<Item = (String, Answering)> {
        let missing = [None, Some(Missing::NoRecord), None];
        let answered = ["a", "b", "c"].into_iter().zip(missing);
        let answered = answered.map(|(place, missing)| {
            let answer = answer(place, place, missing);
            (place.to_owned(), futures::future::ready(Ok(answer)).boxed())
        });
        let never = ("d".to_owned(), futures::future::pending().boxed());
        std::iter::once(never).chain(answered)
    }

    #[tokio::test]
    async fn who_never_answers_is_not_waited_for_when_enough_others_have_it() {
        let began = tokio::time::Instant::now();
        let limit = Duration::from_secs(60);
        let wanted = Wanted::Mirrors(2);
        let answers = until_enough(places(), &wanted, limit).await.unwrap();
        assert!(is_proved(&wanted, &answers));
        assert!(began.elapsed() < limit);
    }

    #[tokio::test]
    async fn answers_of_others_are_kept_when_one_gives_none_in_time() {
        let limit = Duration::from_secs(1);
        let wanted = Wanted::Mirrors(3);
        let answers = until_enough(places(), &wanted, limit).await.unwrap();
        let found: Vec<_> = answers
            .iter()
            .map(|answer| (answer.place.as_str(), answer.missing.clone()))
            .collect();
        let expected = [
            ("a", None),
            ("b", Some(Missing::NoRecord)),
            ("c", None),
            ("d", Some(Missing::NoAnswer)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn answers_of_before_stand_for_those_that_did_not_come() {
        let mut answers = [
            answer("a", "a", Some(Missing::NoAnswer)),
            answer("b", "b", Some(Missing::NoRecord)),
        ];
        let before = vec![answer("a", "one", None), answer("b", "two", None)];
        remember(&mut answers, before);
        let expected = [
            answer("a", "one", None),
            answer("b", "b", Some(Missing::NoRecord)),
        ];
        assert_eq!(answers, expected);
    }
}
