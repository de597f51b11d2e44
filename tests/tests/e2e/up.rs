//! The first command of the README, and life with a running node.

use std::fs;
use std::time::Duration;

use duka_tests::curl::curl;
use duka_tests::duka::field;
use duka_tests::process;
use duka_tests::{Duka, locate};

use crate::{add, assert_refused, cat, versions};

#[test]
fn up_publishes_the_sample_folder_and_its_links_answer() {
    let duka = Duka::new().unwrap();
    let album = locate::repository().join("examples/album");
    let node = duka.start(&["up", album.to_str().unwrap()]).unwrap();
    let gateway = node.gateway().unwrap();
    let products = duka.plain(&["product", "list"]).unwrap().text();
    assert!(products.contains("album"), "{products}");

    let ready = node.ready();
    for link in ["shop_url", "release_url", "cid_url"] {
        let url = field(ready, link).unwrap();
        assert_eq!(curl(url, &["--location"]).unwrap().status, 200, "{url}");
    }
    let cover = format!("{}cover.svg", field(ready, "release_url").unwrap());
    let album = locate::repository().join("examples/album");
    assert_eq!(
        curl(&cover, &[]).unwrap().body,
        fs::read(album.join("cover.svg")).unwrap()
    );
    let head = format!("{gateway}/ipns/{}/shop.json", field(ready, "name").unwrap());
    let head: serde_json::Value = serde_json::from_slice(&curl(&head, &[]).unwrap().body).unwrap();
    assert!(head["seq"].is_u64(), "{head}");
    node.stop().unwrap();
}

#[test]
fn up_again_publishes_no_new_version_of_the_same_files() {
    let duka = Duka::new().unwrap();
    let folder = duka.home().join("zine");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("page"), "one").unwrap();
    let path = folder.to_str().unwrap();
    duka.start(&["up", path]).unwrap().stop().unwrap();
    let before = versions(&duka, "zine");
    assert_eq!(before.len(), 1);
    duka.start(&["up", path]).unwrap().stop().unwrap();
    assert_eq!(versions(&duka, "zine"), before);
}

#[test]
fn a_command_with_a_running_node_goes_through_it_and_prints_the_same() {
    let duka = Duka::new().unwrap();
    let file = duka.home().join("file");
    fs::write(&file, "content").unwrap();
    let alone = add(&duka, &file).unwrap();
    let pins = duka.plain(&["pin", "ls"]).unwrap().text();
    let node = duka.serve().unwrap();
    assert_eq!(add(&duka, &file).unwrap(), alone);
    assert_eq!(duka.plain(&["pin", "ls"]).unwrap().text(), pins);
    assert_eq!(cat(&duka, &alone).unwrap(), b"content");
    node.stop().unwrap();
}

#[test]
fn a_second_node_on_one_data_directory_exits_with_11_and_names_the_first() {
    let duka = Duka::new().unwrap();
    let node = duka.serve().unwrap();
    let pid = node.process().pid().as_raw_nonzero().to_string();
    let second = duka.cmd(&["serve"]).unwrap();
    assert_refused(&second, 11, &[&pid]);
    node.stop().unwrap();
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let duka = Duka::new().unwrap();
    let node = duka.serve().unwrap();
    let folder = duka.home().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a"), "kept").unwrap();
    let path = folder.to_str().unwrap();
    let release = duka
        .ok(&["publish", path, "--product", "p", "--version", "1.0"])
        .unwrap();
    node.kill();
    let cid = release["cid"].as_str().unwrap();
    assert_eq!(cat(&duka, &format!("{cid}/a")).unwrap(), b"kept");
    let shown = duka.plain(&["product", "show", "p"]).unwrap().text();
    assert!(shown.contains("1.0"), "{shown}");
    duka.serve().unwrap().stop().unwrap();
    duka.ok(&["fsck", "--deep"]).unwrap();
}

#[test]
fn standard_input_is_published_under_the_name_given() {
    let duka = Duka::new().unwrap();
    let mut command = duka.command();
    command.args([
        "--json",
        "publish",
        "-",
        "--name",
        "log.txt",
        "--product",
        "log",
    ]);
    command.args(["--version", "1"]);
    let patience = Duration::from_secs(30);
    let output = process::run_with_input(&mut command, b"from a pipe".to_vec(), patience).unwrap();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let last = output.text().lines().last().unwrap().to_owned();
    let release: serde_json::Value = serde_json::from_str(&last).unwrap();
    let cid = release["cid"].as_str().unwrap();
    let content = cat(&duka, &format!("{cid}/log.txt"))
        .or_else(|_| cat(&duka, cid))
        .unwrap();
    assert_eq!(content, b"from a pipe");
}

#[test]
fn publishing_the_same_again_says_so_and_a_version_is_never_replaced() {
    let duka = Duka::new().unwrap();
    let file = duka.home().join("file");
    fs::write(&file, "one").unwrap();
    let path = file.to_str().unwrap();
    duka.ok(&["publish", path, "--product", "p", "--version", "1.0"])
        .unwrap();
    let same = [
        "publish",
        path,
        "--product",
        "p",
        "--version",
        "1.1",
        "--if-changed",
    ];
    assert_eq!(duka.ok(&same).unwrap()["released"], false);
    fs::write(&file, "two").unwrap();
    let taken = duka
        .cmd(&["publish", path, "--product", "p", "--version", "1.0"])
        .unwrap();
    assert_refused(&taken, 6, &["1.0"]);
    let dry = duka
        .ok(&[
            "publish",
            path,
            "--product",
            "p",
            "--version",
            "2",
            "--dry-run",
        ])
        .unwrap();
    assert!(dry["cid"].is_string(), "{dry}");
    assert_eq!(versions(&duka, "p"), ["1.0"]);
}
