//! What a mirror may fetch in a second.

use std::time::Instant;

use serde_json::Value;

use super::Node;

#[test]
fn a_rate_holds_from_the_first_byte_and_heads_are_noted_meanwhile() {
    let creator = Node::start();
    creator.publish("album", "1", 60 << 20);
    let url = creator.url(&creator.shop());
    let mirror = Node::start();
    let started = Instant::now();
    mirror.mirror(&url, &["--bwlimit", "1MiB/s"]);
    let fetched = |mirror: &Value| {
        let fetched = mirror["fetched_bytes"].as_u64()?;
        let most = (started.elapsed().as_secs() + 3) << 20;
        assert!(fetched <= most, "{fetched} of {most} bytes");
        Some(fetched)
    };
    mirror.until("some of it is here", |mirror| {
        (fetched(mirror)? > 4 << 20).then_some(())
    });
    creator.publish("album", "2", 1000);
    let seq = creator.seq();
    mirror.until("the next head is noted", |mirror| {
        fetched(mirror)?;
        (mirror["head"]["seq"] == seq).then(|| {
            assert_eq!(mirror["state"], "fetching", "{mirror}");
            assert_eq!(mirror["whole_seq"], Value::Null, "{mirror}");
        })
    });
    // What is changed counts at once.
    mirror.mirror(&url, &["--bwlimit", "1GiB/s"]);
    mirror.has(seq);
}
