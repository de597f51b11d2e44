//! One process takes the place of another, and no request notices.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use duka_tests::curl::curl;
use duka_tests::duka::{Options, Serving};
use duka_tests::http1::Connection;
use duka_tests::process::{self, Process};
use duka_tests::{Duka, files, locate};
use rustix::fs::OFlags;
use rustix::process::Signal;

use crate::add;
use crate::https::{self, HOST};

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
    options_and("")
}

/// With more settings of the gateway.
fn options_and(settings: &str) -> Options {
    Options {
        more: format!("header_timeout = \"30s\"\n{settings}"),
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
        let mut before = Vec::new();
        let restarts = (0..3).try_for_each(|_| -> Result<()> {
            more_answers(&answered)?;
            let next = duka.start(&["serve", "--take-over"])?;
            ensure!(self::address(&next)? == address, "another address");
            before.push(std::mem::replace(&mut node, next));
            more_answers(&answered)
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

/// Waits until [`MANY`] more requests were answered.
fn more_answers(answered: &AtomicUsize) -> Result<()> {
    let target = answered.load(Ordering::Relaxed) + MANY;
    let more = || (answered.load(Ordering::Relaxed) >= target).then_some(());
    process::wait_until("more answers", Duration::from_secs(60), more)
}

/// A process that takes over with these settings of the gateway, where one names `fifo`: it waits for what
/// is written there, which is nothing.
fn stuck(duka: &Duka, settings: &str, fifo: &Path) -> Result<(Process, fs::File)> {
    duka.configure(&options_and(settings))?;
    let next = Process::start(
        "the next process",
        duka.command().args(["serve", "--take-over"]),
    )?;
    let writer = || {
        let mut options = fs::File::options();
        options
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        options.open(fifo).ok()
    };
    let writer = process::wait_until("the next process to read", Duration::from_secs(60), writer)?;
    Ok((next, writer))
}

#[test]
fn process_that_dies_while_it_takes_over_leaves_the_old_one_serving() {
    let duka = Duka::with(&options()).unwrap();
    let old = duka.serve().unwrap();
    let address = address(&old).unwrap();
    let (big, small) = (
        files::random_bytes(54, 64 * MIB),
        files::random_bytes(55, 3000),
    );
    let path = |name: &str, bytes: &[u8]| {
        let file = duka.home().join(name);
        fs::write(&file, bytes).unwrap();
        format!("/ipfs/{}", add(&duka, &file).unwrap())
    };
    let (big_path, paths) = (path("big.bin", &big), [path("small.bin", &small)]);
    let fifo = duka.home().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());

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
        let attempts = || -> Result<Serving> {
            // The first waits before it has the data directory, the second when it has.
            for settings in [
                format!("denylists = [{fifo:?}]\n"),
                format!("[gateway.tls]\ncert = {fifo:?}\nkey = {fifo:?}\n"),
            ] {
                more_answers(&answered)?;
                let (next, _writer) = stuck(&duka, &settings, &fifo)?;
                next.kill();
                more_answers(&answered)?;
            }
            duka.configure(&options_and("mirrors = [\"nonsense\"]\n"))?;
            let failed = duka.cmd(&["serve", "--take-over"])?;
            ensure!(failed.complaint().contains("nonsense"), "{failed:?}");
            more_answers(&answered)?;
            duka.configure(&options())?;
            // Who says nothing is given nothing.
            let silent = UnixStream::connect(duka.data_dir().join("control.next"))?;
            duka.ok(&["pin", "ls"])?;
            let next = duka.start(&["serve", "--take-over"])?;
            drop(silent);
            ensure!(self::address(&next)? == address, "another address");
            more_answers(&answered)?;
            Ok(next)
        };
        let next = attempts();
        go_on.store(true, Ordering::Relaxed);
        let slow = slow.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        for asked in asking {
            asked.join().unwrap().unwrap();
        }
        let next = next.unwrap();
        assert!(slow.unwrap() == big, "the download is not whole");
        let ended = old.process().wait_exit(Duration::from_secs(30)).unwrap();
        assert_eq!(ended.code(), Some(0));
        duka.ok(&["fsck", "--deep"]).unwrap();
        next.stop().unwrap();
    });
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
fn download_of_what_others_have_goes_on_over_tls() {
    let source = Duka::new().unwrap();
    let upstream = source.serve().unwrap();
    let (big, small) = (
        files::random_bytes(56, 64 * MIB),
        files::random_bytes(57, 3000),
    );
    let path = |name: &str, bytes: &[u8]| {
        let file = source.home().join(name);
        fs::write(&file, bytes).unwrap();
        format!("/ipfs/{}", add(&source, &file).unwrap())
    };
    let (big_path, small_path) = (path("big.bin", &big), path("small.bin", &small));

    let certificates = tempfile::tempdir().unwrap();
    let (cert, key) = https::renew(certificates.path()).unwrap();
    let upstream_url = upstream.gateway().unwrap();
    let settings = format!(
        "upstreams = [{upstream_url:?}]\nserve = \"any\"\n\
         [gateway.tls]\ncert = {cert:?}\nkey = {key:?}\n"
    );
    let duka = Duka::with(&options_and(&settings)).unwrap();
    let old = duka.serve().unwrap();
    let origin = old.gateway().unwrap();
    let port = origin.strip_prefix("https://127.0.0.1:").unwrap();
    let resolve = format!("{HOST}:{port}:127.0.0.1");
    let trusting = ["--cacert", cert.to_str().unwrap(), "--resolve", &resolve];
    let url = |path: &str| format!("https://{HOST}:{port}{path}");

    let mut downloads = ["--http1.1", "--http2"].map(|version| {
        let mut command = Command::new(locate::system("curl").unwrap());
        let arguments = ["--silent", "--show-error", "--fail", version];
        command.args(arguments).args(trusting).arg(url(&big_path));
        let mut curl = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut received = vec![0; 64 << 10];
        curl.stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut received)
            .unwrap();
        (curl, received)
    });
    let next = duka.start(&["serve", "--take-over"]).unwrap();
    assert_eq!(next.gateway().unwrap(), origin);
    let cached = duka.ok(&["stat"]).unwrap();
    let cached = cached["cache_bytes"].as_u64().unwrap();
    assert!(
        cached < big.len() as u64 / 2,
        "{cached} bytes are here already"
    );
    let answer = curl(&url(&small_path), &trusting).unwrap();
    assert!(answer.status == 200 && answer.body == small);
    assert!(old.process().is_running(), "there is nothing under way");
    for (curl, received) in &mut downloads {
        curl.stdout.as_mut().unwrap().read_to_end(received).unwrap();
        assert!(curl.wait().unwrap().success());
        assert!(*received == big, "the download is not whole");
    }
    let ended = old.process().wait_exit(Duration::from_secs(30)).unwrap();
    assert_eq!(ended.code(), Some(0));
    next.stop().unwrap();
}

#[test]
fn without_a_running_node_taking_over_is_starting() {
    let duka = Duka::new().unwrap();
    duka.start(&["serve", "--take-over"])
        .unwrap()
        .stop()
        .unwrap();
}

/// `duka serve` with a listening socket that somebody else opened.
pub(crate) struct Activated(Child);

impl Activated {
    pub(crate) fn start(duka: &Duka, listener: OwnedFd) -> Result<Self> {
        let child = duka
            .command_after("exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1")
            .arg("serve")
            .stdin(listener)
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }

    /// Sends SIGTERM, and waits for a good end.
    pub(crate) fn stop(mut self) -> Result<()> {
        rustix::process::kill_process(process::pid_of(&self.0), Signal::TERM)?;
        let ended = self.0.wait()?;
        ensure!(ended.success(), "it ended with {ended}");
        Ok(())
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
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

    let node = Activated::start(&duka, OwnedFd::from(listener)).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    node.stop().unwrap();
}
