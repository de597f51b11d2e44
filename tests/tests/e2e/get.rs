//! `duka get`: from gateways without a node, resumed, whole or not at all.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use duka_tests::duka::Options;
use duka_tests::http::{BadGateway, Fault};
use duka_tests::kubo::{self, Kubo};
use duka_tests::process::Process;
use duka_tests::{Duka, files};

use crate::network::progress;
use crate::{add, assert_refused, assert_same_file, buyer, is_root, system};

const MIB: u64 = 1 << 20;

/// A file behind Kubo's gateway, and a buyer without a data directory.
struct Offer {
    _kubo: Kubo,
    duka: Duka,
    file: PathBuf,
    cid: String,
    /// Kubo's gateway.
    gateway: String,
    /// Where the buyer wants it.
    out: PathBuf,
}

impl Offer {
    fn new(seed: u64, length: u64, options: &Options) -> Self {
        let kubo = Kubo::run(kubo::Options::default()).unwrap();
        let duka = buyer(options);
        let (file, out) = (duka.home().join("file"), duka.home().join("out"));
        files::write_random(&file, seed, length).unwrap();
        Self {
            cid: kubo.add(&file).unwrap(),
            gateway: kubo.gateway().unwrap(),
            _kubo: kubo,
            duka,
            file,
            out,
        }
    }

    /// The arguments of a `get` from these gateways.
    fn arguments<'a>(&'a self, gateways: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec!["get", &self.cid, "-o", self.out.to_str().unwrap()];
        for gateway in gateways {
            arguments.extend(["--gateway", gateway]);
        }
        arguments
    }

    /// A gateway with a fault, before the good one.
    fn bad_gateway(&self, fault: Fault) -> String {
        BadGateway::start(&self.gateway, fault).unwrap().url()
    }
}

#[test]
fn a_tree_comes_from_kubos_gateway_without_a_node() {
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    let duka = buyer(&Options::default());
    let folder = tempfile::tempdir().unwrap();
    files::write_random(&folder.path().join("big"), 40, 5 * MIB + 1).unwrap();
    fs::create_dir_all(folder.path().join("a/empty")).unwrap();
    fs::write(folder.path().join("a/nothing"), "").unwrap();
    symlink("../big", folder.path().join("a/link")).unwrap();
    let cid = kubo.add(folder.path()).unwrap();
    let out = duka.home().join("out");
    let to = out.to_str().unwrap();
    duka.ok(&["get", &cid, "-o", to, "--gateway", &kubo.gateway().unwrap()])
        .unwrap();
    assert_eq!(
        files::tree(&out).unwrap(),
        files::tree(folder.path()).unwrap()
    );
}

#[test]
fn a_gateway_url_is_a_reference() {
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    let duka = buyer(&Options::default());
    let file = duka.home().join("file");
    fs::write(&file, "by URL").unwrap();
    let cid = kubo.add(&file).unwrap();
    let out = duka.home().join("out");
    let url = format!("{}/ipfs/{cid}", kubo.gateway().unwrap());
    duka.ok(&["get", &url, "-o", out.to_str().unwrap()])
        .unwrap();
    assert_eq!(fs::read(&out).unwrap(), b"by URL");
}

#[test]
fn an_existing_folder_is_never_mixed_into_without_update() {
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    let duka = buyer(&Options::default());
    let folder = duka.home().join("new");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a"), "new").unwrap();
    let cid = kubo.add(&folder).unwrap();
    let out = duka.home().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("a"), "old").unwrap();
    fs::write(out.join("mine"), "kept").unwrap();
    let gateway = kubo.gateway().unwrap();
    let get = [
        "get",
        &cid,
        "-o",
        out.to_str().unwrap(),
        "--gateway",
        &gateway,
    ];
    let refused = duka.cmd(&get).unwrap();
    assert_refused(&refused, 6, &["--update"]);
    assert_eq!(fs::read(out.join("a")).unwrap(), b"old");
    duka.ok(&[&get[..], &["--update"]].concat()).unwrap();
    assert_eq!(fs::read(out.join("a")).unwrap(), b"new");
    assert_eq!(fs::read(out.join("mine")).unwrap(), b"kept");
}

#[test]
fn a_get_killed_half_way_resumes_and_never_shows_half() {
    let offer = Offer::new(41, 128 * MIB, &Options::default());
    // Slow, so that the transfer takes long enough to be killed.
    let slow = offer.bad_gateway(Fault::IsSlow);
    let mut command = offer.duka.command();
    command
        .args(["--json", "--progress", "always"])
        .args(offer.arguments(&[&slow]));
    let get = Process::start("duka get", &mut command).unwrap();
    let half = Duration::from_secs(60);
    get.wait_for(half, |line| {
        progress(line).filter(|bytes| *bytes >= 8 * MIB)
    })
    .unwrap();
    assert!(
        get.is_running(),
        "the transfer was over before it could be killed"
    );
    get.kill();
    assert!(!offer.out.exists(), "half a file is visible");

    let get = offer.arguments(&[&offer.gateway]);
    let result = offer.duka.ok(&get).unwrap();
    assert_same_file(&offer.out, &offer.file);
    let reused = result["reused"].as_u64().unwrap();
    assert!(
        reused >= 4 * MIB,
        "nothing of the first run was used: {result}"
    );
    let left = leftovers(offer.duka.home());
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// Names in a folder that only an unfinished `get` explains.
fn leftovers(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    // `.local` has what is remembered of gateways.
    let known = ["file", "out", "data", "config.toml", ".local"];
    names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| !known.contains(&name.as_str()))
        .collect()
}

#[test]
fn a_lying_gateway_is_refused_and_a_good_one_takes_over() {
    let offer = Offer::new(42, 3 * MIB, &Options::default());
    let lying = offer.bad_gateway(Fault::FlipsABit);
    let refused = offer.duka.cmd(&offer.arguments(&[&lying])).unwrap();
    assert_refused(&refused, 4, &[]);
    assert!(!offer.out.exists(), "unverified bytes were written");

    let short = offer.bad_gateway(Fault::Truncates);
    let refused = offer.duka.cmd(&offer.arguments(&[&short])).unwrap();
    assert!([4, 5].contains(&refused.code), "{refused:?}");
    assert!(!offer.out.exists(), "half a file is visible");

    let get = offer.arguments(&[&lying, &offer.gateway]);
    offer.duka.ok(&get).unwrap();
    assert_same_file(&offer.out, &offer.file);
}

#[test]
fn a_hanging_gateway_ends_in_time_and_a_good_one_takes_over() {
    let offer = Offer::new(43, 3 * MIB, &impatient());
    let hanging = offer.bad_gateway(Fault::Hangs);
    let refused = offer.duka.cmd(&offer.arguments(&[&hanging])).unwrap();
    assert!([5, 124].contains(&refused.code), "{refused:?}");
    assert_refused(&refused, refused.code, &[]);
    assert!(!offer.out.exists());

    let get = offer.arguments(&[&hanging, &offer.gateway]);
    offer.duka.ok(&get).unwrap();
    assert_same_file(&offer.out, &offer.file);
}

#[test]
fn a_name_that_no_gateway_could_tell_is_not_called_unknown() {
    let buyer = buyer(&impatient());
    let name = Duka::new().unwrap().ok(&["id"]).unwrap()["name"].clone();
    let path = format!("/ipns/{}", name.as_str().unwrap());
    // One never answers; one closes every connection.
    for fault in [Fault::Hangs, Fault::IsSlow] {
        let gateway = BadGateway::start("http://nowhere.invalid", fault)
            .unwrap()
            .url();
        let refused = buyer.cmd(&["get", &path, "--gateway", &gateway]).unwrap();
        assert_refused(&refused, 5, &[&gateway, "try again"]);
    }
}

#[test]
fn a_pin_from_a_lying_gateway_is_refused_as_a_download_is() {
    let offer = Offer::new(45, 3 * MIB, &Options::default());
    let lying = offer.bad_gateway(Fault::FlipsABit);
    let more = format!("upstreams = [\"{lying}\"]\n[network.limits]\nblock_timeout = \"3s\"\n");
    let options = Options {
        more,
        ..Default::default()
    };
    let keeper = Duka::with(&options).unwrap();
    for _ in 0..2 {
        let refused = keeper.cmd(&["pin", "add", &offer.cid]).unwrap();
        assert_refused(&refused, 4, &[&lying]);
    }
    // One node remembers who lied.
    let _node = keeper.serve().unwrap();
    for _ in 0..2 {
        let refused = keeper.cmd(&["pin", "add", &offer.cid]).unwrap();
        assert_refused(&refused, 4, &[&lying]);
    }
}

#[test]
fn offline_asks_no_gateway() {
    let offer = Offer::new(46, 1000, &Options::default());
    let get = offer.arguments(&[&offer.gateway]);
    let refused = offer
        .duka
        .cmd(&[&["--offline"], &get[..]].concat())
        .unwrap();
    assert_refused(&refused, 2, &["the network is off"]);
    let url = format!("{}/ipfs/{}", offer.gateway, offer.cid);
    let refused = offer.duka.cmd(&["--offline", "get", &url]).unwrap();
    assert_refused(&refused, 2, &["the network is off"]);
    // Nor one of the settings.
    let more = format!("upstreams = [\"{}\"]\n", offer.gateway);
    let options = Options {
        more,
        ..Default::default()
    };
    let buyer = buyer(&options);
    let refused = buyer.cmd(&["--offline", "get", &offer.cid]).unwrap();
    assert_refused(&refused, 3, &[]);
}

#[test]
fn what_is_not_the_url_of_a_gateway_is_refused() {
    let buyer = buyer(&Options::default());
    let cid = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    for gateway in [
        "ftp://example.com",
        "file:///etc",
        "localhost:8080",
        "nonsense",
        "http://",
        "",
    ] {
        let refused = buyer.cmd(&["get", cid, "--gateway", gateway]).unwrap();
        assert_refused(&refused, 2, &["is not the URL of a gateway"]);
    }
}

/// Gives up on a block after 3 s.
pub(crate) fn impatient() -> Options {
    let more = "[network.limits]\nblock_timeout = \"3s\"\n".to_owned();
    duka_tests::duka::Options {
        more,
        ..Default::default()
    }
}

#[test]
fn executable_bits_come_back_from_the_release() {
    let seller = Duka::new().unwrap();
    let folder = seller.home().join("game");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("start"), "#!/bin/sh\n").unwrap();
    fs::write(folder.join("data"), "data").unwrap();
    fs::set_permissions(folder.join("start"), fs::Permissions::from_mode(0o755)).unwrap();
    let node = seller.serve().unwrap();
    let path = folder.to_str().unwrap();
    seller
        .ok(&["publish", path, "--product", "game", "--version", "1.0"])
        .unwrap();
    let id = seller.ok(&["id"]).unwrap();
    let name = id["name"].as_str().unwrap().to_owned();
    let link = format!("{}/ipns/{name}/p/game/1.0", node.gateway().unwrap());
    let buyer = buyer(&Options::default());
    let out = buyer.home().join("out");
    let to = out.to_str().unwrap();
    duka_tests::process::wait_until(
        "the release is in the head",
        Duration::from_secs(30),
        || (buyer.cmd(&["get", &link, "-o", to]).ok()?.code == 0).then_some(()),
    )
    .unwrap();
    let mode = |name: &str| fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o111;
    assert_ne!(mode("start"), 0, "the program is not executable");
    assert_eq!(mode("data"), 0, "data is executable");
}

#[test]
fn a_node_shares_what_it_added_with_another_duka() {
    let (seller, buyer) = (Duka::new().unwrap(), Duka::new().unwrap());
    let (selling, _buying) = (seller.serve().unwrap(), buyer.serve().unwrap());
    let file = seller.home().join("file");
    files::write_random(&file, 44, 20 * MIB).unwrap();
    let cid = add(&seller, &file).unwrap();
    buyer
        .ok(&["swarm", "connect", &selling.address("/tcp/").unwrap()])
        .unwrap();
    let out = buyer.home().join("out");
    buyer
        .ok(&["get", &cid, "-o", out.to_str().unwrap()])
        .unwrap();
    assert_same_file(&out, &file);
}

#[test]
fn what_a_node_has_is_not_fetched_and_no_rate_holds_it_back() {
    let duka = Duka::new().unwrap();
    let _node = duka.serve().unwrap();
    let (file, out) = (duka.home().join("file"), duka.home().join("out"));
    files::write_random(&file, 48, 20 * MIB).unwrap();
    let cid = add(&duka, &file).unwrap();
    let get = [
        "get",
        &cid,
        "-o",
        out.to_str().unwrap(),
        "--bwlimit",
        "1KiB",
    ];
    let got = duka.ok(&get).unwrap();
    assert_same_file(&out, &file);
    assert_eq!(got["fetched"], 0, "{got}");
    assert!(got["reused"].as_u64() >= Some(20 * MIB), "{got}");
}

#[test]
fn standard_output_takes_no_options_of_files() {
    let duka = buyer(&Options::default());
    let cid = "bafkqaaa";
    for option in [
        &["--update"][..],
        &["--restart"],
        &["--continue"],
        &["--from", "file"],
    ] {
        let get = [&["get", cid, "-o", "-"], option].concat();
        let refused = duka.cmd(&get).unwrap();
        assert_refused(&refused, 2, &[option[0], "-o -"]);
    }
    let get = ["get", cid, "-o", "x", "--bwlimit", "99999999999999999999"];
    let refused = duka.cmd(&get).unwrap();
    assert_refused(&refused, 2, &["500K or 10MiB"]);
}

/// The result of a `get` with further arguments, which must succeed and give the file.
fn got(offer: &Offer, gateways: &[&str], more: &[&str]) -> serde_json::Value {
    let arguments = [&offer.arguments(gateways), more].concat();
    let got = offer.duka.ok(&arguments).unwrap();
    assert_same_file(&offer.out, &offer.file);
    got
}

#[test]
fn what_curl_or_a_browser_began_is_finished() {
    let offer = Offer::new(50, 8 * MIB, &Options::default());
    let whole = fs::read(&offer.file).unwrap();
    let begun = &whole[..5_500_000];
    let reused = |got: &serde_json::Value| got["reused"].as_u64().unwrap();
    // curl writes to the name itself,
    fs::write(&offer.out, begun).unwrap();
    let from_curl = got(&offer, &[&offer.gateway], &[]);
    assert!(reused(&from_curl) >= 5 * MIB, "{from_curl}");
    fs::remove_file(&offer.out).unwrap();
    // a browser beside it.
    let beside = offer.duka.home().join("file.crdownload");
    fs::write(&beside, begun).unwrap();
    let from = ["--from", beside.to_str().unwrap()];
    let from_browser = got(&offer, &[&offer.gateway], &from);
    assert!(reused(&from_browser) >= 5 * MIB, "{from_browser}");
    assert_eq!(fs::read(&beside).unwrap(), begun);
    fs::remove_file(&offer.out).unwrap();
    // What is no beginning of it is somebody's file.
    let other = files::random_bytes(51, 3_000_000);
    fs::write(&offer.out, &other).unwrap();
    let refused = offer.duka.cmd(&offer.arguments(&[&offer.gateway])).unwrap();
    assert_refused(&refused, 6, &["exists"]);
    assert_eq!(fs::read(&offer.out).unwrap(), other);
    let refused = offer
        .duka
        .cmd(
            &[
                &offer.arguments(&[&offer.gateway])[..],
                &["--from", "/nowhere"],
            ]
            .concat(),
        )
        .unwrap();
    assert_refused(&refused, 3, &["/nowhere", "--from"]);
}

#[test]
fn no_more_comes_than_the_limit_allows_and_from_no_more_gateways() {
    let offer = Offer::new(52, 6 * MIB, &Options::default());
    let started = std::time::Instant::now();
    got(&offer, &[&offer.gateway], &["--bwlimit", "4MiB"]);
    assert!(started.elapsed() >= Duration::from_millis(1_300));
    fs::remove_file(&offer.out).unwrap();
    // Another door to the same gateway.
    let other = offer.bad_gateway(Fault::Passes);
    let one = got(&offer, &[&offer.gateway, &other], &["-x", "1"]);
    let gave = one["sources"].as_array().unwrap().iter();
    let least = gave.map(|source| source["bytes"].as_u64().unwrap()).min();
    // The root may have come from the other one.
    assert!(least.unwrap() < MIB, "{one}");
}

#[test]
fn a_full_disk_is_told_before_anything_is_fetched() {
    assert!(
        is_root(),
        "this test mounts a file system, which only root may: run the tests as root"
    );
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _gone = system("umount", &["-l", self.0.to_str().unwrap()]);
        }
    }
    let mut offer = Offer::new(53, 12 * MIB, &Options::default());
    let small = Mounted(offer.duka.home().join("small"));
    fs::create_dir(&small.0).unwrap();
    let to = small.0.to_str().unwrap();
    let mounted = system("mount", &["-t", "tmpfs", "-o", "size=8m", "none", to]).unwrap();
    assert_eq!(mounted.code, Some(0), "{}", mounted.text());
    offer.out = small.0.join("out");
    let refused = offer.duka.cmd(&offer.arguments(&[&offer.gateway])).unwrap();
    assert_refused(&refused, 9, &["no room", "12582912"]);
    assert!(!offer.out.exists());
    assert_eq!(fs::read_dir(&small.0).unwrap().count(), 0);
}
