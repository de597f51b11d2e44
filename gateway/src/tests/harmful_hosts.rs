//! Clients that lie about the host they ask.

use duka_config::{GatewayConfig, HostConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::memory::MemoryBackend;
use super::{HELLO, Reply, TREE, TestServer, config};

/// What a stranger wants in an answer that a cache keeps.
const EVIL: &str = "evil.example";

async fn server() -> TestServer {
    let subdomains = HostConfig {
        subdomains: true,
        ..HostConfig::default()
    };
    let config = GatewayConfig {
        hosts: [("gateway.example".to_owned(), subdomains)].into(),
        dnslink: [("site.example".to_owned(), format!("/ipfs/{TREE}/site"))].into(),
        // This machine, from which the tests ask, is a stranger.
        trusted_proxies: Vec::new(),
        ..config()
    };
    TestServer::with(config, MemoryBackend::with_test_data()).await
}

fn all_of(reply: &Reply) -> (u16, Vec<(String, String)>, bytes::Bytes) {
    let headers = reply.headers.iter().filter(|(name, _)| *name != "date");
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = headers.map(|(name, value)| (name.to_string(), text(value)));
    (reply.status.as_u16(), headers.collect(), reply.body.clone())
}

#[tokio::test]
async fn forwarded_headers_of_a_stranger_change_nothing() {
    let server = server().await;
    let file = format!("/ipfs/{HELLO}");
    let listing = format!("/ipfs/{TREE}/");
    let metalink = format!("/ipfs/{TREE}/site/style.css?format=meta4");
    for (host, path) in [
        ("gateway.example", file.as_str()),
        ("gateway.example", &listing),
        ("127.0.0.1", &file),
        ("127.0.0.1", &listing),
        ("127.0.0.1", &metalink),
        ("127.0.0.1", "/ipfs/nonsense"),
        ("site.example", "/"),
        ("unknown.example", "/"),
    ] {
        let honest = all_of(&server.get_with(path, &[("host", host)]).await);
        for forwarded in [EVIL, "gateway.example", "site.example"] {
            let headers = [
                ("host", host),
                ("x-forwarded-host", forwarded),
                ("x-forwarded-proto", "https"),
                ("forwarded", "host=evil.example;proto=https"),
            ];
            let lying = all_of(&server.get_with(path, &headers).await);
            assert_eq!(lying, honest, "{host}{path} through {forwarded}");
        }
    }
}

/// The whole answer to a request whose header is exactly this.
async fn raw(server: &TestServer, host_lines: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let start = format!("GET /ipfs/{TREE}?format=car&dag-scope=block HTTP/1.1\r\n");
    let header = [start.as_bytes(), host_lines, b"Connection: close\r\n\r\n"].concat();
    // The server may close before all is written.
    let _written = stream.write_all(&header).await;
    let mut answer = Vec::new();
    let _ended = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn host_that_is_garbage_is_refused_or_nobodys_and_never_repeated() {
    let server = server().await;
    let long = format!("Host: {}evil\r\n", "a.".repeat(10_000));
    let label = format!("Host: {}evil.ipfs.gateway.example\r\n", "a".repeat(500));
    let hosts: [&[u8]; 16] = [
        b"",
        b"Host:\r\n",
        b"Host: \xff\xfeevil\x80\r\n",
        b"Host: evil\x00.example\r\n",
        b"Host: <script>evil</script>.gateway.example\r\n",
        b"Host: gateway.example@evil.example\r\n",
        b"Host: gateway.example:80@evil.example\r\n",
        b"Host: gateway.example/evil\r\n",
        b"Host: gateway.example%0d%0aSet-Cookie:evil=1\r\n",
        b"Host: gateway.example\rSet-Cookie: evil=1\r\n",
        b"Host: evil.example:99999999999\r\n",
        b"Host: evil.example:-1\r\n",
        b"Host: [evil::1]\r\n",
        b"Host: evil.ipfs.gateway.example\r\n",
        long.as_bytes(),
        label.as_bytes(),
    ];
    for host in hosts {
        let answer = raw(&server, host).await;
        let host = String::from_utf8_lossy(host);
        let shown = host.get(..60).unwrap_or(&host);
        let (head, _) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.get(9..12).unwrap_or("closed");
        assert!(
            ["200", "400", "404", "431", "closed"].contains(&status),
            "{shown}: {head}"
        );
        let head = head.to_lowercase();
        assert!(
            !head.contains("set-cookie") && !head.contains("evil"),
            "{shown}: {head}"
        );
        assert!(!head.contains("location"), "{shown}: {head}");
    }
    assert_eq!(server.get(&format!("/ipfs/{HELLO}")).await.status, 200);
}

#[tokio::test]
async fn line_break_in_a_host_starts_a_header_and_no_answer_repeats_it() {
    let server = server().await;
    let lines =
        b"Host: gateway.example\r\nX-Forwarded-Host: evil.example\r\nSet-Cookie: evil=1\r\n";
    let answer = raw(&server, lines).await.to_lowercase();
    let location = format!("location: http://{TREE}.ipfs.gateway.example/");
    assert!(
        answer.contains(&location) && !answer.contains("evil"),
        "{answer}"
    );
}

#[tokio::test]
async fn host_in_doubt_is_refused() {
    let server = server().await;
    let hosts: [&[u8]; 6] = [
        b"",
        b"Host: gateway.example\r\nHost: evil.example\r\n",
        b"Host: gateway.example\r\nHost: gateway.example\r\n",
        b"Host: <evil>\r\n",
        b"Host: gateway.example@evil.example\r\n",
        b"Host: gateway.example/evil\r\n",
    ];
    for host in hosts {
        let answer = raw(&server, host).await;
        let host = String::from_utf8_lossy(host);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{host}: {answer}");
        assert!(answer.contains("one Host header"), "{host}: {answer}");
        assert!(answer.contains("access-control-allow-origin: *"), "{host}");
        assert!(!answer.contains("evil"), "{host}: {answer}");
    }
    for host in ["[::1]:8080", "127.0.0.1", "xn--kgbechtv:80", ""] {
        let answer = raw(&server, format!("Host: {host}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
}
