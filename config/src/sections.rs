//! One struct per section of the configuration file; `default.toml` documents each key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// All settings.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Blocks on disk.
    pub store: StoreConfig,
    /// Peers.
    pub network: NetworkConfig,
    /// HTTP.
    pub gateway: GatewayConfig,
    /// What DAGs of others may ask.
    pub dag: DagConfig,
    /// The own shop.
    pub shop: ShopConfig,
    /// Logs.
    pub log: LogConfig,
}

/// `[store]`: blocks on disk.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// A pack file is sealed at this size.
    pub pack_size: ByteSize,
    /// New blocks are refused when the disk has less free space than this.
    pub reserve: ByteSize,
    /// Most bytes that the packs may take; 0 is without limit.
    pub max_size: ByteSize,
    /// Most bytes that blocks fetched for requests may take; 0 is without limit of their own.
    pub cache_size: ByteSize,
    /// How often blocks that nothing refers to are removed; 0 is never.
    #[serde(with = "humantime_serde")]
    pub gc_interval: Duration,
    /// Most bytes that garbage collection reads and copies in a second; 0 is without limit.
    pub gc_rate: ByteSize,
    /// Within this time every block is read and hashed; 0 is never.
    #[serde(with = "humantime_serde")]
    pub scrub_interval: Duration,
    /// Most bytes that this reads in a second; 0 is without limit.
    pub scrub_rate: ByteSize,
}

/// `[network]`: peers.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// No network at all: neither listens nor dials.
    pub offline: bool,
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Somebody chose those addresses, be they the same as the default: the node must have all.
    #[serde(skip)]
    pub listen_is_chosen: bool,
    /// Multiaddrs that peers are told, besides those found out.
    pub announce: Vec<String>,
    /// Multiaddrs of the first peers to dial.
    pub bootstrap: Vec<String>,
    /// Find peers on the local network by mDNS.
    pub mdns: bool,
    /// Ask the router to forward the port by UPnP.
    pub upnp: bool,
    /// Use relays, and offer hole punching, when no peer can reach this node.
    pub relay: bool,
    /// Answer DHT queries: `auto` once this node is reachable, `server`, or `client`.
    pub dht: DhtMode,
    /// Tell of names, and hear of them, over gossipsub.
    pub gossip: bool,
    /// How often each provider record is announced again.
    #[serde(with = "humantime_serde")]
    pub reprovide_interval: Duration,
    /// How often the record of each name is put again.
    #[serde(with = "humantime_serde")]
    pub republish_interval: Duration,
    /// How long a record that others put here is kept after they last did.
    #[serde(with = "humantime_serde")]
    pub record_lifetime: Duration,
    /// Most bytes a second that are given to others, by HTTP and to peers together.
    pub serve_rate: ByteSize,
    /// Limits.
    pub limits: LimitsConfig,
}

/// Part in the DHT.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DhtMode {
    /// Server once reachable from outside.
    Auto,
    /// Always answer queries.
    Server,
    /// Only ask.
    Client,
    /// No DHT.
    Off,
}

/// `[network.limits]`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Connections in all.
    pub connections: u32,
    /// Connections with one peer.
    pub connections_per_peer: u32,
    /// New connections are refused when the process uses more memory than this.
    pub memory: ByteSize,
    /// Entries kept of one peer's wantlist.
    pub wantlist_per_peer: usize,
    /// Bytes in flight to one peer.
    pub outbox_per_peer: ByteSize,
    /// Blocks that one fetch keeps in flight.
    pub window: usize,
    /// Nobody answered: give up on a block.
    #[serde(with = "humantime_serde")]
    pub block_timeout: Duration,
}

/// `[gateway]`: HTTP.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Where the gateway listens; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where health and metrics are answered; on `listen` if it is not set.
    #[serde(with = "crate::optional")]
    pub admin: Option<SocketAddr>,
    /// Time to receive a request's header.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// Largest header of a request.
    pub header_size: ByteSize,
    /// Idle connections are closed after this.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// A response that makes no progress for this long ends with an error.
    #[serde(with = "humantime_serde")]
    pub progress_timeout: Duration,
    /// Requests that may wait for the network or walk a DAG at once; more get 429.
    pub concurrent_retrievals: usize,
    /// A block that nobody sends bytes of for this long is given up.
    #[serde(with = "humantime_serde")]
    pub retrieval_timeout: Duration,
    /// Blocks that one request may fetch from the network.
    pub retrieval_blocks: u64,
    /// Bytes that one request may fetch from the network.
    pub retrieval_bytes: ByteSize,
    /// Memory for small blocks and paths that were asked for lately.
    pub memory_cache: ByteSize,
    /// Time to finish open requests on shutdown.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// Trustless gateways asked when peers do not have a block.
    pub upstreams: Vec<String>,
    /// Other gateways that serve the same content, which clients are told of.
    pub mirrors: Vec<String>,
    /// What is served, to browsers and to peers: `local` (only what is held on purpose, so that it is no
    /// open proxy) or `any` (also what was fetched for requests, and what peers and `upstreams` have).
    pub serve: ServePolicy,
    /// Files, and directories of `*.deny` files, that say what is served to nobody.
    pub denylists: Vec<PathBuf>,
    /// The gateway asks nobody, whatever `serve` says.
    pub offline: bool,
    /// Open connections in all; more wait in the system's accept queue.
    pub connections: usize,
    /// Open connections of one IPv4 address or IPv6 /64, but for this machine and trusted proxies; 0 is
    /// without limit.
    pub connections_per_client: usize,
    /// Networks of the proxies whose `X-Forwarded-Host` and `X-Forwarded-Proto` count.
    pub trusted_proxies: Vec<IpNet>,
    /// Content paths of domains, which are used instead of their DNSLink in the DNS.
    #[serde(deserialize_with = "crate::names::domains")]
    pub dnslink: BTreeMap<String, String>,
    /// The DNS server that is asked for the DNSLinks of other domains; those of the system if it is not
    /// set.
    #[serde(with = "crate::optional")]
    pub dns_resolver: Option<SocketAddr>,
    /// Host names that this gateway serves in a way of their own.
    #[serde(deserialize_with = "crate::names::hosts")]
    pub hosts: BTreeMap<String, HostConfig>,
    /// HTTPS.
    pub tls: TlsConfig,
}

/// `[gateway.tls]`: HTTPS in place of HTTP, where both are set.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The file with the certificate and those of its issuers.
    pub cert: PathBuf,
    /// The file with its private key.
    pub key: PathBuf,
    /// A certificate that a CA gives in their place.
    pub acme: AcmeConfig,
}

/// `[gateway.tls.acme]`: a certificate by ACME, where domains are set.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct AcmeConfig {
    /// The names that it is for.
    pub domains: Vec<String>,
    /// The operator's mail address, for the CA.
    pub contact: String,
    /// URL of the CA's ACME directory.
    pub directory: String,
    /// A file with the certificates that prove who the CA is; those of the system if it is not set.
    pub root: PathBuf,
}

/// An entry of `gateway.hosts`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct HostConfig {
    /// Each root has a host, and so an origin, of its own: `<cid>.ipfs.<host>`.
    pub subdomains: bool,
    /// A domain is one label in them, `en-site.ipns.<host>`, over plain HTTP too.
    pub inline_dnslink: bool,
    /// The namespaces that are served.
    pub paths: Vec<Namespace>,
    /// Nothing but what the client can verify: blocks, CARs and IPNS records.
    pub trustless_only: bool,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            subdomains: false,
            inline_dnslink: false,
            paths: vec![Namespace::Ipfs, Namespace::Ipns],
            trustless_only: false,
        }
    }
}

/// Where content paths begin.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum Namespace {
    /// `/ipfs/<cid>`.
    #[serde(rename = "/ipfs")]
    Ipfs,
    /// `/ipns/<name>`.
    #[serde(rename = "/ipns")]
    Ipns,
}

/// What a gateway serves.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ServePolicy {
    /// What this node holds on purpose.
    #[default]
    Local,
    /// What anybody has.
    Any,
}

/// `[shop]`: the own shop.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ShopConfig {
    /// Title shown to buyers.
    pub title: String,
    /// How long a signed head stays valid.
    #[serde(with = "humantime_serde")]
    pub lifetime: Duration,
    /// How often the same head is signed again.
    #[serde(with = "humantime_serde")]
    pub refresh: Duration,
    /// URLs of gateways that also serve the shop.
    pub gateways: Vec<String>,
    /// Peer addresses of mirrors.
    pub mirrors: Vec<String>,
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Filter directives, as in `RUST_LOG`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// `[dag]`: what DAGs of others may ask.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DagConfig {
    /// Levels of links below a root.
    pub depth: usize,
    /// Children of one shard of a HAMT directory.
    pub hamt_width: u64,
    /// Segments of a path.
    pub path_segments: usize,
    /// Bytes of one section of a CAR.
    pub car_section: ByteSize,
    /// Bytes that a CID may carry itself.
    pub identity: ByteSize,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
