//! A router that forwards ports when it is asked by UPnP, as an Internet Gateway Device does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Weak};
use std::thread;

use anyhow::{Context, Result};

use super::{Home, Machine, Namespace};

/// Where routers listen for those who look for one.
const SEARCH: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 255, 255, 250), 1900);
const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";
const ARGUMENTS: [&str; 8] = [
    "NewRemoteHost",
    "NewExternalPort",
    "NewProtocol",
    "NewInternalPort",
    "NewInternalClient",
    "NewEnabled",
    "NewPortMappingDescription",
    "NewLeaseDuration",
];

/// Makes the home's router one; `outside` is its public address. It lives until the test program ends.
///
/// # Errors
/// If the router has no such sockets.
pub fn start(home: &Home, outside: &str) -> Result<()> {
    let inside: Ipv4Addr = home.inner_address().parse()?;
    let (search, control) = home.router.enter(|| {
        let search = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SEARCH.1))?;
        search.join_multicast_v4(&SEARCH.0, &inside)?;
        Ok((search, TcpListener::bind((inside, 0))?))
    })?;
    let location = control.local_addr()?;
    thread::spawn(move || answer_searches(&search, &format!("http://{location}/root.xml")));
    // The threads do not end, the router shall.
    let (router, outside) = (Arc::downgrade(&home.router.0), outside.to_owned());
    thread::spawn(move || {
        for stream in control.incoming().map_while(Result::ok) {
            // A client that breaks off is no concern of the next one.
            drop(serve(stream, &router, &outside));
        }
    });
    Ok(())
}

fn answer_searches(search: &UdpSocket, location: &str) -> Result<()> {
    let mut request = [0; 2048];
    loop {
        let (_, from) = search.recv_from(&mut request)?;
        let answer = format!("HTTP/1.1 200 OK\r\nST: {SERVICE}\r\nLOCATION: {location}\r\n\r\n");
        search.send_to(answer.as_bytes(), from)?;
    }
}

fn serve(stream: TcpStream, router: &Weak<Namespace>, outside: &str) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        reader.read_line(&mut head)?;
        let line = head[start..].trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8(body)?;
    let answer = if head.starts_with("GET /root.xml") {
        format!(
            "<root><device><serviceList><service><serviceType>{SERVICE}</serviceType>\
             <SCPDURL>/actions.xml</SCPDURL><controlURL>/control</controlURL></service>\
             </serviceList></device></root>"
        )
    } else if head.starts_with("GET /actions.xml") {
        let arguments = ARGUMENTS
            .map(|name| {
                format!("<argument><name>{name}</name><direction>in</direction></argument>")
            })
            .concat();
        format!(
            "<scpd><actionList><action><name>AddPortMapping</name>\
             <argumentList>{arguments}</argumentList></action></actionList></scpd>"
        )
    } else if head.contains("#GetExternalIPAddress") {
        let address = format!("<NewExternalIPAddress>{outside}</NewExternalIPAddress>");
        soap("GetExternalIPAddress", &address)
    } else if head.contains("#AddPortMapping") {
        let router = router.upgrade().context("the router is gone")?;
        forward(&Machine(router), &body)?;
        soap("AddPortMapping", "")
    } else {
        soap("DeletePortMapping", "")
    };
    let length = answer.len();
    write!(
        writer,
        "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{answer}"
    )?;
    Ok(())
}

fn soap(action: &str, inner: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>\
         <u:{action}Response xmlns:u=\"{SERVICE}\">{inner}</u:{action}Response></s:Body></s:Envelope>"
    )
}

/// Forwards a port as asked, in the router's kernel.
fn forward(router: &Machine, request: &str) -> Result<()> {
    let value = |name: &str| {
        let (_, rest) = request
            .split_once(&format!("<{name}>"))
            .context("no such argument")?;
        rest.split_once('<')
            .map(|(value, _)| value)
            .context("no end of an argument")
    };
    let protocol = value("NewProtocol")?.to_ascii_lowercase();
    let (port, to) = (value("NewExternalPort")?, value("NewInternalClient")?);
    let inner = value("NewInternalPort")?;
    let rule =
        format!("add rule ip nat in iifname eth0 {protocol} dport {port} dnat to {to}:{inner}");
    router.run("nft", &[&rule])
}
