//! One process takes the place of another, and no request notices.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use duka_tests::curl::curl;
use duka_tests::duka::{Options, Serving};
use duka_tests::http1::Connection;
use duka_tests::{Duka, files, process};
use rustix::process::Signal;

use crate::add;

const MIB: usize = 1 << 20;
/// Requests that must be answered by each process.
const MANY: usize = 50;

fn address(node: &Serving) -> Result<SocketAddr> {
    let url = node.gateway()?;
    let address = url.strip_prefix("http://").context("no address")?;
    Ok(address.parse()?)
}

/// Asks for what is at `paths` in turn, over a connection that is kept for as long as the server keeps it,
/// until `stop`. Counts the answers, each of which must be `expected`.
fn ask_on(
    address: SocketAddr,
    paths: &[String],
    expected: &[u8],
    stop: &AtomicBool,
    answered: &AtomicUsize,
) -> Result<()> {
    let headers = [("host".to_owned(), address.to_string())];
    let mut kept = None;
    for path in paths.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => Connection::open(address).context("connecting")?,
        };
        let answer = connection
            .ask("GET", path, &headers)
            .with_context(|| path.clone())?;
        ensure!(
            answer.status == 200 && answer.complete,
            "{path}: {answer:?}"
        );
        ensure!(answer.body == expected, "other bytes");
        answered.fetch_add(1, Ordering::Relaxed);
        let ends = answer.header("connection").is_some_and(|it| it == "close");
        kept = (!ends).then_some(connection);
    }
    Ok(())
}

/// Begins a download and takes the rest of it when `go_on` is set.
fn download_slowly(address: SocketAddr, path: &str, go_on: &AtomicBool) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut received = vec![0; 4096];
    stream.read_exact(&mut received)?;
    while !go_on.load(Ordering::Relaxed) {
        // It goes on all the time, and does not come to its end.
        let mut some = [0; 1024];
        stream.read_exact(&mut some)?;
        received.extend_from_slice(&some);
        thread::sleep(Duration::from_millis(20));
    }
    stream.read_to_end(&mut received)?;
    let end = received.windows(4).position(|four| four == b"\r\n\r\n");
    Ok(received.split_off(end.context("no end of the header")? + 4))
}

fn options() -> Options {
    Options {
        more: "header_timeout = \"30s\"\n".to_owned(),
        ..Options::default()
    }
}

#[test]
fn three_restarts_drop_no_request_and_no_download() {
    let duka = Duka::with(&options()).unwrap();
    let mut node = duka.serve().unwrap();
    let address = address(&node).unwrap();
    let big = files::random_bytes(51, 64 * MIB);
    let small = files::random_bytes(52, 3000);
    for (name, bytes) in [("big.bin", &big), ("small.bin", &small)] {
        fs::write(duka.home().join(name), bytes).unwrap();
    }
    let path = |name: &str| {
        let cid = add(&duka, &duka.home().join(name)).unwrap();
        format!("/ipfs/{cid}")
    };
    let (big_path, small_path) = (path("big.bin"), path("small.bin"));
    let folder = duka.home().join("album");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("song.bin"), &small).unwrap();
    let album = folder.to_str().unwrap();
    let published = duka.ok(&["publish", album, "--product", "album"]).unwrap();
    let (name, version) = (node.ready()["name"].as_str(), published["version"].as_str());
    let (name, version) = (name.unwrap(), version.unwrap());
    let named = format!("/ipns/{name}/p/album/{version}/song.bin");
    let url = format!("http://{address}{named}");
    let signed = || (curl(&url, &[]).ok()?.status == 200).then_some(());
    process::wait_until("the signed head", Duration::from_secs(30), signed).unwrap();
    let paths = [small_path, named];

    let (stop, go_on, answered) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        AtomicUsize::new(0),
    );
    thread::scope(|scope| {
        let slow = scope.spawn(|| download_slowly(address, &big_path, &go_on));
        let asking: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| ask_on(address, &paths, &small, &stop, &answered)))
            .collect();
        let more_answers = || {
            let target = answered.load(Ordering::Relaxed) + MANY;
            let more = || (answered.load(Ordering::Relaxed) >= target).then_some(());
            process::wait_until("more answers", Duration::from_secs(60), more)
        };
        let mut before = Vec::new();
        let restarts = (0..3).try_for_each(|_| -> Result<()> {
            more_answers()?;
            let next = duka.start(&["serve", "--take-over"])?;
            ensure!(self::address(&next)? == address, "another address");
            before.push(std::mem::replace(&mut node, next));
            more_answers()
        });
        go_on.store(true, Ordering::Relaxed);
        let slow = slow.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        for asked in asking {
            asked.join().unwrap().unwrap();
        }
        restarts.unwrap();
        assert!(slow.unwrap() == big, "the download is not whole");
        for old in before {
            let ended = old.process().wait_exit(Duration::from_secs(30)).unwrap();
            assert_eq!(ended.code(), Some(0));
        }
    });
    // What the last process has is what the first one stored.
    duka.ok(&["fsck", "--deep"]).unwrap();
    node.stop().unwrap();
}

#[test]
fn process_that_is_killed_while_it_hands_over_leaves_everything_to_the_next() {
    let duka = Duka::with(&options()).unwrap();
    let old = duka.serve().unwrap();
    let address = address(&old).unwrap();
    let small = files::random_bytes(53, 3000);
    let file = duka.home().join("small.bin");
    fs::write(&file, &small).unwrap();
    let path = format!("/ipfs/{}", add(&duka, &file).unwrap());

    thread::scope(|scope| {
        let next = scope.spawn(|| duka.start(&["serve", "--take-over"]));
        // The control socket goes when the old process has begun to hand over.
        let gone = || (!duka.data_dir().join("control.next").exists()).then_some(());
        process::wait_until("the hand-over", Duration::from_secs(30), gone).unwrap();
        old.process().kill();
        old.process().wait_exit(Duration::from_secs(10)).unwrap();
        // In the queue of the socket that the next process has.
        let asked = scope.spawn(|| {
            let mut connection = Connection::open(address)?;
            let headers = [("host".to_owned(), address.to_string())];
            connection.ask("GET", &path, &headers)
        });
        let next = next.join().unwrap().unwrap();
        assert_eq!(asked.join().unwrap().unwrap().body, small);
        next.stop().unwrap();
    });
}

#[test]
fn without_a_running_node_taking_over_is_starting() {
    let duka = Duka::new().unwrap();
    duka.start(&["serve", "--take-over"])
        .unwrap()
        .stop()
        .unwrap();
}

#[test]
fn socket_that_systemd_opened_is_served() {
    let duka = Duka::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // It waits in the queue from before the node is started.
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let request = b"GET /ipfs/bafkqaaa HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    client.write_all(request).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();

    let serve = duka.command();
    let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"";
    let mut child = Command::new("/bin/sh")
        .args(["-c", script, "sh"])
        .arg(serve.get_program())
        .args(serve.get_args())
        .arg("serve")
        .env_clear()
        .envs(
            serve
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .current_dir(duka.home())
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut answer = String::new();
    let read = client.read_to_string(&mut answer);
    rustix::process::kill_process(process::pid_of(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    read.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}
