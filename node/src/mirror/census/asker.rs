//! How one peer or gateway is asked for one block: by a proof, for the block itself over bitswap, or over HTTP
//! for what it has without fetching.

use std::time::Duration;

use cid::Cid;
use libp2p::PeerId;
use tokio::time::{Instant, sleep_until, timeout};
use url::Url;

use crate::block::{Block, RAW};
use crate::net::Network;
use crate::net::bitswap::Said;
use crate::net::census::{NONCE_LEN, PAUSE, Question, proof};
use crate::source::FetchError;
use crate::source::trustless::TrustlessSource;

/// Questions about blocks that nobody can have, by which the round trip is measured.
pub(super) const MEASURES: usize = 3;
/// What one answer may take besides two round trips: a read from a busy disk, and a hash.
const ALLOWANCE: Duration = Duration::from_millis(250);
/// The round trip counts as this at most, so that nobody gains by being slow while it is measured.
const LONGEST_TRIP: Duration = Duration::from_secs(1);
/// Bytes a second that a whole block may take to arrive.
const SLOWEST_BLOCK: u32 = 1 << 20;
/// Whoever says nothing for this long does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How somebody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// For the hash of a nonce and the block: nobody can answer who does not have it just then.
    Proof,
    /// For the block itself over bitswap, as peers that are not duka are.
    Bitswap,
    /// For the block itself over HTTP, if it is there without fetching.
    Http,
}

impl By {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proof => "proof",
            Self::Bitswap => "bitswap",
            Self::Http => "http",
        }
    }
}

/// What came of one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Right,
    /// Right, but too late.
    Late,
    /// No answer, or none that says anything of the block.
    Silent,
    Wrong,
    Absent,
}

/// Asks one peer or gateway, no more often than it answers.
pub(super) struct Asker<'a> {
    pub(super) name: String,
    whom: Whom<'a>,
    next: Instant,
    pub(super) round_trip: Option<Duration>,
}

enum Whom<'a> {
    Proof(&'a Network, PeerId),
    Bitswap(&'a Network, PeerId),
    Http(TrustlessSource),
}

/// What somebody says of a block.
enum Says {
    Right,
    Wrong,
    Absent,
    /// Nothing that says whether it has the block.
    Nothing,
}

impl<'a> Asker<'a> {
    /// A peer: by proofs if it makes any, else over bitswap.
    pub(super) async fn peer(network: &'a Network, peer: PeerId) -> Self {
        let by_proof = Self::by_proof(network, peer).await;
        if by_proof.round_trip.is_some() {
            return by_proof;
        }
        Self::measured(peer.to_string(), Whom::Bitswap(network, peer)).await
    }

    /// A peer, by proofs alone.
    pub(super) async fn by_proof(network: &'a Network, peer: PeerId) -> Self {
        Self::measured(peer.to_string(), Whom::Proof(network, peer)).await
    }

    /// A gateway.
    pub(super) async fn gateway(url: &Url) -> Self {
        let gateway = TrustlessSource::new(vec![url.clone()], PATIENCE);
        Self::measured(url.to_string(), Whom::Http(gateway)).await
    }

    async fn measured(name: String, whom: Whom<'a>) -> Self {
        let mut asker = Self {
            name,
            whom,
            next: Instant::now(),
            round_trip: None,
        };
        for _ in 0..MEASURES {
            let random: [u8; NONCE_LEN] = rand::random();
            let nobodys = Block::of(RAW, random.to_vec().into());
            let (says, took) = asker.says(&nobodys).await;
            if matches!(says, Says::Nothing) {
                // It does not speak this way: nothing is known of it.
                asker.round_trip = None;
                break;
            }
            let fastest = asker.round_trip.unwrap_or(took);
            asker.round_trip = Some(fastest.min(took));
        }
        asker
    }

    pub(super) fn by(&self) -> By {
        match self.whom {
            Whom::Proof(..) => By::Proof,
            Whom::Bitswap(..) => By::Bitswap,
            Whom::Http(_) => By::Http,
        }
    }

    /// Has it show that it has a block.
    pub(super) async fn ask(&mut self, block: &Block) -> Found {
        let trip = self.round_trip.unwrap_or_default().min(LONGEST_TRIP);
        let len = u32::try_from(block.data().len()).unwrap_or(u32::MAX);
        let transfer = match self.by() {
            By::Proof => Duration::ZERO,
            By::Bitswap | By::Http => Duration::from_secs(1) * len / SLOWEST_BLOCK,
        };
        let (says, took) = self.says(block).await;
        match says {
            Says::Right if took > trip * 2 + ALLOWANCE + transfer => Found::Late,
            Says::Right => Found::Right,
            Says::Wrong => Found::Wrong,
            Says::Nothing => Found::Silent,
            Says::Absent => Found::Absent,
        }
    }

    async fn says(&mut self, block: &Block) -> (Says, Duration) {
        sleep_until(self.next).await;
        let asked = Instant::now();
        self.next = asked + PAUSE;
        let says = timeout(PATIENCE, self.whom.says(block)).await;
        (says.unwrap_or(Says::Nothing), asked.elapsed())
    }
}

impl Whom<'_> {
    async fn says(&self, block: &Block) -> Says {
        let cid: Cid = *block.cid();
        match self {
            Self::Proof(network, peer) => {
                let nonce: [u8; NONCE_LEN] = rand::random();
                let right = proof(&nonce, block.data());
                match network.challenge(*peer, Question::new(nonce, &cid)).await {
                    None => Says::Nothing,
                    Some(None) => Says::Absent,
                    Some(Some(digest)) if digest == right => Says::Right,
                    Some(Some(_)) => Says::Wrong,
                }
            }
            Self::Bitswap(network, peer) => match network.bitswap().send(*peer, cid).await {
                None | Some(Said::Have) => Says::Nothing,
                Some(Said::DontHave) => Says::Absent,
                // Its hash was checked.
                Some(Said::Block(_)) => Says::Right,
            },
            Self::Http(gateway) => match gateway.fetch_cached(&cid).await {
                Ok(_) => Says::Right,
                Err(FetchError::NotFound { .. }) => Says::Absent,
                Err(FetchError::Lied { .. }) => Says::Wrong,
                Err(_) => Says::Nothing,
            },
        }
    }
}
