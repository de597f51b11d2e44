use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::block::{Block, RAW};

/// The lists of one text.
fn lists(text: &str) -> Denylists {
    let mut rules = Rules::default();
    read_list(&mut rules, Path::new("test.deny"), text.as_bytes()).unwrap();
    rules.finish();
    Denylists::of(rules)
}

fn status(lists: &Denylists, path: &str) -> Option<Status> {
    let path = ContentPath::parse(path).unwrap();
    lists.check(&path).map(|denied| denied.status)
}

/// Checks which of the paths are denied.
fn check(text: &str, denied: &[&str], allowed: &[&str]) {
    let lists = lists(text);
    for path in denied {
        assert!(status(&lists, path).is_some(), "{path} is not denied");
    }
    for path in allowed {
        assert!(status(&lists, path).is_none(), "{path} is denied");
    }
}

#[test]
fn a_cid_is_denied_by_its_multihash() {
    check(
        "/ipfs/bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq",
        &[
            "/ipfs/bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq",
            "/ipfs/bafkreihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq",
            "/ipfs/QmesfgDQ3q6prBy2Kg2gKbW4MAGuWiRP2DVuGA5MZSERLo",
        ],
        &[
            "/ipfs/QmesfgDQ3q6prBy2Kg2gKbW4MAGuWiRP2DVuGA5MZSERLo/path",
            "/ipfs/bafkqaaa",
        ],
    );
}

#[test]
fn paths_are_denied_exactly_or_by_their_beginning() {
    let root = "/ipfs/QmdWFA9FL52hx3j9EJZPQP1ZUH8Ygi5tLCX2cRDs6knSf8";
    let path = |path: &str| format!("{root}/{path}");
    check(
        &path("a%20b/c"),
        &[&path("a b/c")],
        &[root, &path("a b/c/d"), &path("a b")],
    );
    check(
        &path("*"),
        &[root, &path("x"), &path("x/y")],
        &["/ipfs/bafkqaaa"],
    );
    for rule in ["test*", "test/*"] {
        check(
            &path(rule),
            &[&path("test"), &path("testing"), &path("test/x")],
            &[root, &path("tes"), &path("other")],
        );
    }
    check(&path("é*"), &[&path("éa")], &[&path("e")]);
}

#[test]
fn the_last_line_that_matches_wins() {
    let root = "/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK";
    let path = |path: &str| format!("{root}/{path}");
    let text = format!(
        "{root}/blocked*\n!{root}/blockednot\n!{root}/blocked/not\n!{root}/blocked/exceptions*\n\
         !/ipns/my.domain\n/ipns/my.domain\n/ipns/other.domain\n!/ipns/other.domain\n"
    );
    check(
        &text,
        &[
            &path("blocked"),
            &path("blocked2"),
            &path("blocked/yes"),
            "/ipns/my.domain",
        ],
        &[
            root,
            &path("blockednot"),
            &path("blocked/not"),
            &path("blocked/exceptions"),
            &path("blocked/exceptions2/x"),
            "/ipns/other.domain",
        ],
    );
    // Between kinds of rules, too.
    let hashed = "//QmX9dhRcQcKUw3Ws8485T5a9dtjrSCQaUAHnG4iK9i4ceM";
    let plain = "/ipfs/QmVTF1yEejXd9iMgoRTFDxBv7HAz9kuZcQNBzHrceuK9HR";
    check(&format!("{hashed}\n!{plain}"), &[], &[plain]);
    check(&format!("!{plain}\n{hashed}"), &[plain], &[]);
}

#[test]
fn names_are_denied_in_every_spelling() {
    check(
        "/ipns/domain.example\n/ipns/domain2.example/path\n\
         /ipns/k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf",
        &[
            "/ipns/domain.example",
            "/ipns/DOMAIN.example",
            "/ipns/domain2.example/path",
            "/ipns/k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf",
            "/ipns/bafzaajaiaejcaotjfs57kieazxny5japcmy5p2pgv2cic77tu6ogghttvurnrufx",
            "/ipns/12D3KooWDkNqEJNmreF3NYYFK1ws7Ra2fuW6cHBTu567SPV3LdYA",
        ],
        &["/ipns/domain2.example", "/ipns/other.example"],
    );
}

#[test]
fn double_hashes_are_those_of_the_specification() {
    let legacy = "bafybeiefwqslmf6zyyrxodaxx4vwqircuxpza5ri45ws3y5a62ypxti42e";
    let path = |path: &str| format!("/ipfs/{legacy}{path}");
    check(
        "//d9d295bde21f422d471a90f2a37ec53049fdf3e5fa3ee2e8f20e10003da429e7",
        &[&path(""), &path("/")],
        &[&path("/path")],
    );
    check(
        "//3F8B9FEBD851873B3774B937CCE126910699CEAC56E72E64B866F8E258D09572",
        &[&path("/path"), &path("/path/")],
        &[&path(""), &path("/path2")],
    );
    check(
        "//c555c4de78827ba42527dd3dc5398db38d6c0a8c345a88e0158b2d100f317e50",
        &["/ipns/bad-domain-name.tld"],
        &["/ipns/good-domain-name.tld"],
    );
    check(
        "//QmX9dhRcQcKUw3Ws8485T5a9dtjrSCQaUAHnG4iK9i4ceM",
        &[
            "/ipfs/QmVTF1yEejXd9iMgoRTFDxBv7HAz9kuZcQNBzHrceuK9HR",
            "/ipfs/bafybeidjwik6im54nrpfg7osdvmx7zojl5oaxqel5cmsz46iuelwf5acja",
            "/ipfs/bafkreidjwik6im54nrpfg7osdvmx7zojl5oaxqel5cmsz46iuelwf5acja",
        ],
        &["/ipfs/QmVTF1yEejXd9iMgoRTFDxBv7HAz9kuZcQNBzHrceuK9HR/path"],
    );
    // Another hash function.
    check(
        "//gW813G35CnLsy7gRYYHuf63hrz71U1xoLFDVeV7actx6oX",
        &[
            "/ipfs/bafyb4ieqht3b2rssdmc7sjv2cy2gfdilxkfh7623nvndziyqnawkmo266a/path",
            "/ipfs/f01701e20903cf61d46521b05f926ba1634628d0bba8a7ffb5b6d5a3ca310682ca63b5ef0/path",
        ],
        &["/ipfs/bafyb4ieqht3b2rssdmc7sjv2cy2gfdilxkfh7623nvndziyqnawkmo266a/path2"],
    );
}

#[test]
fn the_status_is_that_of_the_item_then_that_of_the_list() {
    let lists = lists(
        "name: Laws\nhints:\n  gateway_status: 451\n---\n/ipns/a.example\n\
         /ipns/b.example gateway_status:410\n",
    );
    assert_eq!(status(&lists, "/ipns/a.example"), Some(Status::Legal));
    assert_eq!(status(&lists, "/ipns/b.example"), Some(Status::Gone));
    let denied = lists.check(&ContentPath::parse("/ipns/a.example").unwrap());
    assert_eq!(&*denied.unwrap().list, "Laws");
}

#[test]
fn lines_that_are_no_rules_are_left_out() {
    let text = format!(
        "nonsense\n/ipns/a.example\n/ipfs/{}\n/ipns/b.example\n",
        "x".repeat(3 << 20)
    );
    let mut rules = Rules::default();
    let invalid = read_list(&mut rules, Path::new("test.deny"), text.as_bytes()).unwrap();
    assert_eq!((invalid, rules.count()), (2, 2));
}

#[test]
fn a_header_ends_within_a_mebibyte_or_is_none() {
    let rest = "\n---\n/ipns/a.example\n";
    let fits = format!("#{}{rest}", "x".repeat(MAX_HEADER - rest.len()));
    assert_eq!(
        split_header(&fits.as_bytes()[..MAX_HEADER]).1,
        fits.len() - 16
    );
    let mut rules = Rules::default();
    let long = format!("name: {}{rest}", "x".repeat(MAX_HEADER));
    let invalid = read_list(&mut rules, Path::new("test.deny"), long.as_bytes()).unwrap();
    assert_eq!((invalid, rules.count()), (2, 1));
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn later_files_override_earlier_ones_and_changes_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("1.deny"), dir.path().join("2.deny"));
    write(&first, "/ipns/a.example\n/ipns/b.example\n");
    write(&second, "!/ipns/b.example\n");
    write(&dir.path().join("notes.txt"), "/ipns/c.example\n");
    let lists = Denylists::load(&[dir.path()]).unwrap();
    let denied = |name: &str| status(&lists, &format!("/ipns/{name}.example")).is_some();
    assert_eq!(["a", "b", "c"].map(denied), [true, false, false]);

    write(&second, "/ipns/c.example\n");
    assert_eq!(["a", "b", "c"].map(denied), [true, false, false]);
    lists.refresh();
    assert_eq!(["a", "b", "c"].map(denied), [true, true, true]);
    std::fs::remove_file(&first).unwrap();
    lists.refresh();
    assert_eq!(["a", "b", "c"].map(denied), [false, false, true]);
}

#[test]
fn what_cannot_be_used_is_refused_at_the_start_and_changes_nothing_later() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("1.deny");
    let missing = Denylists::load(&[&list]).unwrap_err();
    assert!(
        missing.to_string().contains("1.deny cannot be read"),
        "{missing}"
    );
    write(&list, "version: 2\n---\n/ipns/a.example\n");
    let newer = Denylists::load(&[&list]).unwrap_err();
    assert!(newer.to_string().contains("version \"2\""), "{newer}");

    write(&list, "/ipns/a.example\n");
    let lists = Denylists::load(&[&list]).unwrap();
    let denied = || status(&lists, "/ipns/a.example").is_some();
    write(&list, "version: 2\n---\n");
    lists.refresh();
    assert!(denied());
    std::fs::remove_file(&list).unwrap();
    lists.refresh();
    assert!(denied());
    write(&list, "/ipns/b.example\n");
    lists.refresh();
    assert!(!denied());
}

#[tokio::test]
async fn a_running_node_sees_changes_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("1.deny");
    write(&list, "");
    let lists = Denylists::load(&[&list]).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(lists.clone().run(Duration::from_millis(1), stop.clone()));
    write(&list, "/ipns/a.example\n");
    let seen = async {
        while status(&lists, "/ipns/a.example").is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen)
        .await
        .unwrap();
    stop.cancel();
    running.await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz(&bytes);
    }

    /// Each block is denied as the last line about it says.
    #[test]
    fn any_list_says_what_its_last_lines_say(lines in prop::collection::vec((0u8..8, 0u8..4), 0..40)) {
        let block = |n: u8| *Block::of(RAW, vec![n; 3].into()).cid();
        let mut text = String::new();
        let mut denied = [false; 8];
        for (n, kind) in lines {
            let cid = block(n);
            let legacy = sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(format!("{cid}/")));
            let legacy = hex::encode(legacy);
            denied[usize::from(n)] = kind != 0;
            match kind {
                0 => writeln!(text, "!/ipfs/{cid}/*"),
                1 => writeln!(text, "/ipfs/{cid}"),
                2 => writeln!(text, "/ipfs/{cid}/*"),
                _ => writeln!(text, "//{legacy}"),
            }.unwrap();
        }
        let lists = lists(&text);
        for n in 0..8 {
            prop_assert_eq!(lists.check_block(&block(n)).is_some(), denied[usize::from(n)]);
        }
    }
}
