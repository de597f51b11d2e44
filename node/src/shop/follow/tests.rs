use bytes::Bytes;
use libp2p::identity::Keypair;

use super::*;
use crate::block::{Block, RAW};
use crate::dag::hamt::{Entry, build_directory};
use crate::dag::import::Profile;
use crate::dag::unixfs::Metadata;
use crate::keys::name_of;
use crate::shop::json::{FORMAT, ShopCounts, canonical};
use crate::shop::{Past, past_of};
use crate::source::memory::MemorySource;

const DAY: u64 = 24 * 60 * 60;
const LIFETIME: u64 = 365 * DAY;

/// A creator, or whoever has the keys.
#[derive(Clone)]
struct Creator {
    shop: Keypair,
    publishing: Keypair,
    shop_sequence: u64,
    source: MemorySource,
}

/// A head as it travels.
#[derive(Clone, Debug)]
struct Sent {
    root: Cid,
    shop_record: Vec<u8>,
    head_record: Vec<u8>,
}

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn later(days: u64) -> Timestamp {
    now() + Duration::from_secs(days * DAY)
}

impl Creator {
    fn new() -> Self {
        Self {
            shop: Keypair::generate_ed25519(),
            publishing: Keypair::generate_ed25519(),
            shop_sequence: 1,
            source: MemorySource::default(),
        }
    }

    fn name(&self) -> Name {
        name_of(&self.shop)
    }

    fn put(&self, bytes: Vec<u8>) -> Cid {
        self.source.put(Block::of(RAW, Bytes::from(bytes)))
    }

    fn directory(&self, entries: Vec<Entry>) -> Cid {
        let built = build_directory(entries, Metadata::default(), Profile::default()).unwrap();
        self.source.extend(built.blocks);
        built.root
    }

    /// The directory of head `seq` with this content.
    async fn head(&self, seq: u64, prev: Option<Cid>, issued: Timestamp, content: &str) -> Cid {
        let past = match prev {
            Some(root) => past_of(&self.source, root).await.unwrap(),
            None => Past::default(),
        };
        let mut entries = vec![entry("p", self.put(content.as_bytes().to_vec()))];
        if !past.files.is_empty() {
            entries.push(entry("heads", self.directory(past.files)));
        }
        let head = ShopJson {
            counts: ShopCounts::default(),
            description: String::new(),
            entries: entries
                .iter()
                .map(|entry| (entry.name.clone(), entry.cid.to_string()))
                .collect(),
            format: FORMAT,
            gateways: Vec::new(),
            history: past.history,
            issued,
            lifetime: LIFETIME,
            mirrors: Vec::new(),
            prev: prev.map(|cid| cid.to_string()),
            refresh: DAY,
            seq,
            title: String::new(),
        };
        entries.push(entry("shop.json", self.put(canonical(&head))));
        self.directory(entries)
    }

    fn sign(&self, root: Cid, seq: u64, signed: Timestamp) -> Sent {
        let (ttl, validity) = (Duration::ZERO, signed + Duration::from_secs(LIFETIME));
        let to_key = format!("/ipns/{}", name_of(&self.publishing));
        let to_root = format!("/ipfs/{root}");
        let sign =
            |key, value: &str, sequence| ipns::sign(key, value, sequence, validity, ttl).bytes;
        Sent {
            root,
            shop_record: sign(&self.shop, &to_key, self.shop_sequence),
            head_record: sign(&self.publishing, &to_root, seq),
        }
    }

    /// Heads 1 to `count`, one an hour, the first at [`now`].
    async fn publish(&self, count: u64) -> Vec<Sent> {
        let mut heads = Vec::new();
        self.publish_on(&mut heads, count, "content").await;
        heads
    }

    /// The heads after `heads`, up to `count`.
    async fn publish_on(&self, heads: &mut Vec<Sent>, count: u64, content: &str) {
        for seq in heads.len() as u64 + 1..=count {
            let issued = now() + Duration::from_secs(seq);
            let prev = heads.last().map(|head| head.root);
            let content = format!("{content} {seq}");
            let root = self.head(seq, prev, issued, &content).await;
            heads.push(self.sign(root, seq, issued));
        }
    }

    /// What a follower who knows `known` makes of what is sent.
    async fn seen(&self, known: Option<&Followed>, sent: &Sent) -> Result<Step, FollowError> {
        self.seen_at(known, sent, later(1)).await
    }

    async fn seen_at(
        &self,
        known: Option<&Followed>,
        sent: &Sent,
        now: Timestamp,
    ) -> Result<Step, FollowError> {
        let (shop, head) = (&sent.shop_record, &sent.head_record);
        follow(&self.source, &self.name(), known, shop, head, now).await
    }

    async fn known(&self, known: Option<&Followed>, sent: &Sent) -> Followed {
        match self.seen(known, sent).await.unwrap() {
            Step::New(new) => new.followed,
            other => panic!("not a new head: {other:?}"),
        }
    }

    async fn refused(&self, known: Option<&Followed>, sent: &Sent) -> Refused {
        match self.seen(known, sent).await {
            Err(FollowError::Refused(refused)) => refused,
            other => panic!("not refused: {other:?}"),
        }
    }
}

fn entry(name: &str, cid: Cid) -> Entry {
    Entry {
        name: name.to_owned(),
        cid,
        tsize: 1,
    }
}

#[tokio::test]
async fn a_newer_head_is_taken_and_a_known_one_is_known() {
    let creator = Creator::new();
    let heads = creator.publish(2).await;
    let first = creator.known(None, &heads[0]).await;
    assert_eq!((first.seq, first.root), (1, heads[0].root));
    assert_eq!(
        creator.seen(Some(&first), &heads[0]).await.unwrap(),
        Step::Known
    );
    let second = creator.known(Some(&first), &heads[1]).await;
    assert_eq!((second.seq, second.root), (2, heads[1].root));
}

#[tokio::test]
async fn heads_that_were_missed_are_bridged() {
    let creator = Creator::new();
    let heads = creator.publish(700).await;
    for at in [0, 14, 15, 16, 254, 255, 256, 600, 698] {
        let known = creator.known(None, &heads[at]).await;
        let newest = creator.known(Some(&known), &heads[699]).await;
        assert_eq!(newest.seq, 700, "after {}", at + 1);
    }
}

#[tokio::test]
async fn an_older_head_is_a_rollback() {
    let creator = Creator::new();
    let heads = creator.publish(2).await;
    let known = creator.known(None, &heads[1]).await;
    let refused = creator.refused(Some(&known), &heads[0]).await;
    assert_eq!(
        refused,
        Refused::Rollback {
            known: 2,
            offered: 1
        }
    );
}

#[tokio::test]
async fn two_heads_with_one_number_are_a_fork() {
    let creator = Creator::new();
    let heads = creator.publish(2).await;
    let known = creator.known(None, &heads[1]).await;
    let mut forged = heads[..1].to_vec();
    creator.publish_on(&mut forged, 2, "forged").await;
    let refused = creator.refused(Some(&known), &forged[1]).await;
    assert!(matches!(refused, Refused::Fork { seq: 2, .. }), "{refused}");
}

/// Wherever the fork began and however many heads were missed: the other branch is never taken.
#[tokio::test]
async fn a_fork_in_the_past_is_found_however_many_heads_were_missed() {
    let creator = Creator::new();
    let heads = creator.publish(80).await;
    for (fork, known) in [
        (0, 1),
        (0, 40),
        (9, 12),
        (33, 37),
        (15, 16),
        (16, 17),
        (36, 37),
    ] {
        let followed = creator.known(None, &heads[known - 1]).await;
        let mut forged = heads[..fork].to_vec();
        creator.publish_on(&mut forged, 90, "forged").await;
        for sent in &forged[known..] {
            let refused = creator.refused(Some(&followed), sent).await;
            let is_fork = matches!(refused, Refused::Fork { seq, .. } if seq == known as u64);
            assert!(
                is_fork,
                "fork after {fork}, head {known} is known: {refused}"
            );
        }
    }
}

#[tokio::test]
async fn a_head_with_no_past_does_not_follow() {
    let creator = Creator::new();
    let heads = creator.publish(3).await;
    let known = creator.known(None, &heads[1]).await;
    let root = creator.head(9, None, now(), "from nowhere").await;
    let refused = creator
        .refused(Some(&known), &creator.sign(root, 9, now()))
        .await;
    assert_eq!(
        refused,
        Refused::Unlinked {
            known: 2,
            offered: 9
        }
    );
}

#[tokio::test]
async fn a_record_of_another_key_is_refused() {
    let (creator, thief) = (Creator::new(), Creator::new());
    let heads = creator.publish(1).await;
    let forged = thief.sign(heads[0].root, 2, now());
    let with_both = creator.refused(None, &forged).await;
    assert!(
        matches!(with_both, Refused::Record { key: "shop", .. }),
        "{with_both}"
    );
    let with_one = Sent {
        shop_record: heads[0].shop_record.clone(),
        ..forged
    };
    let refused = creator.refused(None, &with_one).await;
    assert!(
        matches!(
            refused,
            Refused::Record {
                key: "publishing",
                ..
            }
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn a_jump_that_uses_up_the_numbers_is_refused() {
    let creator = Creator::new();
    let heads = creator.publish(2).await;
    let known = creator.known(None, &heads[1]).await;
    let issued = now() + Duration::from_secs(60);
    let root = creator
        .head(1 << 50, Some(heads[1].root), issued, "far")
        .await;
    let far = creator.sign(root, 1 << 50, now());
    let refused = creator.refused(Some(&known), &far).await;
    let expected = Refused::FastForward {
        known: 2,
        offered: 1 << 50,
        // Whatever its date is, which is not read.
        seconds: 25 * 60 * 60 - 2,
    };
    assert_eq!(refused, expected);

    // A day's heads in a minute.
    let root = creator.head(9999, Some(heads[1].root), issued, "far").await;
    let far = creator.sign(root, 9999, now());
    let refused = creator.refused(Some(&known), &far).await;
    let expected = Refused::FastForward {
        known: 2,
        offered: 9999,
        seconds: 58,
    };
    assert_eq!(refused, expected);
}

#[tokio::test]
async fn a_number_that_no_reader_keeps_exactly_is_refused_by_everybody() {
    let creator = Creator::new();
    let heads = creator.publish(1).await;
    let known = creator.known(None, &heads[0]).await;
    for offered in [MAX_SEQ + 1, u64::MAX] {
        let far = creator.sign(heads[0].root, offered, now());
        for known in [None, Some(&known)] {
            let refused = creator.refused(known, &far).await;
            assert_eq!(refused, Refused::Number { offered });
        }
    }
}

#[tokio::test]
async fn a_record_that_leads_to_no_shop_is_refused() {
    let creator = Creator::new();
    let known = creator.known(None, &creator.publish(1).await[0]).await;
    let empty = creator.sign(creator.directory(Vec::new()), 2, now());
    let refused = creator.refused(Some(&known), &empty).await;
    let key = "publishing";
    assert!(matches!(refused, Refused::NoShop { key: found, .. } if found == key));
}

#[tokio::test]
async fn a_head_of_the_future_is_refused() {
    let creator = Creator::new();
    let root = creator.head(1, None, later(2), "tomorrow").await;
    let refused = creator.refused(None, &creator.sign(root, 1, now())).await;
    assert!(
        matches!(refused, Refused::Future { seq: 1, .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn parts_of_different_heads_are_refused() {
    let creator = Creator::new();
    let heads = creator.publish(3).await;
    let links = |at: usize| root_links(&creator.source, heads[at].root);
    let (old, new) = (links(0).await.unwrap(), links(2).await.unwrap());
    for taken in ["p", "shop.json"] {
        let parts = new.iter().map(|link| {
            let from = if link.name == taken.as_bytes() {
                &old
            } else {
                &new
            };
            let part = from.iter().find(|other| other.name == link.name);
            let name = String::from_utf8(link.name.clone()).unwrap();
            entry(&name, part.unwrap().cid)
        });
        let root = creator.directory(parts.collect());
        let refused = creator.refused(None, &creator.sign(root, 3, now())).await;
        assert!(
            matches!(refused, Refused::Mixed { .. }),
            "{taken}: {refused}"
        );
    }
    let other_number = creator.sign(heads[2].root, 4, now());
    let refused = creator.refused(None, &other_number).await;
    assert!(matches!(refused, Refused::Mixed { .. }), "{refused}");
}

#[tokio::test]
async fn a_new_publishing_key_begins_anew_and_the_old_one_is_over() {
    let thief = Creator::new();
    let mut heads = thief.publish(5).await;
    let owner = Creator {
        publishing: Keypair::generate_ed25519(),
        shop_sequence: 2,
        ..thief.clone()
    };
    let before = thief.known(None, &heads[1]).await;
    thief.publish_on(&mut heads, 50, "stolen").await;
    let stolen = thief.known(Some(&before), &heads[49]).await;

    let root = owner
        .head(3, Some(heads[1].root), now(), "mine again")
        .await;
    let mine = owner.sign(root, 3, now());
    let Step::New(new) = owner.seen(Some(&stolen), &mine).await.unwrap() else {
        panic!("not a new head");
    };
    assert!(new.is_rekeyed);
    assert_eq!(new.followed.seq, 3);
    let refused = owner.refused(Some(&new.followed), &heads[49]).await;
    assert!(matches!(refused, Refused::OldKey { .. }), "{refused}");

    let twice = Creator {
        publishing: Keypair::generate_ed25519(),
        ..owner.clone()
    };
    let refused = owner
        .refused(Some(&new.followed), &twice.sign(root, 3, now()))
        .await;
    assert!(
        matches!(refused, Refused::TwoKeys { sequence: 2, .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn a_silent_creator_makes_the_head_stale_and_then_it_expires() {
    let creator = Creator::new();
    let sent = &creator.publish(1).await[0];
    let known = creator.known(None, sent).await;
    assert_eq!(known.freshness(later(3)), Freshness::Fresh);
    let signed = now() + Duration::from_secs(1);
    assert_eq!(known.freshness(later(4)), Freshness::Stale { signed });
    assert_eq!(known.freshness(later(366)), Freshness::Expired);
    let expired = creator.seen_at(None, sent, later(366)).await.unwrap_err();
    assert!(expired.to_string().contains("expired"), "{expired}");

    let again = creator.sign(sent.root, 1, later(3));
    let renewed = creator
        .seen_at(Some(&known), &again, later(4))
        .await
        .unwrap();
    let Step::Renewed(renewed) = renewed else {
        panic!("{renewed:?}");
    };
    assert_eq!(renewed.freshness(later(6)), Freshness::Fresh);
    assert_eq!(
        creator.seen(Some(&renewed), sent).await.unwrap(),
        Step::Known
    );
}

#[tokio::test]
async fn a_name_that_is_no_shop_is_said_to_be_none() {
    let creator = Creator::new();
    let sent = &creator.publish(1).await[0];
    let value = format!("/ipfs/{}", sent.root);
    let record = ipns::sign(&creator.shop, &value, 1, later(9), Duration::ZERO);
    let direct = Sent {
        shop_record: record.bytes,
        ..sent.clone()
    };
    let refused = creator.refused(None, &direct).await;
    assert!(
        matches!(refused, Refused::NoShop { key: "shop", .. }),
        "{refused}"
    );
}
