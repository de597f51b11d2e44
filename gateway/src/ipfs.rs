//! The IPFS gateway: phases, values move only forward.
//!
//! `host` (whose pages) → `request` (parse and negotiate) → `resolve` (path → CID) → `respond` (one
//! file per format) → the body, which is pulled as the client takes it.

mod conditional;
mod digest;
mod dns;
pub(crate) mod dnslink;
pub(crate) mod fuzz;
mod headers;
mod host;
mod lent;
mod mime;
mod negotiate;
mod path;
mod range;
mod redirects;
mod request;
mod resolve;
mod respond;
mod source;

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use duka_config::{GatewayConfig, ServePolicy};
use duka_node::dag::DagError;
use duka_node::dag::path::Resolved as ResolvedPath;
use duka_node::denylist::Denylists;
use duka_node::fetch::Fetcher;
use duka_node::keys::Name;
use duka_node::manifest::ManifestError;
use duka_node::name::{NameError, ResolvedName};
use duka_node::node::Node;
use duka_node::rate::Rate;
use duka_node::search::SearchError;
use duka_node::served::Served;
use duka_node::source::trustless::told_gateway_url;
use duka_node::source::{BlockSource, FetchError};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use self::digest::Digests;
use self::dns::Dns;
use self::dnslink::Dnslinks;
pub(crate) use self::headers::allow_every_origin;
use self::host::Hosts;
pub(crate) use self::host::Site;
pub use self::lent::LentNode;
use self::redirects::Outcome;
pub(crate) use self::redirects::RedirectsError;
use self::request::{ContentRequest, Parsed};
use self::resolve::Start;
use self::source::{Budget, RequestSource};
use crate::api::{Hit, SearchPage};
use crate::body::Body;
use crate::error::GatewayError;
use crate::server::{Peer, ServerError};

/// What a gateway serves from: a [`Node`], or memory in tests.
pub trait Backend: Clone + fmt::Debug + Send + Sync + 'static {
    /// Yields the blocks of this machine that are served.
    type Local: BlockSource + Clone + fmt::Debug;
    /// Yields blocks from anywhere.
    type Remote: BlockSource + Clone + fmt::Debug;

    /// The blocks of this machine that are served.
    fn local(&self) -> Self::Local;

    /// Follows a path through the blocks of this machine that are served.
    fn resolve_path(
        &self,
        root: Cid,
        segments: &[String],
    ) -> impl Future<Output = Result<ResolvedPath, DagError>> + Send;

    /// How fast what is served may leave, all of it together.
    fn rate(&self) -> Option<Rate>;

    /// What is served to nobody.
    fn denylists(&self) -> &Denylists;

    /// Whether what is not here may be fetched for a client.
    fn may_retrieve(&self) -> bool;

    /// Whether there is a network at all.
    fn is_online(&self) -> bool;

    /// The network, for one request.
    fn remote(&self) -> Self::Remote;

    /// Resolves a name.
    fn resolve_name(
        &self,
        name: &Name,
    ) -> impl Future<Output = Result<ResolvedName, NameError>> + Send;

    /// The id of this peer and the addresses where others reach it.
    fn peer(&self) -> impl Future<Output = Option<(String, Vec<String>)>> + Send;

    /// Searches the products of the shop.
    fn search(
        &self,
        terms: String,
        limit: usize,
    ) -> impl Future<Output = Result<SearchPage, SearchError>> + Send;
}

/// A node, as the gateway sees it.
#[derive(Clone, Debug)]
pub struct NodeBackend {
    node: LentNode,
    /// For requests that go on after the node was taken back.
    late: Fetcher,
    served: Served,
    serve: ServePolicy,
    timeout: Duration,
    offline: bool,
}

impl NodeBackend {
    pub(crate) fn new(node: Node, config: &GatewayConfig) -> Self {
        Self {
            late: node.late_fetcher(config.retrieval_timeout),
            served: node.served().clone(),
            node: LentNode::new(node),
            serve: config.serve,
            timeout: config.retrieval_timeout,
            offline: config.offline,
        }
    }

    pub(crate) fn lent(&self) -> LentNode {
        self.node.clone()
    }
}

impl Backend for NodeBackend {
    type Local = Served;
    type Remote = Fetcher;

    fn local(&self) -> Served {
        self.served.clone()
    }

    fn rate(&self) -> Option<Rate> {
        self.served.rate().cloned()
    }

    async fn resolve_path(&self, root: Cid, segments: &[String]) -> Result<ResolvedPath, DagError> {
        self.served.resolve(root, segments).await
    }

    fn denylists(&self) -> &Denylists {
        self.served.denylists()
    }

    fn may_retrieve(&self) -> bool {
        self.serve == ServePolicy::Any && !self.offline
    }

    fn is_online(&self) -> bool {
        let node = self.node.get();
        !self.offline && node.is_some_and(|node| node.network().is_some())
    }

    fn remote(&self) -> Fetcher {
        match self.node.get() {
            Some(node) => node.shared_fetcher(self.timeout),
            None => self.late.clone(),
        }
    }

    async fn resolve_name(&self, name: &Name) -> Result<ResolvedName, NameError> {
        let node = self.node.get().ok_or(ManifestError::Closed)?;
        if self.offline {
            return node.resolve_kept_name(name).await;
        }
        node.resolve_name(name, &[]).await
    }

    async fn peer(&self) -> Option<(String, Vec<String>)> {
        let node = self.node.get()?;
        let network = node.network()?;
        let addresses = network.addresses().await.ok()?;
        let addresses = addresses.iter().map(ToString::to_string).collect();
        Some((network.peer_id().to_string(), addresses))
    }

    async fn search(&self, terms: String, limit: usize) -> Result<SearchPage, SearchError> {
        let node = self.node.get().ok_or(ManifestError::Closed)?;
        let found = node.search(terms, limit).await?;
        let mut results = Vec::with_capacity(found.products.len());
        for id in found.products {
            let Some(product) = node.manifest().product(&id)? else {
                continue;
            };
            results.push(Hit {
                path: format!("/ipns/{}/products/{id}/", node.shop_name()),
                product: id.to_string(),
                title: product.title,
                price: product.price.map(|price| price.to_string()),
            });
        }
        let total = found.total;
        Ok(SearchPage { results, total })
    }
}

/// Answers requests under `/ipfs/` and `/ipns/`.
#[derive(Debug)]
pub(crate) struct Gateway<B: Backend> {
    backend: B,
    hosts: Hosts,
    dnslinks: Dnslinks,
    /// Other gateways with the same content.
    mirrors: Vec<Url>,
    digests: Digests,
    retrievals: Arc<Semaphore>,
    budget: Budget,
}

impl<B: Backend> Gateway<B> {
    /// # Errors
    /// The first domain of the configuration whose DNSLink is no content path, and the first mirror
    /// that is no URL.
    pub(crate) fn new(backend: B, config: &GatewayConfig) -> Result<Self, ServerError> {
        let retrievals = config.concurrent_retrievals.min(Semaphore::MAX_PERMITS);
        let dns = backend.is_online().then(|| Dns::new(config.dns_resolver));
        Ok(Self {
            backend,
            hosts: Hosts::new(config),
            dnslinks: Dnslinks::new(&config.dnslink, dns.flatten())
                .map_err(|(domain, source)| ServerError::Dnslink { domain, source })?,
            mirrors: mirrors(&config.mirrors)?,
            digests: Digests::new(),
            retrievals: Arc::new(Semaphore::new(retrievals)),
            budget: Budget::new(config),
        })
    }

    /// What it serves from.
    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    /// What the host of a request is, which came from `peer`.
    pub(crate) async fn site(&self, parts: &Parts, peer: Peer) -> Site {
        self.hosts.site(parts, peer, &self.dnslinks).await
    }

    /// The URL of a request without its query, if its host has a name.
    fn own_url(&self, request: &ContentRequest) -> Option<String> {
        let origin = self.hosts.origin(request.parts())?;
        Some(format!("{origin}{}", request.raw_path()))
    }

    /// The response to a GET or HEAD of what is at `site`, whatever happens.
    pub(crate) async fn answer(&self, parts: Parts, site: Site) -> Response<Body> {
        let path = parts.uri.path().to_owned();
        let html = accepts_html(&parts.headers);
        let head = parts.method == Method::HEAD;
        match self.serve(parts, site).await {
            Ok(response) => response,
            Err(error) => error.into_response(&path, html, head),
        }
    }

    async fn serve(&self, parts: Parts, site: Site) -> Result<Response<Body>, GatewayError> {
        let request = match request::parse(parts, site)? {
            Parsed::Content(request) => request,
            Parsed::Redirect { status, location } => return Ok(redirect(status, location)),
        };
        let source = if request.only_if_cached {
            RequestSource::local(&self.backend)
        } else {
            RequestSource::with_network(&self.backend, &self.retrievals, self.budget)
        };
        match self.content(&request, source).await {
            Err(GatewayError::Dag(DagError::Fetch(FetchError::NotFound { .. })))
                if request.only_if_cached =>
            {
                Err(GatewayError::NotCached)
            }
            answered => answered,
        }
    }

    async fn content(
        &self,
        request: &ContentRequest,
        source: RequestSource<B>,
    ) -> Result<Response<Body>, GatewayError> {
        let start = resolve::start(self, request).await?;
        let segments = match start.prefix.as_slice() {
            [] => Cow::Borrowed(request.segments()),
            prefix => Cow::Owned([prefix, request.segments()].concat()),
        };
        match start.follow(self, &source, &segments).await {
            Err(missing @ GatewayError::Dag(DagError::NoLink { .. }))
                if request.obeys_redirects() =>
            {
                let redirects = Box::pin(redirects::load(&source, start.root)).await?;
                let outcome =
                    redirects.and_then(|rules| rules.outcome(&segments, request.raw_query()));
                let outcome = outcome.ok_or(missing)?;
                Box::pin(self.redirected(request, &start, source, outcome)).await
            }
            resolved => respond::respond(self, request, resolved?, source).await,
        }
    }

    /// What the site's `_redirects` makes of a path that is not there.
    async fn redirected(
        &self,
        request: &ContentRequest,
        start: &Start,
        source: RequestSource<B>,
        outcome: Outcome,
    ) -> Result<Response<Body>, GatewayError> {
        let (status, segments) = match outcome {
            Outcome::Redirect { status, location } => return Ok(redirect(status, location)),
            Outcome::Serve { status, segments } => (status, segments),
        };
        let resolved = start.follow(self, &source, &segments).await?;
        let target = request.rewritten(segments, status == StatusCode::OK);
        let mut response = respond::respond(self, &target, resolved, source).await?;
        headers::name_path(response.headers_mut(), request);
        if status != StatusCode::OK {
            *response.status_mut() = status;
        }
        Ok(response)
    }

    /// The right to walk a DAG, which is not one block's worth of work.
    fn walk_permit(&self) -> Result<OwnedSemaphorePermit, GatewayError> {
        Arc::clone(&self.retrievals)
            .try_acquire_owned()
            .map_err(|_| GatewayError::Busy)
    }
}

fn mirrors(configured: &[String]) -> Result<Vec<Url>, ServerError> {
    let parse = |text: &String| {
        told_gateway_url(text).map_err(|reason| ServerError::Mirror {
            url: text.clone(),
            reason,
        })
    };
    configured.iter().map(parse).collect()
}

/// Whether an error may be a page.
pub(crate) fn accepts_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/html"))
}

fn redirect(status: StatusCode, location: String) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers::insert(headers, header::LOCATION, location);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}
