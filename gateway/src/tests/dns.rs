//! DNSLinks of a DNS server.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use duka_config::{GatewayConfig, HostConfig};
use futures::future::join_all;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::TXT;
use hickory_resolver::proto::rr::{RData, Record};
use parking_lot::Mutex;
use tokio::net::UdpSocket;

use super::memory::MemoryBackend;
use super::{HELLO, TREE, TestServer, config};

/// What a name server knows of a domain.
#[derive(Clone, Debug)]
enum Zone {
    Texts(u32, Vec<String>),
    Broken,
    Silent,
}

/// A DNS server; what it does not know does not exist.
#[derive(Debug)]
struct DnsServer {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl DnsServer {
    async fn start(zones: impl IntoIterator<Item = (&'static str, Zone)>) -> Self {
        let zones: BTreeMap<_, _> = zones.into_iter().collect();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (query, domain, client) = receive(&socket).await;
                heard.lock().push(domain.clone());
                if let Some(answer) = answer(&query, zones.get(domain.as_str())) {
                    socket.send_to(&answer, client).await.unwrap();
                }
            }
        });
        Self { addr, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

/// A question: whole, the domain it is about, and who asks.
async fn receive(socket: &UdpSocket) -> (Message, String, SocketAddr) {
    let mut buffer = [0; 4096];
    let (len, client) = socket.recv_from(&mut buffer).await.unwrap();
    let query = Message::from_vec(&buffer[..len]).unwrap();
    let name = query.queries[0].name().to_ascii();
    let domain = name.strip_prefix("_dnslink.").unwrap();
    let domain = domain.strip_suffix('.').unwrap().to_owned();
    (query, domain, client)
}

fn answer(query: &Message, zone: Option<&Zone>) -> Option<Vec<u8>> {
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.add_query(query.queries[0].clone());
    message.metadata.recursion_available = true;
    match zone {
        None => message.metadata.response_code = ResponseCode::NXDomain,
        Some(Zone::Broken) => message.metadata.response_code = ResponseCode::ServFail,
        Some(Zone::Silent) => return None,
        Some(Zone::Texts(ttl, texts)) => {
            let name = query.queries[0].name();
            message.add_answers(texts.iter().map(|text| {
                // A string of a record has at most 255 bytes.
                let strings = text.as_bytes().chunks(200);
                let strings = strings.map(|part| String::from_utf8(part.to_vec()).unwrap());
                Record::from_rdata(name.clone(), *ttl, RData::TXT(TXT::new(strings.collect())))
            }));
        }
    }
    Some(message.to_vec().unwrap())
}

fn texts<const N: usize>(ttl: u32, texts: [String; N]) -> Zone {
    Zone::Texts(ttl, texts.to_vec())
}

async fn gateway(dns: &DnsServer) -> TestServer {
    let subdomains = HostConfig {
        subdomains: true,
        ..HostConfig::default()
    };
    let config = GatewayConfig {
        dns_resolver: Some(dns.addr),
        hosts: [("gateway.example".to_owned(), subdomains)].into(),
        dnslink: [("static.example".to_owned(), format!("/ipfs/{TREE}"))].into(),
        connections: 1000,
        ..config()
    };
    TestServer::with(config, MemoryBackend::online()).await
}

fn max_age(cache_control: &str) -> u64 {
    let seconds = cache_control.strip_prefix("public, max-age=").unwrap();
    seconds.parse().unwrap()
}

#[tokio::test]
async fn domain_with_a_dnslink_in_the_dns_is_a_site_for_the_time_of_the_record() {
    let link = format!("dnslink=/ipfs/{TREE}/site");
    let dns = DnsServer::start([
        ("a-b.example", texts(300, [link.clone()])),
        ("short.example", texts(0, [link.clone()])),
        ("long.example", texts(u32::MAX >> 1, [link])),
    ])
    .await;
    let gateway = gateway(&dns).await;
    let by_path = gateway.get("/ipns/A-b.example/style.css").await;
    assert_eq!(by_path.status, 200);
    let seconds = max_age(by_path.header("cache-control"));
    assert!((290..=300).contains(&seconds), "{seconds}");
    for (host, path) in [
        ("a-b.example", "/style.css"),
        ("A-B.example:8080", "/style.css"),
        ("a--b-example.ipns.gateway.example", "/style.css"),
        ("a-b.example.ipns.gateway.example", "/style.css"),
    ] {
        let by_host = gateway.get_with(path, &[("host", host)]).await;
        assert_eq!(by_host.status, 200, "{host}");
        assert_eq!(by_host.body, by_path.body, "{host}");
    }
    assert_eq!(dns.asked(), ["a-b.example"], "answers are kept");
    for (domain, expected) in [("short.example", 5..=10), ("long.example", 86_390..=86_400)] {
        let reply = gateway.get(&format!("/ipns/{domain}/style.css")).await;
        let seconds = max_age(reply.header("cache-control"));
        assert!(expected.contains(&seconds), "{domain}: {seconds}");
    }
}

#[tokio::test]
async fn first_text_that_is_a_content_path_counts() {
    let long = format!("dnslink=/ipfs/{TREE}/{}", "a".repeat(600));
    let other = format!("dnslink=/ipfs/{HELLO}/{}", "a/".repeat(150));
    let dns = DnsServer::start([
        (
            "several.example",
            texts(
                60,
                [
                    format!("dnslink=/ipns/{HELLO}"),
                    format!("dnslink=/ipfs/{HELLO}"),
                    "dnslink=/http/elsewhere.example".to_owned(),
                    "v=spf1 -all".to_owned(),
                    "dnslink=/ipfs/nonsense".to_owned(),
                ],
            ),
        ),
        ("none.example", texts(60, ["v=spf1 -all".to_owned()])),
        ("bare.example", texts(60, [format!("dnslink={HELLO}")])),
        ("long.example", texts(60, [long])),
        ("strings.example", texts(60, [other])),
        (
            "chain.example",
            texts(60, ["dnslink=/ipns/Several.example".to_owned()]),
        ),
    ])
    .await;
    let gateway = gateway(&dns).await;
    for domain in ["several.example", "chain.example"] {
        let reply = gateway.get(&format!("/ipns/{domain}")).await;
        assert_eq!(reply.text(), "hello world", "{domain}");
    }
    for domain in ["none.example", "bare.example", "long.example"] {
        let reply = gateway.get(&format!("/ipns/{domain}")).await;
        assert_eq!(reply.status, 500, "{domain}");
    }
    // The strings of one record are one text: the path is looked for below a file.
    let status = gateway.get("/ipns/strings.example").await.status;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn domains_that_lead_to_one_another_are_a_mistake_of_the_request() {
    let to = |domain: &str| texts(60, [format!("dnslink=/ipns/{domain}")]);
    let zones = [
        ("a.example", to("b.example")),
        ("b.example", to("a.example")),
    ];
    let dns = DnsServer::start(zones).await;
    let gateway = gateway(&dns).await;
    assert_eq!(gateway.get("/ipns/a.example").await.status, 400);
    let of_host = gateway.get_with("/", &[("host", "a.example")]).await;
    assert_eq!(of_host.status, 400);
}

#[tokio::test]
async fn requests_for_one_domain_ask_once_and_remember_that_there_is_nothing() {
    let link = format!("dnslink=/ipfs/{HELLO}");
    let dns = DnsServer::start([("a.example", texts(60, [link]))]).await;
    let gateway = gateway(&dns).await;
    let replies = join_all((0..20).map(|_| gateway.get("/ipns/a.example"))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    let host = [("host", "b.example")];
    for _ in 0..3 {
        assert_eq!(gateway.get("/ipns/b.example").await.status, 500);
        assert_eq!(gateway.get_with("/", &host).await.status, 404);
        let content = format!("/ipfs/{HELLO}");
        assert_eq!(gateway.get_with(&content, &host).await.status, 200);
    }
    assert_eq!(dns.asked(), ["a.example", "b.example"]);
}

#[tokio::test]
async fn what_can_be_no_domain_is_not_asked_for() {
    let dns = DnsServer::start([]).await;
    let gateway = gateway(&dns).await;
    let long = format!("{}.example", "a".repeat(64));
    let many = "a.".repeat(200) + "example";
    for host in [
        "127.0.0.1:80",
        "[::1]:80",
        "localhost",
        "bafkqaaa.ipfs.localhost",
        "printer.local",
        "gateway.example",
        "bafkqaaa.ipfs.gateway.example",
        "static.example",
        "a b.example",
        &long,
        &many,
    ] {
        gateway.get_with("/", &[("host", host)]).await;
    }
    assert_eq!(dns.asked(), [""; 0]);
    // Without a network nothing is.
    let config = GatewayConfig {
        dns_resolver: Some(dns.addr),
        ..config()
    };
    let offline = TestServer::with(config, MemoryBackend::with_test_data()).await;
    assert_eq!(offline.get("/ipns/a.example").await.status, 500);
    assert_eq!(dns.asked(), [""; 0]);
}

#[tokio::test]
async fn dns_server_that_does_not_answer_costs_its_time_and_nothing_else() {
    let zones = [
        ("broken.example", Zone::Broken),
        ("silent.example", Zone::Silent),
    ];
    let dns = DnsServer::start(zones).await;
    let gateway = gateway(&dns).await;
    for domain in ["broken.example", "silent.example"] {
        let path = format!("/ipns/{domain}");
        let asked = tokio::time::timeout(Duration::from_secs(10), gateway.get(&path));
        assert_eq!(asked.await.unwrap().status, 504, "{domain}");
        let content = format!("/ipfs/{HELLO}");
        let host = [("host", domain)];
        let reply = gateway.get_with(&content, &host).await;
        assert_eq!(reply.status, 200, "{domain}");
        assert_eq!(gateway.get_with("/healthz", &host).await.status, 200);
        // It may be a page of that site.
        let reply = gateway.get_with("/index.html", &host).await;
        assert_eq!(reply.status, 504, "{domain}");
        let tried = format!(
            "{} was asked for the TXT records of _dnslink.{domain}",
            dns.addr
        );
        assert!(reply.text().contains(&tried), "{}", reply.text());
    }
}

#[tokio::test]
async fn flood_of_host_names_asks_only_so_many_questions_at_once() {
    const FLOOD: usize = 400;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let dns = DnsServer {
        addr: socket.local_addr().unwrap(),
        asked: Arc::default(),
    };
    let gateway = gateway(&dns).await;
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    // Answers only when nobody asks more.
    tokio::spawn(async move {
        loop {
            let mut open = BTreeSet::new();
            let mut waiting = Vec::new();
            let quiet = Duration::from_millis(300);
            while let Ok((query, domain, client)) =
                tokio::time::timeout(quiet, receive(&socket)).await
            {
                open.insert(domain);
                waiting.push((query, client));
            }
            seen.fetch_max(open.len(), Ordering::Relaxed);
            for (query, client) in waiting {
                let answer = answer(&query, None).unwrap();
                socket.send_to(&answer, client).await.unwrap();
            }
        }
    });
    let replies = join_all((0..FLOOD).map(|n| {
        let gateway = &gateway;
        async move {
            let host = format!("{n}.example");
            gateway.get_with("/", &[("host", &host)]).await.status
        }
    }));
    let statuses = replies.await;
    // Whose question had no turn in time is told so.
    assert!(
        statuses
            .iter()
            .all(|status| matches!(status.as_u16(), 404 | 504))
    );
    let most = most.load(Ordering::Relaxed);
    assert!((100..=256).contains(&most), "{most}");
}
