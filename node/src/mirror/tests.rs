use libp2p::identity::Keypair;

use super::*;
use crate::ipns;
use crate::keys::name_of;

fn name() -> Name {
    name_of(&Keypair::generate_ed25519())
}

#[tokio::test]
async fn a_publishing_key_of_two_shops_is_heard_by_both_until_the_last_is_gone() {
    let (node, _dir) = testing::node().await;
    let mirrors = Mirrors::default();
    let [first, second, key] = [name(), name(), name()];
    for shop in [&first, &second] {
        let running = Arc::new(Shop::new(&node, shop));
        mirrors.shops.lock().insert(shop.clone(), running);
        mirrors.learn(shop.clone(), shop);
        mirrors.learn(key.clone(), shop);
    }
    let signer = Keypair::generate_ed25519();
    let record = ipns::sign(&signer, "/ipfs/bafkqaaa", 1, Timestamp::MAX, LOOK_AGAIN);
    assert!(mirrors.hear(&key, &record, "peer".to_owned()));
    let heard = |shop: &Name| mirrors.get(shop).unwrap().heard.lock().len();
    assert_eq!((heard(&first), heard(&second)), (1, 1));
    let (_, names) = mirrors.forget(&second);
    assert_eq!(names, [second]);
    assert!(mirrors.has(&key));
    assert!(mirrors.hear(&key, &record, "peer".to_owned()));
    assert_eq!(heard(&first), 2);
    let (_, mut names) = mirrors.forget(&first);
    names.sort();
    let mut all = [first, key.clone()];
    all.sort();
    assert_eq!(names, all);
    assert!(!mirrors.has(&key));
}

#[test]
fn only_a_release_that_fits_nowhere_is_refused() {
    let estimate = |largest: u64| Estimate {
        traffic: 10 << 30,
        largest,
        free: 5 << 30,
        ..Estimate::default()
    };
    assert!(estimate(1 << 30).check_room().is_ok());
    let refused = estimate(6 << 30).check_room();
    assert!(matches!(refused, Err(MirrorError::NoRoom { .. })));
}
