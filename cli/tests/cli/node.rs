//! Commands over a data directory, in this process and through a running node.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use std::time::{Duration, Instant};

use duka_node::block::{RAW, cid_of};
use duka_node::manifest::Manifest;
use duka_node::manifest::change::{Change, Op};
use duka_node::manifest::record::Pin;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Home, Output};

/// A node on loopback that knows nobody, and whose output nobody reads once it is ready.
struct Node(Child);

impl Node {
    /// Starts `duka serve` and waits for its ready event.
    fn start(home: &Home) -> (Self, Value) {
        Self::run(home, &["serve"], &[])
    }

    /// The same with another command and further variables.
    fn run(home: &Home, command: &[&str], variables: &[(&str, &str)]) -> (Self, Value) {
        let mut child = home
            .command()
            .arg("--json")
            .args(command)
            .args(["--gateway", "127.0.0.1:0"])
            .args(["--listen", "/ip4/127.0.0.1/tcp/0"])
            .envs([
                ("DUKA_NETWORK_BOOTSTRAP", ","),
                ("DUKA_NETWORK_UPNP", "false"),
            ])
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let ready = events(&mut child).find(|event| event["type"] == "ready");
        let ready = ready.unwrap();
        (Self(child), ready)
    }

    /// Sends a signal and gives the exit code.
    fn stop(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, signal).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Already gone after `stop`.
        let _killed = self.0.kill();
        let _waited = self.0.wait();
    }
}

/// The events that a process prints with `--json`.
fn events(child: &mut Child) -> impl Iterator<Item = Value> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())
}

/// Pins of blocks that are not here, as a manifest that grew over years has them.
fn pin_many(home: &Home, count: u32) {
    let data = home.path().join(".local/share/duka");
    assert_eq!(offline(home, &["init"]).code, 0);
    let (manifest, _) = Manifest::open(&data.join("manifest")).unwrap();
    for batch in (0..count).collect::<Vec<_>>().chunks(5_000) {
        let ops = batch.iter().map(|number| {
            let pin = Pin {
                recursive: number % 2 == 0,
                name: Some(format!("pin {number}")),
                created: jiff::Timestamp::UNIX_EPOCH,
            };
            Op::PutPin(cid_of(RAW, &number.to_be_bytes()), pin)
        });
        let change = Change {
            expect: Vec::new(),
            ops: ops.collect(),
        };
        manifest.commit_blocking(change).unwrap();
    }
    futures::executor::block_on(manifest.close()).unwrap();
}

#[test]
fn a_hundred_thousand_pins_are_listed_through_a_running_node_as_they_are_read() {
    let home = Home::new();
    pin_many(&home, 100_000);
    let (node, _) = Node::start(&home);
    let began = Instant::now();
    let mut listing = home
        .command()
        .args(["pin", "ls"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(listing.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let first_after = began.elapsed();
    assert_eq!(first.split('\t').count(), 3, "{first}");
    let rest = lines
        .map(Result::unwrap)
        .filter(|line| line.contains("\tpin "));
    assert_eq!(rest.count(), 99_999);
    assert!(listing.wait().unwrap().success());
    let took = began.elapsed();
    // Without optimization this takes several times as long as it does for users.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(first_after < took / 4, "{first_after:?} of {took:?}");

    let direct = offline(&home, &["pin", "ls", "--type", "direct"]).stdout;
    assert_eq!(direct.lines().count(), 50_000);
    assert!(direct.lines().all(|line| line.contains("\tdirect\t")));
    node.stop(Signal::TERM);
}

fn offline(home: &Home, arguments: &[&str]) -> Output {
    home.run(&[&["--offline"], arguments].concat())
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn command_without_a_shop_says_how_to_make_one() {
    let output = Home::new().run(&["id"]);
    assert_eq!(output.code, 3);
    assert!(output.stderr.contains("duka init"), "{}", output.stderr);
}

#[test]
fn init_again_keeps_the_keys() {
    let home = Home::new();
    let first = home.run(&["init"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(first.stdout.starts_with("k51"), "{}", first.stdout);
    assert!(
        first.stderr.contains("Back up the shop key"),
        "{}",
        first.stderr
    );
    assert_eq!(home.run(&["init"]).stdout, first.stdout);
}

#[test]
fn shop_without_its_key_is_not_replaced_by_a_new_one() {
    let home = Home::new();
    write(&home.path().join("file"), "content");
    let data = ["--data-dir", "data"];
    let publish = [&data[..], &["publish", "file", "--product", "p"]].concat();
    assert_eq!(offline(&home, &publish).code, 0);
    for key in ["shop.key", "peer.key"] {
        let (file, away) = (
            home.path().join("data/keys").join(key),
            home.path().join(key),
        );
        std::fs::rename(&file, &away).unwrap();
        for command in [
            &["init"][..],
            &["id"],
            &publish[2..],
            &["up", "file"],
            &["ls", "x"],
        ] {
            let output = offline(&home, &[&data[..], command].concat());
            assert_eq!(output.code, 3, "{command:?}: {}", output.stderr);
            assert!(output.stderr.contains(key), "{}", output.stderr);
            assert!(output.stderr.contains("back-up"), "{}", output.stderr);
            assert!(!file.exists(), "{command:?} made a new {key}");
        }
        std::fs::rename(&away, &file).unwrap();
    }
    assert_eq!(offline(&home, &[&data[..], &["id"]].concat()).code, 0);
}

#[test]
fn shop_is_restored_from_a_copy_of_its_key() {
    let home = Home::new();
    write(&home.path().join("file"), "content");
    let name = home.run(&["--data-dir", "old", "init"]).stdout;
    for (number, command) in [&["init"][..], &["publish", "file", "--product", "p"]]
        .iter()
        .enumerate()
    {
        let data = number.to_string();
        restore(&home, "old", &data);
        let restored = offline(&home, &[&["--data-dir", &data], *command].concat());
        assert_eq!(restored.code, 0, "{}", restored.stderr);
        let said = format!("restored shop {}", name.trim());
        assert!(restored.stderr.contains(&said), "{}", restored.stderr);
        let again = offline(&home, &["--data-dir", &data, "init"]);
        assert_eq!(again.stdout, name);
        assert!(again.stderr.contains("was there"), "{}", again.stderr);
    }
}

/// A copy of the shop's key, alone in a new data directory.
fn restore(home: &Home, from: &str, to: &str) {
    let keys = home.path().join(to).join("keys");
    std::fs::create_dir_all(&keys).unwrap();
    let key = home.path().join(from).join("keys/shop.key");
    std::fs::copy(key, keys.join("shop.key")).unwrap();
}

/// What the shop's name leads to, and the shop there.
fn head(home: &Home, data: &[&str], name: &str) -> (Value, Value) {
    let resolved = home.run(&[data, &["--json", "name", "resolve", name]].concat());
    assert_eq!(resolved.code, 0, "{}", resolved.stdout);
    let resolved = resolved.last();
    let shop = shop_at(home, data, resolved["path"].as_str().unwrap());
    (resolved, shop)
}

fn shop_at(home: &Home, data: &[&str], path: &str) -> Value {
    let file = format!("{path}/shop.json");
    let shop = home.run(&[data, &["cat", &file]].concat()).stdout;
    serde_json::from_str(&shop).unwrap()
}

#[test]
fn restored_shop_goes_on_after_the_head_that_others_know() {
    let home = Home::new();
    write(&home.path().join("file"), "content");
    for version in ["1", "2"] {
        let publish = ["publish", "file", "--product", "p", "--version", version];
        let published = home.run(&[&["--json"], &publish[..]].concat());
        assert_eq!(published.code, 0, "{}", published.stdout);
        assert_eq!(published.last()["signed"], true, "{}", published.stdout);
    }
    let (old, ready) = Node::start(&home);
    let name = ready["name"].as_str().unwrap();
    let (resolved, shop) = head(&home, &[], name);
    assert_eq!(resolved["sequence"], 1);

    restore(&home, ".local/share/duka", "restored");
    let data = ["--data-dir", "restored"];
    let publish = ["--json", "publish", "file", "--product", "q"];
    let published = home.run(&[&data[..], &publish].concat());
    assert_eq!(published.code, 0, "{}", published.stdout);
    assert_eq!(published.last()["signed"], false);
    let published = home.run(&[&data[..], &["publish", "file", "--product", "p"]].concat());
    assert!(
        published
            .stderr
            .contains("not signed yet: run `duka serve`"),
        "{}",
        published.stderr
    );

    let gateway = ready["gateway"].as_str().unwrap();
    let gateway = [("DUKA_GATEWAY_UPSTREAMS", gateway)];
    let (mut up, continued) = Node::run(&home, &[&data[..], &["up", "file"]].concat(), &gateway);
    assert_eq!(continued["name"], name);
    let (new_resolved, mut new_shop) = head(&home, &data, name);
    assert_eq!(new_resolved["sequence"], 2);
    // From head to head before it, down to the one that was known.
    let known = shop["seq"].as_u64().unwrap();
    let mut path = new_resolved["path"].clone();
    while new_shop["seq"].as_u64().unwrap() > known {
        path = format!("/ipfs/{}", new_shop["prev"].as_str().unwrap()).into();
        new_shop = shop_at(&home, &data, path.as_str().unwrap());
    }
    assert_ne!(path, new_resolved["path"]);
    assert_eq!(path, resolved["path"]);
    let mut said = String::new();
    let mut stderr = up.0.stderr.take().unwrap();
    assert_eq!(up.stop(Signal::TERM), Some(0));
    stderr.read_to_string(&mut said).unwrap();
    assert!(said.contains("already published under this name"), "{said}");
    assert_eq!(old.stop(Signal::TERM), Some(0));
}

#[test]
fn publish_that_waits_for_input_ends_at_once() {
    let home = Home::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut publish = home.command();
    publish.args([
        "--timeout",
        "100ms",
        "publish",
        "-",
        "--name",
        "x",
        "--product",
        "p",
    ]);
    let output = super::finish(publish.stdin(reader));
    assert_eq!(output.code, 124, "{}", output.stderr);
    assert!(!output.stderr.contains("abandoned"), "{}", output.stderr);
    drop(writer);
}

#[test]
fn ctrl_c_while_publish_waits_for_input_exits_with_130() {
    let home = Home::new();
    let mut command = home.command();
    command
        .args(["--json", "--progress", "always"])
        .args(["publish", "-", "--name", "x", "--product", "p"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut publish = Node(command.spawn().unwrap());
    let mut input = publish.0.stdin.take().unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let enough = enough.clone();
        move || {
            while !enough.load(Ordering::Relaxed) {
                input.write_all(&[0; 1 << 16]).unwrap();
            }
            input
        }
    });
    // When it tells progress, it reads and handles signals.
    let mut events = events(&mut publish.0);
    assert!(events.any(|event| event["type"] == "progress"));
    enough.store(true, Ordering::Relaxed);
    let input = writer.join().unwrap();
    assert_eq!(publish.stop(Signal::INT), Some(130));
    drop(input);
}

/// Runs a command that must end by itself instead of serving: its exit code, and its last event.
#[track_caller]
fn refused_to_serve(home: &Home, line: &str) -> (Option<i32>, Value) {
    let mut command = home.command();
    command
        .arg("--json")
        .args(line.split(' '))
        .env("DUKA_NETWORK_BOOTSTRAP", ",")
        .env("DUKA_NETWORK_UPNP", "false")
        .stdout(Stdio::piped());
    let mut node = Node(command.spawn().unwrap());
    let mut ends = events(&mut node.0)
        .filter(|event| ["ready", "error"].contains(&event["type"].as_str().unwrap()));
    let last = ends.next().unwrap();
    assert_eq!(last["type"], "error", "{line} serves");
    (node.0.wait().unwrap().code(), last)
}

#[test]
fn addresses_that_are_none_are_a_wrong_command_line_offline_too() {
    let home = Home::new();
    write(&home.path().join("file"), "content");
    for wrong in [
        "--gateway 127.0.0.1:0 --listen junk",
        "--gateway 127.0.0.1:0 --listen /ip4/127.0.0.1/tcp/junk",
        "--gateway 127.0.0.1:0 --listen /ip4/127.0.0.1/tcp/0 --bootstrap junk",
        "--gateway junk --listen /ip4/127.0.0.1/tcp/0",
    ] {
        for command in ["serve", "--offline serve", "up file", "--offline up file"] {
            let line = format!("{command} {wrong}");
            let (code, error) = refused_to_serve(&home, &line);
            assert_eq!(code, Some(2), "{line}: {error}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("junk"), "{line}: {message}");
        }
    }
    assert!(!home.path().join(".local").exists(), "a shop was made");
}

#[test]
fn a_port_that_another_process_has_is_named_with_what_to_do() {
    let home = Home::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp_port = tcp.local_addr().unwrap().port();
    let udp_port = udp.local_addr().unwrap().port();
    let free = "--gateway 127.0.0.1:0 --listen";
    for (line, address, flag) in [
        (
            format!("serve {free} /ip4/127.0.0.1/tcp/{tcp_port}"),
            format!("/ip4/127.0.0.1/tcp/{tcp_port}"),
            "--listen",
        ),
        (
            format!("serve {free} /ip4/127.0.0.1/udp/{udp_port}/quic-v1"),
            format!("/ip4/127.0.0.1/udp/{udp_port}/quic-v1"),
            "--listen",
        ),
        (
            format!("--offline serve --gateway 127.0.0.1:{tcp_port}"),
            format!("127.0.0.1:{tcp_port}"),
            "--gateway",
        ),
    ] {
        let (code, error) = refused_to_serve(&home, &line);
        assert_eq!(code, Some(1), "{line}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&address), "{line}: {message}");
        assert!(message.contains("in use"), "{line}: {message}");
        let hint = format!("give {flag} another address, or port 0");
        assert_eq!(error["hints"][0], hint.as_str(), "{line}");
    }
}

#[test]
fn absent_cid_exits_with_3_and_text_that_is_no_cid_with_2() {
    let home = Home::new();
    home.run(&["init"]);
    let absent = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
    let output = offline(&home, &["cat", absent]);
    assert_eq!(output.code, 3, "{}", output.stderr);
    assert!(output.stderr.contains(absent));
    assert_eq!(offline(&home, &["cat", "notacid"]).code, 2);
}

#[test]
fn running_node_and_this_process_print_the_same() {
    let home = Home::new();
    write(&home.path().join("file"), "content");
    write(&home.path().join("other"), "x");
    let added = home.run(&["add", "file"]).stdout;
    home.run(&["publish", "other", "--product", "p", "--version", "1"]);
    let commands: [&[&str]; 6] = [
        &["pin", "ls"],
        &["product", "list"],
        &["product", "show", "p"],
        &["product", "history", "p"],
        &["cat", added.trim_end()],
        &["pin", "rm", "notacid"],
    ];
    let all = || {
        commands.map(|command| {
            let output = offline(&home, &[&["--json"], command].concat());
            (output.code, output.stdout)
        })
    };
    let alone = all();
    let (node, _) = Node::start(&home);
    assert_eq!(all(), alone);
    assert_eq!(node.stop(Signal::TERM), Some(0));
}

#[test]
fn second_process_exits_with_11_and_names_the_first() {
    let home = Home::new();
    let (node, _) = Node::start(&home);
    let second = home.run(&["--json", "serve"]);
    let last = second.last();
    assert_eq!(second.code, 11, "{last}");
    assert_eq!(last["code"], "locked");
    let holder = format!("process {}", node.0.id());
    assert!(
        last["message"].as_str().unwrap().contains(&holder),
        "{last}"
    );
    assert_eq!(node.stop(Signal::INT), Some(0));
}

#[test]
fn init_beside_a_running_node_says_that_the_shop_is_there() {
    let home = Home::new();
    let (node, ready) = Node::start(&home);
    let output = home.run(&["init"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(output.stdout.trim(), ready["name"].as_str().unwrap());
    assert!(output.stderr.contains("was there"), "{}", output.stderr);
    assert_eq!(node.stop(Signal::INT), Some(0));
}

#[test]
fn a_release_that_is_one_file_comes_back() {
    let home = Home::new();
    write(&home.path().join("song"), "la la la");
    offline(
        &home,
        &["publish", "song", "--product", "p", "--version", "1"],
    );
    let name = offline(&home, &["--json", "id"]).last();
    let path = format!("/ipns/{}/p/p/1", name["name"].as_str().unwrap());
    let got = offline(&home, &["get", &path, "-o", "file"]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    let file = std::fs::read_to_string(home.path().join("file")).unwrap();
    assert_eq!(file, "la la la");
}

#[test]
fn a_running_node_asks_the_gateways_of_a_request_for_its_name() {
    let (seller, buyer) = (Home::new(), Home::new());
    std::fs::create_dir(seller.path().join("album")).unwrap();
    write(&seller.path().join("album/song"), "la la la");
    let published = seller.run(&["publish", "album", "--product", "p", "--version", "1"]);
    assert_eq!(published.code, 0, "{}", published.stderr);
    let (selling, ready) = Node::start(&seller);
    let (name, gateway) = (&ready["name"], ready["gateway"].as_str().unwrap());
    let path = format!("/ipns/{}/p/p/1/song", name.as_str().unwrap());
    let (buying, _) = Node::start(&buyer);
    let unknown = buyer.run(&["get", &path]);
    assert_eq!(unknown.code, 3, "{}", unknown.stderr);
    for out in ["file", "-"] {
        let got = buyer.run(&["get", &path, "--gateway", gateway, "-o", out]);
        assert_eq!(got.code, 0, "{}", got.stderr);
    }
    let file = std::fs::read_to_string(buyer.path().join("file")).unwrap();
    assert_eq!(file, "la la la");
    assert_eq!(selling.stop(Signal::TERM), Some(0));
    let other = "/ipns/k51qzi5uqu5din1fzgppghdhrbw1ijlkaj8n70ld7z4uh6erh9l2a2e1lg6j64";
    let silent = buyer.run(&["get", other, "--gateway", gateway]);
    assert_eq!(silent.code, 5, "{}", silent.stderr);
    assert!(silent.stderr.contains(gateway), "{}", silent.stderr);
    assert_eq!(buying.stop(Signal::TERM), Some(0));
}

#[test]
fn published_bytes_come_back_through_the_running_node() {
    let home = Home::new();
    let (node, ready) = Node::start(&home);
    assert!(
        ready["gateway"]
            .as_str()
            .unwrap()
            .starts_with("http://127.0.0.1:")
    );
    assert!(!ready["addresses"].as_array().unwrap().is_empty());
    let mut publish = home.command();
    publish.args([
        "--json",
        "publish",
        "-",
        "--name",
        "log.txt",
        "--product",
        "log",
    ]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"from a pipe").unwrap();
    drop(writer);
    let published = super::finish(publish.stdin(reader));
    assert_eq!(published.code, 0, "{}", published.stdout);
    let cid = published.last()["cid"].as_str().unwrap().to_owned();
    assert_eq!(home.run(&["cat", &cid]).stdout, "from a pipe");
    assert_eq!(node.stop(Signal::TERM), Some(0));
}

#[test]
fn products_are_found_by_words_with_typos() {
    let home = Home::new();
    assert_eq!(home.run(&["init"]).code, 0);
    write(&home.path().join("song"), "la");
    for (id, title) in [("light", "Lighthouse Songs"), ("other", "Something else")] {
        let publish = ["publish", "song", "--product", id, "--title", title];
        assert_eq!(offline(&home, &publish).code, 0);
    }
    let found = offline(&home, &["--json", "search", "ligthouse"]);
    assert_eq!(found.code, 0, "{}", found.stderr);
    assert!(
        found.stdout.contains("Lighthouse Songs"),
        "{}",
        found.stdout
    );
    assert_eq!(found.last()["total"], 1);
    let nothing = offline(&home, &["search", "walrus"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, ""));
}

#[test]
fn price_comes_with_a_warning() {
    let home = Home::new();
    write(&home.path().join("file"), "content");
    let publish = ["publish", "file", "--product", "p", "--price", "9.50USD"];
    let output = home.run(&publish);
    assert!(
        output.stderr.contains("warning: the files are public"),
        "{}",
        output.stderr
    );
    assert!(home.run(&["product", "list"]).stdout.contains("9.50 USD"));
}

#[test]
fn commands_on_a_copy_of_a_served_data_directory_work_on_the_copy() {
    let home = Home::new();
    assert_eq!(offline(&home, &["init"]).code, 0);
    let (node, _) = Node::start(&home);
    let copied = Command::new("cp")
        .args(["-r", ".local/share/duka", "copy"])
        .current_dir(home.path())
        .status();
    assert!(copied.unwrap().success());
    let title = |data: &[&str]| {
        let output = home.run(&[data, &["--offline", "--json", "shop", "show"]].concat());
        assert_eq!(output.code, 0, "{}", output.stderr);
        output.last()["title"].clone()
    };
    let copy = ["--data-dir", "copy"];
    let set = ["--offline", "shop", "set", "title", "Copied"];
    let output = home.run(&[&copy[..], &set].concat());
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(title(&copy), "Copied");
    assert_eq!(title(&[]), "");
    assert_eq!(node.stop(Signal::TERM), Some(0));
}
