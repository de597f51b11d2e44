//! The storefront in headless Chromium, through duka's gateway and Kubo's.

mod download;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use duka_tests::curl::curl;
use duka_tests::duka::{Options, Serving, field};
use duka_tests::http::{BadGateway, Fault};
use duka_tests::kubo::{self, Kubo};
use duka_tests::visitor::visit;
use duka_tests::{Duka, files, locate, process};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(600);
/// Length of the file that a visitor downloads.
const FILE_LEN: u64 = 40 << 20;
/// Length of one that is too long to be checked in memory.
const LARGE_LEN: u64 = 65 << 20;
/// A host of the gateway that is no secure context.
const INSECURE: &str = "plain.example";
/// A domain with a DNSLink to the shop.
const DOMAIN: &str = "shop.example";
/// Hosts that the browser finds on loopback.
const HOSTS: &str = "*.example";
/// Blocks of the file that come before the page is loaded again.
const BLOCKS_BEFORE: u64 = 24;

/// A message as hex and how often that is repeated, and its SHA-256: the examples of FIPS 180-4, and of NIST's
/// "SHA-256 additional" and "ShortMsg" vectors those that fit into a block.
const NIST: [(&str, usize, &str); 16] = [
    (
        "",
        1,
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ),
    (
        "616263",
        1,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ),
    (
        "6162636462636465636465666465666765666768666768696768696a68696a6b\
         696a6b6c6a6b6c6d6b6c6d6e6c6d6e6f6d6e6f706e6f7071",
        1,
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    ),
    (
        "61",
        1_000_000,
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
    ),
    (
        "bd",
        1,
        "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b",
    ),
    (
        "c98c8e55",
        1,
        "7abc22c0ae5af26ce93dbb94433a0e0b2e119d014f8e7f65bd56c61ccccd9504",
    ),
    (
        "00",
        55,
        "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7",
    ),
    (
        "00",
        56,
        "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb",
    ),
    (
        "00",
        57,
        "65a16cb7861335d5ace3c60718b5052e44660726da4cd13bb745381b235a1785",
    ),
    (
        "00",
        64,
        "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b",
    ),
    (
        "00",
        1000,
        "541b3e9daa09b20bf85fa273e5cbd3e80185aa4ec298e765db87742b70138a53",
    ),
    (
        "41",
        1000,
        "c2e686823489ced2017f6059b8b239318b6364f6dcd835d0a519105a1eadd6e4",
    ),
    (
        "55",
        1005,
        "f4d62ddec0f3dd90ea1380fa16a5ff8dc4c54b21740650f24afc4120903552b0",
    ),
    (
        "00",
        1_000_000,
        "d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025",
    ),
    (
        "d3",
        1,
        "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1",
    ),
    (
        "11af",
        1,
        "5ca7133fa735326081558ac312c620eeca9970d1e70a4b95533d956f072d1f98",
    ),
];

/// A shop with more products than its front page shows, one with a folder, one of a single large file.
struct Shop {
    node: Serving,
    duka: Duka,
    name: String,
}

impl Shop {
    fn open(gateways: &[&str]) -> Result<Self> {
        let gateways = serde_json::to_string(gateways)?;
        let duka = Duka::new()?;
        let name = field(&duka.ok(&["id"])?, "name")?.to_owned();
        duka.configure(&Options {
            more: format!(
                "hosts = {{ localhost = {{ subdomains = true }}, {INSECURE:?} = {{}} }}\n\
                 dnslink = {{ {DOMAIN:?} = \"/ipns/{name}\" }}\n\
                 [shop]\ntitle = \"Kibanda\"\ngateways = {gateways}\n"
            ),
            ..Options::default()
        })?;
        let publish = |path: &Path, id: &str, more: &[&str]| {
            let path = path.to_str().context("a test's path is text")?;
            let mut arguments = vec!["publish", path, "--product", id];
            arguments.extend(more);
            duka.ok(&arguments)
        };
        let album = locate::repository().join("examples/album");
        let cover = album.join("cover.svg");
        let cover = cover.to_str().context("a test's path is text")?;
        let text = "Songs from the *harbour*.\n\n## Tracks\n\n| n | title |\n|--:|:--|\n| 1 | [Dawn](https://a.example) |\n\n`code`";
        publish(
            &album,
            "album",
            &[
                "--version",
                "1.0",
                "--title",
                "Harbour Lights",
                "--cover",
                cover,
                "--description",
                text,
            ],
        )?;
        let notes = duka.home().join("notes.md");
        fs::write(&notes, "# New\n\nA **second** mix.")?;
        let notes = notes.to_str().context("a test's path is text")?;
        publish(
            &album,
            "album",
            &["--version", "1.1", "--notes", notes, "--price", "9.50USD"],
        )?;
        let image = duka.home().join("boat.img");
        files::write_random(&image, 77, FILE_LEN)?;
        publish(
            &image,
            "dhow",
            &["--version", "12", "--title", "Dhow Linux"],
        )?;
        let large = duka.home().join("void.img");
        fs::File::create(&large)?.set_len(LARGE_LEN)?;
        publish(&large, "void", &[])?;
        let small = duka.home().join("poem.txt");
        for n in 0..24 {
            fs::write(&small, format!("poem {n}"))?;
            publish(
                &small,
                &format!("poem-{n}"),
                &["--title", &format!("Poem {n}")],
            )?;
        }
        let node = duka.serve()?;
        let shop = Self { node, duka, name };
        let url = format!("{}shop.json", shop.path_url()?);
        process::wait_until("a head with all products", PATIENCE, || {
            let head: Value = serde_json::from_slice(&curl(&url, &[]).ok()?.body).ok()?;
            (head["counts"]["products"] == 27).then_some(())
        })?;
        Ok(shop)
    }

    fn path_url(&self) -> Result<String> {
        Ok(format!("{}/ipns/{}/", self.node.gateway()?, self.name))
    }

    fn subdomain_url(&self) -> Result<String> {
        let gateway = self.node.gateway()?;
        let port = gateway.rsplit(':').next().context("a port")?;
        Ok(format!("http://{}.ipns.localhost:{port}/", self.name))
    }

    fn domain_url(&self) -> Result<String> {
        let gateway = self.node.gateway()?;
        let port = gateway.rsplit(':').next().context("a port")?;
        Ok(format!("http://{DOMAIN}:{port}/"))
    }

    fn insecure_url(&self) -> Result<String> {
        Ok(self.path_url()?.replace("127.0.0.1", INSECURE))
    }

    /// The shop at Kubo's gateway, which has all its blocks from a CAR.
    fn at_kubo(&self, kubo: &Kubo) -> Result<String> {
        let folder = curl(&format!("{}?format=raw", self.path_url()?), &[])?;
        let root = folder.header("x-ipfs-roots");
        let car = self.duka.home().join("shop.car");
        let car = car.to_str().context("a test's path is text")?;
        self.duka.ok(&["car", "export", root, car])?;
        kubo.ok(&["dag", "import", "--pin-roots=false", car])?;
        Ok(format!("{}/ipfs/{root}/", kubo.gateway()?))
    }

    /// Where it is shown: by its path, on two kinds of hosts, and at a Kubo.
    fn everywhere(&self, kubo: &Kubo) -> Result<[String; 4]> {
        Ok([
            self.path_url()?,
            self.subdomain_url()?,
            self.domain_url()?,
            self.at_kubo(kubo)?,
        ])
    }

    fn file_sha256(&self) -> Result<String> {
        files::sha256_of(&self.duka.home().join("boat.img"))
    }
}

#[test]
fn pages_are_without_findings_of_axe_at_every_gateway_light_and_dark_narrow_and_wide() {
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    let shop = Shop::open(&[]).unwrap();
    for place in shop.everywhere(&kubo).unwrap() {
        let pages = [
            "",
            "?q=poem",
            "catalogue/",
            "catalogue/from-album.html",
            "products/album/",
            "products/dhow/",
        ];
        let urls: Vec<String> = pages.map(|page| format!("{place}{page}")).into();
        let seen = visit("look", &json!({ "urls": urls, "host": HOSTS })).unwrap();
        let seen = seen.as_array().unwrap();
        assert_eq!(seen.len(), 4 * pages.len());
        for page in seen {
            assert_eq!(page["violations"], json!([]), "{page}");
            assert_eq!(page["complaints"], json!([]), "{page}");
            assert!(page["overflow"].as_i64().unwrap() <= 0, "{page}");
        }
    }
}

#[test]
fn search_finds_a_product_in_spite_of_a_typo_with_the_keyboard_alone() {
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    let shop = Shop::open(&[]).unwrap();
    for place in shop.everywhere(&kubo).unwrap() {
        let ask = json!({ "url": place, "query": "harbuor", "host": HOSTS });
        let seen = visit("search", &ask).unwrap();
        assert_eq!(seen["titles"], json!(["Harbour Lights"]), "{seen}");
        assert_eq!(seen["arrived"], "Harbour Lights", "{seen}");
        assert!(
            seen["again"].as_str().unwrap().ends_with("?q=harbuor"),
            "{seen}"
        );
        assert_eq!(seen["complaints"], json!([]), "{seen}");
        let scripts = seen["before"].as_u64().unwrap();
        assert!(
            scripts > 0 && scripts <= 20_000,
            "{scripts} bytes of script"
        );
    }
}

#[test]
fn download_comes_from_several_gateways_and_one_that_changes_bytes_is_named_and_left_out() {
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    let liar = BadGateway::start(&kubo.gateway().unwrap(), Fault::FlipsABit).unwrap();
    let shop = Shop::open(&[&liar.url(), &kubo.gateway().unwrap()]).unwrap();
    let at_kubo = shop.at_kubo(&kubo).unwrap();
    for place in [
        shop.path_url().unwrap(),
        shop.subdomain_url().unwrap(),
        at_kubo,
    ] {
        let ask = json!({ "url": format!("{place}products/dhow/") });
        let seen = visit("fetchFile", &ask).unwrap();
        assert_eq!(seen["sha256"], shop.file_sha256().unwrap(), "{seen}");
        assert_eq!(seen["name"], "boat.img", "{seen}");
        assert!(
            seen["text"]
                .as_str()
                .unwrap()
                .contains("checked, block by block"),
            "{seen}"
        );
        let sources: Vec<&str> = seen["sources"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let of_liar = sources
            .iter()
            .find(|line| liar.url().ends_with(line.split(": ").next().unwrap()));
        assert!(of_liar.unwrap().contains("wrong bytes"), "{sources:?}");
    }
}

#[test]
fn on_a_host_of_its_own_the_blocks_come_out_of_the_file_itself() {
    let shop = Shop::open(&[]).unwrap();
    let ask = json!({
        "url": format!("{}products/dhow/", shop.domain_url().unwrap()),
        "host": HOSTS,
    });
    let seen = visit("fetchFile", &ask).unwrap();
    assert_eq!(seen["sha256"], shop.file_sha256().unwrap(), "{seen}");
}

#[test]
fn file_of_a_folder_is_downloaded_with_the_name_it_has_there() {
    let shop = Shop::open(&[]).unwrap();
    let ask = json!({
        "url": format!("{}products/album/", shop.path_url().unwrap()),
        "name": "03 Morgenrot – sunrise.txt",
    });
    let seen = visit("fetchFile", &ask).unwrap();
    let file = locate::repository().join("examples/album/lyrics/03 Morgenrot – sunrise.txt");
    assert_eq!(seen["sha256"], files::sha256_of(&file).unwrap(), "{seen}");
    assert_eq!(seen["name"], "03 Morgenrot – sunrise.txt", "{seen}");
}

#[test]
fn download_goes_on_after_the_page_was_loaded_again() {
    let shop = Shop::open(&[]).unwrap();
    let ask = json!({
        "url": format!("{}products/dhow/", shop.path_url().unwrap()),
        "blocks": BLOCKS_BEFORE,
    });
    let seen = visit("resume", &ask).unwrap();
    assert_eq!(seen["sha256"], shop.file_sha256().unwrap(), "{seen}");
    assert_eq!(seen["offered"], "Continue the download", "{seen}");
    let blocks = FILE_LEN >> 20;
    let asked = seen["asked"].as_u64().unwrap();
    assert!(
        asked > 0 && asked <= blocks + 1 - (BLOCKS_BEFORE - 8),
        "{asked} of {blocks}"
    );
}

#[test]
fn download_that_was_paused_needs_room_only_for_what_is_left() {
    let shop = Shop::open(&[]).unwrap();
    let ask = json!({
        "url": format!("{}products/dhow/", shop.path_url().unwrap()),
        "blocks": BLOCKS_BEFORE,
        "quota": FILE_LEN + FILE_LEN / 4,
    });
    let seen = visit("paused", &ask).unwrap();
    assert_eq!(seen["sha256"], shop.file_sha256().unwrap(), "{seen}");
    assert_eq!(seen["complaints"], json!([]), "{seen}");
}

#[test]
fn download_that_is_paused_before_it_began_is_continued_once() {
    let shop = Shop::open(&[]).unwrap();
    let ask = json!({ "url": format!("{}products/dhow/", shop.path_url().unwrap()) });
    let seen = visit("hasty", &ask).unwrap();
    assert_eq!(seen["sha256"], shop.file_sha256().unwrap(), "{seen}");
    assert_eq!(seen["jobs"], 1, "{seen}");
    assert_eq!(seen["complaints"], json!([]), "{seen}");
}

#[test]
fn download_waits_for_the_only_gateway_while_it_cannot_be_reached() {
    let shop = Shop::open(&[]).unwrap();
    let ask = json!({
        "url": format!("{}products/dhow/", shop.path_url().unwrap()),
        "blocks": BLOCKS_BEFORE,
        "ms": 4000,
    });
    let seen = visit("interrupted", &ask).unwrap();
    assert_eq!(seen["sha256"], shop.file_sha256().unwrap(), "{seen}");
}

#[test]
fn gateway_that_lacks_most_blocks_is_asked_for_the_others() {
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    let other = BadGateway::start(&kubo.gateway().unwrap(), Fault::LacksOneIn(8)).unwrap();
    let shop = Shop::open(&[&other.url()]).unwrap();
    shop.at_kubo(&kubo).unwrap();
    let seen = through(&shop, Fault::HasOneIn(8));
    assert_eq!(seen["sha256"], shop.file_sha256().unwrap(), "{seen}");
    assert_eq!(seen["sources"].as_array().unwrap().len(), 2, "{seen}");
}

#[test]
fn gateway_that_is_busy_is_asked_again_when_it_said() {
    let shop = Shop::open(&[]).unwrap();
    let seen = through(&shop, Fault::IsBusyFor(6));
    assert_eq!(seen["sha256"], shop.file_sha256().unwrap(), "{seen}");
}

/// A download from the page as a gateway with this fault shows it.
fn through(shop: &Shop, fault: Fault) -> Value {
    let gateway = BadGateway::start(&shop.node.gateway().unwrap(), fault).unwrap();
    let url = format!("{}/ipns/{}/products/dhow/", gateway.url(), shop.name);
    visit("fetchFile", &json!({ "url": url })).unwrap()
}

#[test]
fn what_others_keep_in_the_browser_for_the_same_gateway_is_left_alone() {
    let shop = Shop::open(&[]).unwrap();
    let ask = json!({ "url": format!("{}products/dhow/", shop.path_url().unwrap()) });
    let seen = visit("shared", &ask).unwrap();
    assert_eq!(seen["sha256"], shop.file_sha256().unwrap(), "{seen}");
    let there = json!(["duka directory", "notes file", "other directory"]);
    assert_eq!(seen["there"], there, "{seen}");
}

#[test]
fn over_plain_http_a_small_file_is_checked_in_memory_and_a_large_one_is_left_to_duka_get() {
    let shop = Shop::open(&[]).unwrap();
    let place = shop.insecure_url().unwrap();
    let ask = json!({ "url": format!("{place}products/dhow/"), "host": HOSTS });
    let seen = visit("fetchFile", &ask).unwrap();
    assert_eq!(seen["sha256"], shop.file_sha256().unwrap(), "{seen}");

    let ask = json!({ "url": format!("{place}products/void/"), "host": HOSTS });
    let seen = visit("refused", &ask).unwrap();
    assert_eq!(seen["buttons"], 0, "{seen}");
    let text = seen["text"].as_str().unwrap();
    assert!(
        text.contains("cannot be checked here") && text.contains("duka get"),
        "{text}"
    );
}

#[test]
fn everything_is_there_without_script() {
    let shop = Shop::open(&[]).unwrap();
    let ask = json!({ "url": format!("{}products/dhow/", shop.path_url().unwrap()) });
    let seen = visit("plain", &ask).unwrap();
    assert_eq!(seen["sha256"], shop.file_sha256().unwrap(), "{seen}");
    assert_eq!(seen["name"], "boat.img", "{seen}");
    let text = seen["text"].as_str().unwrap();
    for shown in [
        "Dhow Linux",
        "Version 12",
        "40.0 MiB",
        "duka get k51",
        "hostile gateway",
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
}

#[test]
fn pages_hash_as_nist_and_node_do() {
    let shop = Shop::open(&[]).unwrap();
    let given = NIST.map(|(hex, times, _)| json!({ "hex": hex, "times": times }));
    let ask = json!({ "url": shop.path_url().unwrap(), "given": given });
    let seen = visit("hashes", &ask).unwrap();
    assert_eq!(seen["given"], json!(NIST.map(|(_, _, digest)| digest)));
    assert_eq!(seen["wrong"], json!([]));
    assert!(seen["random"].as_u64().unwrap() > 300, "{seen}");
}

#[test]
fn older_versions_open_with_what_was_published_then() {
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    let shop = Shop::open(&[]).unwrap();
    let image = shop.duka.home().join("boat.img");
    let old = files::sha256_of(&image).unwrap();
    files::write_random(&image, 78, 3 << 20).unwrap();
    let image = image.to_str().unwrap();
    shop.duka
        .ok(&["publish", image, "--product", "dhow", "--version", "13"])
        .unwrap();
    let page = format!("{}products/dhow/", shop.path_url().unwrap());
    process::wait_until("the page of version 13", PATIENCE, || {
        let page = curl(&page, &[]).ok()?.body;
        let page = String::from_utf8_lossy(&page);
        page.contains("Version 13").then_some(())
    })
    .unwrap();
    for place in shop.everywhere(&kubo).unwrap() {
        let ask =
            |product: &str| json!({ "url": format!("{place}products/{product}/"), "host": HOSTS });
        let seen = visit("versions", &ask("dhow")).unwrap();
        assert_eq!(seen[0]["version"], "13", "{place}: {seen}");
        assert_eq!(seen[1]["version"], "12", "{place}: {seen}");
        assert_eq!(seen[1]["sha256"], old, "{place}: {seen}");
        let seen = visit("versions", &ask("album")).unwrap();
        assert_eq!(seen[0]["version"], "1.1", "{place}: {seen}");
        assert!(
            seen[1]["text"].as_str().unwrap().contains("cover.svg"),
            "{place}: {seen}"
        );
    }
}
