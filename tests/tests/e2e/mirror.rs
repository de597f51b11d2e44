//! Mirrors of a shop: real processes that find one another by a gateway's URL, without a DHT.

mod chosen;
mod heads;
mod kept;
mod keys;
mod limited;
mod sources;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use duka_tests::duka::{Serving, field};
use duka_tests::http1::Connection;
use duka_tests::process::wait_until;
use duka_tests::{Duka, files};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Node {
    pub(crate) duka: Duka,
    pub(crate) serving: Serving,
}

impl Node {
    pub(crate) fn start() -> Self {
        Self::of(Duka::new().unwrap())
    }

    fn of(duka: Duka) -> Self {
        let serving = duka.serve().unwrap();
        Self { duka, serving }
    }

    pub(crate) fn shop(&self) -> String {
        let id = self.duka.ok(&["id"]).unwrap();
        field(&id, "name").unwrap().to_owned()
    }

    /// The number of the newest head.
    fn seq(&self) -> u64 {
        let shop = self.duka.ok(&["shop", "show"]).unwrap();
        shop["head"]["seq"].as_u64().unwrap()
    }

    pub(crate) fn publish(&self, product: &str, version: &str, size: usize) {
        let file = self.duka.home().join("file");
        let seed = version.bytes().map(u64::from).sum();
        fs::write(&file, files::random_bytes(seed, size)).unwrap();
        let path = file.to_str().unwrap();
        self.duka
            .ok(&["publish", path, "--product", product, "--version", version])
            .unwrap();
        let path = format!("/ipns/{}/p/{product}/{version}", self.shop());
        wait_until("the head has the release", PATIENCE, || {
            self.holds(&path).then_some(())
        })
        .unwrap();
    }

    /// The shop's URL at this node.
    fn url(&self, shop: &str) -> String {
        format!("{}/ipns/{shop}", self.serving.gateway().unwrap())
    }

    fn mirror(&self, url: &str, options: &[&str]) -> Value {
        let add = [&["--yes", "mirror", "add", url], options].concat();
        self.duka.ok(&add).unwrap()
    }

    /// The mirror, as soon as it is as wanted.
    fn until<T>(&self, what: &str, find: impl Fn(&Value) -> Option<T>) -> T {
        wait_until(what, PATIENCE, || {
            let listed = self.duka.cmd(&["mirror", "status"]).ok()?;
            let items = listed.events().ok()?;
            let mirror = items.iter().find(|item| item["kind"] == "mirror")?;
            find(mirror)
        })
        .unwrap()
    }

    /// Waits until the head is whole here.
    fn has(&self, seq: u64) {
        self.until(&format!("head {seq} is whole"), |mirror| {
            (mirror["whole_seq"] == seq && mirror["state"] == "whole").then_some(())
        });
    }

    /// The head that the mirror refused for such a reason.
    fn refuses(&self, what: &str, why: &str) -> Value {
        self.until(what, |mirror| {
            let refused = mirror["refused"].as_array()?;
            let is_it = |head: &&Value| head["why"].as_str().is_some_and(|text| text.contains(why));
            refused.iter().find(is_it).cloned()
        })
    }

    /// Whether the gateway has a path of the shop in its store.
    fn holds(&self, path: &str) -> bool {
        self.stored(path).is_some()
    }

    /// What the gateway has at a path, if it is in its store.
    pub(crate) fn stored(&self, path: &str) -> Option<Vec<u8>> {
        let url = self.serving.gateway().unwrap();
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        let mut connection = Connection::open(address).unwrap();
        let headers = [("host", "localhost"), ("cache-control", "only-if-cached")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let answer = connection.ask("GET", path, &headers).unwrap();
        (answer.status == 200 && answer.complete).then_some(answer.body)
    }
}

#[test]
fn a_shop_outlives_its_creator_from_mirror_to_mirror() {
    let creator = Node::start();
    creator.publish("album", "1", 3 << 20);
    let shop = creator.shop();
    let first = Node::start();
    let added = first.mirror(&creator.url(&shop), &[]);
    assert_eq!(added["releases"], 1, "{added}");
    assert_eq!(added["files"], 1, "{added}");
    first.has(creator.seq());

    // The next head comes by gossip, long before anybody is asked again.
    creator.publish("album", "2", 3 << 20);
    let seq = creator.seq();
    first.has(seq);
    creator.serving.kill();

    let second = Node::start();
    second.mirror(&first.url(&shop), &[]);
    second.has(seq);
    for version in ["1", "2"] {
        assert!(second.holds(&format!("/ipns/{shop}/p/album/{version}")));
        assert!(second.holds(&format!("/ipns/{shop}/products/album/{version}.json")));
    }
    let record = second.duka.ok(&["name", "resolve", &shop]).unwrap();
    assert!(field(&record, "path").unwrap().starts_with("/ipfs/"));
}

#[test]
fn policies_choose_what_is_kept_and_collections_keep_it() {
    let creator = Node::start();
    for version in ["1", "2", "3"] {
        creator.publish("album", version, 1 << 20);
    }
    creator.publish("game", "1", 1 << 20);
    let shop = creator.shop();
    let mirror = Node::start();
    let options = ["--products", "album", "--keep", "latest:1"];
    let added = mirror.mirror(&creator.url(&shop), &options);
    assert_eq!(added["releases"], 1, "{added}");
    mirror.has(creator.seq());
    creator.serving.kill();
    let has = |path: &str| mirror.holds(&format!("/ipns/{shop}/{path}"));
    for _ in 0..2 {
        assert!(
            has("p/album/3") && has("products/album/1.json") && has("products/game/product.json")
        );
        assert!(!has("p/album/1") && !has("p/album/2") && !has("p/game/1"));
        mirror.duka.ok(&["gc"]).unwrap();
    }
    mirror.duka.ok(&["fsck"]).unwrap();
    // Products that are not kept have no directories here.
    mirror.duka.ok(&["mirror", "census", &shop]).unwrap();
}

#[test]
fn a_quota_takes_the_newest_first_and_says_what_does_not_fit() {
    let creator = Node::start();
    for version in ["1", "2", "3"] {
        creator.publish("album", version, 1 << 20);
    }
    let shop = creator.shop();
    let mirror = Node::start();
    let added = mirror.mirror(&creator.url(&shop), &["--quota", "2500KiB"]);
    assert_eq!(added["left_out_releases"], 1, "{added}");
    mirror.has(creator.seq());
    assert!(mirror.holds(&format!("/ipns/{shop}/p/album/2")));
    creator.serving.kill();
    assert!(!mirror.holds(&format!("/ipns/{shop}/p/album/1")));
    let left_out = mirror.until("what does not fit", |mirror| {
        mirror["left_out_releases"].as_u64()
    });
    assert_eq!(left_out, 1);
}

#[test]
fn a_killed_mirror_goes_on_and_a_paused_one_waits() {
    let creator = Node::start();
    creator.publish("album", "1", 24 << 20);
    let shop = creator.shop();
    let mirror = Node::start();
    mirror.mirror(&creator.url(&shop), &["--bwlimit", "4MiB/s"]);
    mirror.until("some of it is here", |mirror| {
        (mirror["bytes"].as_u64()? > 4 << 20).then_some(())
    });
    mirror.serving.kill();
    let mirror = Node::of(mirror.duka);
    let seq = creator.seq();
    mirror.has(seq);

    mirror.duka.ok(&["mirror", "pause", &shop]).unwrap();
    creator.publish("album", "2", 1 << 20);
    let paused = mirror.until("it is paused", |mirror| {
        (mirror["state"] == "paused").then(|| mirror["whole_seq"].clone())
    });
    assert_eq!(paused, seq);
    mirror.duka.ok(&["mirror", "resume", &shop]).unwrap();
    mirror.has(creator.seq());
    mirror.duka.ok(&["mirror", "remove", &shop]).unwrap();
    let listed = mirror.duka.ok(&["mirror", "list"]).unwrap();
    assert_eq!(listed["count"], 0);
}

#[test]
fn nothing_is_mirrored_without_a_yes() {
    let creator = Node::start();
    creator.publish("album", "1", 1 << 20);
    let mirror = Node::start();
    let url = creator.url(&creator.shop());
    let refused = mirror.duka.cmd(&["mirror", "add", &url]).unwrap();
    assert_eq!(refused.code, 2, "{}", refused.complaint());
    let listed = mirror.duka.ok(&["mirror", "list"]).unwrap();
    assert_eq!(listed["count"], 0);
    let unknown = mirror
        .duka
        .cmd(&["mirror", "pause", &creator.shop()])
        .unwrap();
    assert_eq!(unknown.code, 3, "{}", unknown.complaint());
    let own = mirror
        .duka
        .cmd(&["--yes", "mirror", "add", &mirror.shop()])
        .unwrap();
    assert_eq!(own.code, 2, "{}", own.complaint());
}

/// Copies a folder and all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&entry.path(), &target),
            kind if kind.is_file() => drop(fs::copy(entry.path(), target).unwrap()),
            // Sockets of a node that runs no more.
            _ => {}
        }
    }
}

#[test]
fn older_heads_forks_and_foreign_records_are_refused_and_reported() {
    let creator = Node::start();
    creator.publish("album", "1", 1000);
    let shop = creator.shop();
    let lagging = Node::start();
    lagging.mirror(&creator.url(&shop), &[]);
    lagging.has(creator.seq());
    lagging.duka.ok(&["mirror", "pause", &shop]).unwrap();

    // Somebody has a copy of the keys.
    let seq = creator.seq();
    creator.serving.stop().unwrap();
    let thief = Duka::new().unwrap();
    fs::remove_dir_all(thief.data_dir()).unwrap();
    copy(&creator.duka.data_dir(), &thief.data_dir());
    let creator = Node::of(creator.duka);
    creator.publish("album", "2", 1000);
    let newest = creator.seq();
    let mirror = Node::start();
    mirror.mirror(&creator.url(&shop), &[]);
    mirror.has(newest);

    mirror.mirror(&lagging.url(&shop), &[]);
    let refused = |what: &str, text: &str| mirror.refuses(what, text);
    let older = refused("the older head is refused", "is older than head");
    assert_eq!(older["seq"], seq);
    let from = older["from"].as_str().unwrap();
    assert_eq!(
        from.trim_end_matches('/'),
        lagging.serving.gateway().unwrap()
    );

    creator.serving.stop().unwrap();
    let thief = Node::of(thief);
    thief.publish("album", "2", 2000);
    assert_eq!(thief.seq(), newest);
    mirror.mirror(&thief.url(&shop), &[]);
    let fork = refused("the fork is refused", "there are two heads");
    assert_eq!(fork["seq"], newest);

    let liar = Answering::of(|_| Some(b"\x0a\x05hello".to_vec()));
    mirror.mirror(&format!("{}/ipns/{shop}", liar.url), &[]);
    refused("what is no record is refused", "not a valid IPNS record");
    mirror.has(newest);
}

/// A gateway that answers as it is told to, by the path that is asked for.
pub(crate) struct Answering {
    pub(crate) url: String,
}

impl Answering {
    pub(crate) fn of(body: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &body).ok();
            }
        });
        Self { url }
    }
}

fn answer(stream: TcpStream, body: &impl Fn(&str) -> Option<Vec<u8>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match body(path) {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", Vec::new()),
    };
    let kind = match path.starts_with("/ipns/") {
        true => "application/vnd.ipfs.ipns-record",
        false => "application/vnd.ipld.raw",
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(&body)
}

#[test]
fn a_census_tells_who_has_the_blocks() {
    let creator = Node::start();
    creator.publish("album", "1", 40 << 20);
    let shop = creator.shop();
    let mirrors = [Node::start(), Node::start()];
    for mirror in &mirrors {
        mirror.mirror(&creator.url(&shop), &[]);
        mirror.has(creator.seq());
    }
    // One keeps nothing of the product any more.
    let options = ["--products", "nothing"];
    mirrors[1].mirror(&creator.url(&shop), &options);
    mirrors[1].until("the catalogue alone is kept", |mirror| {
        (mirror["state"] == "whole" && mirror["products"] == serde_json::json!([])).then_some(())
    });
    mirrors[1].duka.ok(&["gc"]).unwrap();

    let census = creator
        .duka
        .cmd(&["mirror", "census", "--challenges", "30"])
        .unwrap();
    let events = census.events().unwrap();
    let of = |node: &Node| {
        let id = node.duka.ok(&["id"]).unwrap();
        let peer = field(&id, "peer_id").unwrap();
        let found = events.iter().find(|event| event["who"] == peer);
        found.unwrap_or_else(|| panic!("{events:?}"))
    };
    let share = |node: &Node, bound: &str| of(node)[bound].as_f64().unwrap();
    let verdict = |node: &Node| of(node)["verdict"].as_str().unwrap();
    assert!(share(&mirrors[0], "share_high") > 0.99, "{events:?}");
    assert_ne!(verdict(&mirrors[0]), "lacks", "{events:?}");
    assert_eq!(verdict(&mirrors[1]), "lacks", "{events:?}");
    assert!(share(&mirrors[1], "share_high") < 0.75, "{events:?}");
    let product = events
        .iter()
        .find(|event| event["product"] == "album")
        .unwrap();
    assert_eq!(product["asked"], product["proved"], "{product}");
}
