//! Gateways over real HTTP, good ones and bad ones.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::block::RAW;

/// What a test gateway does with a request for a block it has.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Honest,
    Lies,
    Hangs,
    HangsInBody,
    Endless,
    BusyOnce,
    RedirectsAway,
}

struct TestGateway {
    url: Url,
    asked: Arc<AtomicUsize>,
}

async fn gateway(manner: Manner, blocks: &[Block]) -> TestGateway {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let blocks: HashMap<String, Bytes> = blocks
        .iter()
        .map(|block| (block.cid().to_string(), block.data().clone()))
        .collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, manner, blocks.clone(), Arc::clone(&counter)));
        }
    });
    TestGateway {
        url: url.parse().unwrap(),
        asked,
    }
}

async fn serve(
    mut stream: TcpStream,
    manner: Manner,
    blocks: HashMap<String, Bytes>,
    asked: Arc<AtomicUsize>,
) -> Option<()> {
    let mut request = Vec::new();
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.ok()?);
        }
        let text = String::from_utf8(std::mem::take(&mut request)).ok()?;
        let nth = asked.fetch_add(1, Ordering::Relaxed);
        let (path, format) = text.split(' ').nth(1)?.split_once("?format=")?;
        assert!(text.contains(&format!(
            "accept: application/vnd.ip{}",
            match format {
                "raw" => "ld.raw",
                _ => "fs.ipns-record",
            }
        )));
        let body = path
            .strip_prefix("/ipfs/")
            .and_then(|cid| blocks.get(cid).cloned());
        let ok = |len: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n");
        let (head, body) = match (manner, body) {
            (Manner::Hangs, _) => (String::new(), Bytes::new()),
            (_, None) => (
                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
                Bytes::new(),
            ),
            (Manner::BusyOnce, Some(_)) if nth == 0 => (
                "HTTP/1.1 429 Busy\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n".to_owned(),
                Bytes::new(),
            ),
            (Manner::RedirectsAway, Some(_)) => (
                "HTTP/1.1 302 Found\r\nlocation: http://localhost:1/\r\ncontent-length: 0\r\n\r\n"
                    .to_owned(),
                Bytes::new(),
            ),
            (Manner::Honest | Manner::BusyOnce, Some(body)) => (ok(body.len()), body),
            (Manner::Lies, Some(body)) => (ok(body.len()), Bytes::from(vec![0; body.len()])),
            (Manner::HangsInBody, Some(body)) => (ok(body.len() + 1), body),
            (Manner::Endless, Some(_)) => (
                "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
                Bytes::from(vec![0; MAX_BLOCK_LEN + 1]),
            ),
        };
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(&body).await.ok()?;
    }
}

/// A gateway at this name, which a DNS under foreign control says is at 127.0.0.1 from the second
/// look-up on, and before at an address that nobody has.
fn rebound(name: &str, gateway: &TestGateway) -> TrustlessSource {
    let asked = AtomicUsize::new(0);
    let guard = Guard::new(move |_| {
        let ip = match asked.fetch_add(1, Ordering::Relaxed) {
            0 => [192, 0, 2, 1],
            _ => [127, 0, 0, 1],
        };
        Box::pin(std::future::ready(Ok(vec![ip.into()])))
    });
    let mut url = gateway.url.clone();
    url.set_host(Some(name)).unwrap();
    TrustlessSource::guarded(
        vec![url],
        Duration::from_millis(300),
        Effort::default(),
        &guard,
    )
}

#[tokio::test]
async fn a_name_that_is_rebound_to_this_machine_leads_nowhere() {
    let wanted = block("content");
    let inside = gateway(Manner::Honest, std::slice::from_ref(&wanted)).await;
    let source = rebound("gateway.example", &inside);
    for _ in 0..3 {
        let refused = source.fetch(wanted.cid()).await;
        assert!(refused.is_err());
    }
    assert_eq!(inside.asked.load(Ordering::Relaxed), 0);
    // A name that only the local network has is meant so.
    let local = rebound("gateway.lan", &inside);
    drop(local.fetch(wanted.cid()).await);
    assert_eq!(local.fetch(wanted.cid()).await.unwrap(), wanted);
}

#[tokio::test]
async fn redirects_to_private_addresses_ask_nobody() {
    let wanted = block("content");
    let inside = gateway(Manner::Honest, std::slice::from_ref(&wanted)).await;
    let port = inside.url.port().unwrap();
    let path = format!("/ipfs/{}?format=raw", wanted.cid());
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let away = format!("http://{}", listener.local_addr().unwrap());
        let to = format!("http://{host}:{port}{path}");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let answer =
                format!("HTTP/1.1 307 Moved\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let source = TrustlessSource::new(vec![away.parse().unwrap()], Duration::from_secs(20));
        let refused = source.fetch(wanted.cid()).await;
        assert!(matches!(refused, Err(FetchError::Failed { .. })), "{host}");
    }
    assert_eq!(inside.asked.load(Ordering::Relaxed), 0);
}

fn source(gateways: &[&TestGateway]) -> TrustlessSource {
    let urls = gateways.iter().map(|gateway| gateway.url.clone()).collect();
    TrustlessSource::new(urls, Duration::from_millis(300))
}

fn block(text: &'static str) -> Block {
    Block::of(RAW, Bytes::from_static(text.as_bytes()))
}

#[tokio::test]
async fn an_honest_gateway_gives_the_block() {
    let wanted = block("content");
    let honest = gateway(Manner::Honest, std::slice::from_ref(&wanted)).await;
    let source = source(&[&honest]);
    assert_eq!(source.fetch(wanted.cid()).await.unwrap(), wanted);
    let absent = source.fetch(block("absent").cid()).await;
    assert!(matches!(absent, Err(FetchError::NotFound { .. })));
}

#[tokio::test]
async fn a_liar_is_dropped_and_the_others_are_asked() {
    let blocks = [block("one"), block("two"), block("three")];
    let liar = gateway(Manner::Lies, &blocks).await;
    let honest = gateway(Manner::Honest, &blocks).await;
    let source = source(&[&liar, &honest]);
    for wanted in &blocks {
        assert_eq!(&source.fetch(wanted.cid()).await.unwrap(), wanted);
    }
    assert_eq!(liar.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_lone_liar_is_named() {
    let wanted = block("content");
    let liar = gateway(Manner::Lies, std::slice::from_ref(&wanted)).await;
    let source = source(&[&liar]);
    let Err(FetchError::Lied { source_name, .. }) = source.fetch(wanted.cid()).await else {
        panic!("not noticed");
    };
    assert_eq!(source_name, liar.url.to_string());
    // It is not asked again, and that is still the reason.
    let again = source.fetch(wanted.cid()).await;
    assert!(matches!(again, Err(FetchError::Lied { .. })), "{again:?}");
    assert_eq!(liar.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_liar_among_those_that_have_nothing_is_named() {
    let wanted = block("content");
    let liar = gateway(Manner::Lies, std::slice::from_ref(&wanted)).await;
    let empty = gateway(Manner::Honest, &[]).await;
    let source = source(&[&liar, &empty]);
    let lied = source.fetch(wanted.cid()).await;
    assert!(matches!(lied, Err(FetchError::Lied { .. })), "{lied:?}");
    // An honest one is left: what it does not have is not found.
    let absent = source.fetch(block("absent").cid()).await;
    assert!(
        matches!(absent, Err(FetchError::NotFound { .. })),
        "{absent:?}"
    );
}

#[tokio::test]
async fn a_gateway_that_hangs_is_left_for_another() {
    for manner in [Manner::Hangs, Manner::HangsInBody] {
        let wanted = block("content");
        let hangs = gateway(manner, std::slice::from_ref(&wanted)).await;
        let honest = gateway(Manner::Honest, std::slice::from_ref(&wanted)).await;
        let alone = source(&[&hangs]).fetch(wanted.cid()).await;
        assert!(matches!(alone, Err(FetchError::TimedOut { .. })));
        let both = source(&[&hangs, &honest]);
        assert_eq!(both.fetch(wanted.cid()).await.unwrap(), wanted);
    }
}

#[tokio::test]
async fn a_gateway_that_has_no_record_is_told_from_one_that_says_nothing() {
    let name = crate::keys::name_of(&libp2p::identity::Keypair::generate_ed25519());
    let empty = gateway(Manner::Honest, &[]).await;
    let hangs = gateway(Manner::Hangs, &[]).await;
    let records = source(&[&empty, &hangs])
        .ipns_record(&name, Listen::Briefly)
        .await;
    assert!(records.found.is_empty());
    let silent: Vec<_> = records.silent.iter().map(|(url, _)| url).collect();
    assert_eq!(silent, [&hangs.url]);
}

/// Has a record below a path, and shows it after a while.
async fn shows_record(below: &'static str, record: &'static str, after: Duration) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap_or(b'\n'));
            }
            let asked = String::from_utf8_lossy(&request).into_owned();
            let (status, body) = match asked.starts_with(&format!("GET {below}")) {
                true => ("200 OK", record),
                false => ("404 Not Found", ""),
            };
            let len = body.len();
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n");
            tokio::time::sleep(after).await;
            stream.write_all(head.as_bytes()).await.ok();
            stream.write_all(body.as_bytes()).await.ok();
        }
    });
    url.parse().unwrap()
}

fn any_name() -> Name {
    crate::keys::name_of(&libp2p::identity::Keypair::generate_ed25519())
}

#[tokio::test]
async fn whoever_knows_nothing_hears_slow_gateways_too() {
    let replays = shows_record("/ipns/", "old", Duration::ZERO).await;
    let later = OTHER_RECORDS + Duration::from_secs(1);
    let honest = shows_record("/ipns/", "new", later).await;
    let source = TrustlessSource::new(vec![replays, honest.clone()], Duration::from_secs(20));
    let name = any_name();
    let (briefly, to_all) = tokio::join!(
        source.ipns_record(&name, Listen::Briefly),
        source.ipns_record(&name, Listen::ToAll)
    );
    assert_eq!(briefly.found, [b"old"]);
    assert_eq!(briefly.silent, [(honest, Silence::TimedOut)]);
    assert_eq!(to_all.found, [b"old", b"new"]);
    assert_eq!(to_all.silent, []);
}

#[tokio::test]
async fn a_router_that_is_no_gateway_is_asked_for_records() {
    let router = shows_record("/routing/v1/ipns/k51", "record", Duration::ZERO).await;
    let source = TrustlessSource::new(vec![router], Duration::from_secs(20));
    let records = source.ipns_record(&any_name(), Listen::Briefly).await;
    assert_eq!(records.found, [b"record"]);
    assert_eq!(records.silent, []);
}

#[tokio::test]
async fn a_body_over_the_limit_is_cut() {
    let wanted = block("content");
    let endless = gateway(Manner::Endless, std::slice::from_ref(&wanted)).await;
    let refused = source(&[&endless]).fetch(wanted.cid()).await;
    assert!(matches!(refused, Err(FetchError::Failed { .. })));
}

#[tokio::test]
async fn a_busy_gateway_is_asked_again() {
    let wanted = block("content");
    let busy = gateway(Manner::BusyOnce, std::slice::from_ref(&wanted)).await;
    assert_eq!(source(&[&busy]).fetch(wanted.cid()).await.unwrap(), wanted);
}

#[tokio::test]
async fn redirects_to_other_hosts_are_not_followed() {
    let wanted = block("content");
    let away = gateway(Manner::RedirectsAway, std::slice::from_ref(&wanted)).await;
    let refused = source(&[&away]).fetch(wanted.cid()).await;
    assert!(matches!(refused, Err(FetchError::Failed { .. })));
}
