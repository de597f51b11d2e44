//! What clients of the gateway may cost, with the shipped limits.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use duka_tests::Duka;
use duka_tests::curl::curl;
use duka_tests::duka::{Options, Serving};
use duka_tests::http1::Connection;
use duka_tests::net::Internet;

fn address(node: &Serving) -> Result<SocketAddr> {
    let url = node.gateway()?;
    let address = url.strip_prefix("http://").context("no address")?;
    Ok(address.parse()?)
}

/// Whether the other side closed the connection before the deadline.
fn is_closed_before(mut stream: TcpStream, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let patience = left.max(Duration::from_millis(1));
    stream.set_read_timeout(Some(patience)).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(received) => received == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn of_500_half_sent_requests_none_is_alive_after_15_s() {
    let duka = Duka::new().unwrap();
    let node = duka.serve().unwrap();
    let address = address(&node).unwrap();
    let half_sent: Vec<_> = (0..500)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            let half = b"GET /ipfs/bafkqaaa HTTP/1.1\r\nHost: x\r\nX-Slow: ";
            stream.write_all(half).unwrap();
            stream
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(15);
    let other = curl(&format!("{}/ipfs/bafkqaaa", node.gateway().unwrap()), &[]);
    assert_eq!(other.unwrap().status, 200);
    let alive = half_sent
        .into_iter()
        .map(|stream| is_closed_before(stream, deadline))
        .filter(|closed| !closed);
    assert_eq!(alive.count(), 0);
    node.stop().unwrap();
}

#[test]
fn more_clients_are_served_than_a_shell_allows_open_files() {
    let duka = Duka::new().unwrap();
    let mut serve = duka.command_after("ulimit -Sn 256");
    let node = Serving::start(serve.args(["--json", "serve"])).unwrap();
    let address = address(&node).unwrap();
    let mut connections: Vec<_> = (0..500)
        .map(|_| Connection::open(address).unwrap())
        .collect();
    let headers = [("host".to_owned(), "x".to_owned())];
    for connection in &mut connections {
        let answer = connection.ask("GET", "/ipfs/bafkqaaa", &headers);
        assert_eq!(answer.unwrap().status, 200);
    }
    node.stop().unwrap();
}

#[test]
fn client_with_too_many_connections_gets_no_more_and_others_do() {
    let internet = Internet::new().unwrap();
    let server = internet.machine("198.51.100.1").unwrap();
    let greedy = internet.machine("198.51.100.2").unwrap();
    let other = internet.machine("198.51.100.3").unwrap();
    let options = Options {
        more: "connections_per_client = 3\n".to_owned(),
        ..Options::default()
    };
    let duka = Duka::with(&options).unwrap().on(&server);
    let node = duka
        .start(&["serve", "--gateway", "198.51.100.1:0"])
        .unwrap();
    let address = address(&node).unwrap();
    let soon = || Instant::now() + Duration::from_secs(5);

    let held = greedy.enter(|| {
        let held: Vec<_> = (0..3).map(|_| TcpStream::connect(address)).collect();
        let more = TcpStream::connect(address)?;
        assert!(is_closed_before(more, soon()));
        Ok(held)
    });
    other
        .enter(|| {
            let answered = curl(&format!("http://{address}/ipfs/bafkqaaa"), &[])?;
            assert_eq!(answered.status, 200);
            Ok(())
        })
        .unwrap();
    drop(held.unwrap());
    node.stop().unwrap();
}

#[test]
fn operators_have_a_listener_of_their_own() {
    let options = Options {
        more: "admin = \"127.0.0.1:0\"\n".to_owned(),
        ..Options::default()
    };
    let duka = Duka::with(&options).unwrap();
    let node = duka.serve().unwrap();
    let (gateway, admin) = (node.gateway().unwrap(), node.admin().unwrap());
    for path in ["healthz", "readyz", "metrics"] {
        let status = |url: &str| curl(&format!("{url}/{path}"), &[]).unwrap().status;
        assert_eq!((status(&admin), status(&gateway)), (200, 404), "{path}");
    }
    node.stop().unwrap();
}
