//! Phase one: from a request's header to what is asked for. Nothing is looked up here.

use cid::Cid;
use cid::multibase::Base;
use duka_config::Namespace;
use duka_node::block::LIBP2P_KEY;
use duka_node::dag::path::{ContentPath, Root};
use duka_node::keys::Name;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use url::Url;

use super::dnslink::{MAX_LABEL_LEN, inline};
use super::host::{KnownHost, Site};
use super::negotiate::{self, Format, Negotiated};
use super::path::{self, DecodedPath};
use crate::error::GatewayError;

/// How the URL of a request names its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// By the first two segments of its path.
    Path,
    /// By its host, below that of a gateway: name and port.
    Subdomain(String),
    /// By its host, a domain with DNSLink: name and port.
    Domain(String),
}

/// The parameters of the URL's query that a gateway knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) format: Option<String>,
    pub(crate) filename: Option<String>,
    pub(crate) download: bool,
    pub(crate) go_get: bool,
    /// `dag-scope`, `entity-bytes` and `car-*`, as given.
    pub(crate) car: Vec<(String, String)>,
}

impl Query {
    fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "format" => parsed.format = Some(value.into_owned()),
                "filename" if !value.is_empty() => parsed.filename = Some(value.into_owned()),
                "download" => parsed.download = value == "true",
                "go-get" => parsed.go_get = value == "1",
                "dag-scope" | "entity-bytes" | "car-version" | "car-order" | "car-dups" => {
                    parsed.car.push((key.into_owned(), value.into_owned()));
                }
                _ => {}
            }
        }
        parsed
    }
}

/// A request for content, parsed.
#[derive(Clone, Debug)]
pub(crate) struct ContentRequest {
    /// Where the path begins.
    pub(crate) root: Root,
    /// How the URL names that.
    pub(crate) place: Place,
    /// The content path, with namespace and root as its first two segments.
    pub(crate) path: DecodedPath,
    /// The query.
    pub(crate) query: Query,
    /// The chosen format.
    pub(crate) chosen: Negotiated,
    /// `HEAD`: everything but the body.
    pub(crate) head: bool,
    /// `Cache-Control: only-if-cached`: what is not here is not fetched.
    pub(crate) only_if_cached: bool,
    parts: Parts,
}

/// What a path turned out to be.
#[derive(Clone, Debug)]
pub(crate) enum Parsed {
    /// Content.
    Content(Box<ContentRequest>),
    /// Something else that names the same content.
    Redirect {
        /// 301, 302 or 307.
        status: StatusCode,
        /// Absolute path and query, or a whole URL.
        location: String,
    },
}

impl ContentRequest {
    /// The segments behind the root.
    pub(crate) fn segments(&self) -> &[String] {
        self.path.segments.get(2..).unwrap_or_default()
    }

    /// Whether the `_redirects` of the site decide about paths that are not there: only where the
    /// site has an origin of its own.
    pub(crate) fn obeys_redirects(&self) -> bool {
        self.place != Place::Path && self.chosen.format == Format::Default
    }

    /// Whether a person reads the answer: a browser that asked for no format and no download.
    pub(crate) fn wants_page(&self) -> bool {
        self.chosen.format == Format::Default && self.chosen.html && !self.query.download
    }

    /// The same request for another path below the root. Of a page that stands for an error
    /// (`is_found` is false) the client gets all, whatever it has or wants.
    pub(crate) fn rewritten(&self, segments: Vec<String>, is_found: bool) -> Self {
        let mut rewritten = self.clone();
        rewritten.path.segments.truncate(2);
        rewritten.path.segments.extend(segments);
        rewritten.path.trailing_slash = true;
        if !is_found {
            for name in [header::RANGE, header::IF_NONE_MATCH] {
                rewritten.parts.headers.remove(name);
            }
        }
        rewritten
    }

    /// The request without its body.
    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The request's headers.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The path as it was sent.
    pub(crate) fn raw_path(&self) -> &str {
        self.parts.uri.path()
    }

    /// The query as it was sent.
    pub(crate) fn raw_query(&self) -> Option<&str> {
        self.parts.uri.query()
    }

    /// The segments of the URL's path.
    pub(crate) fn url_segments(&self) -> &[String] {
        match self.place {
            Place::Path => &self.path.segments,
            Place::Subdomain(_) | Place::Domain(_) => self.segments(),
        }
    }

    /// The escaped path of the URL, with a slash at the end.
    pub(crate) fn url_directory(&self) -> String {
        path::encode(self.url_segments().iter().map(String::as_str), true)
    }

    /// Path and query of the same content, as a directory.
    pub(crate) fn as_directory(&self) -> String {
        with_query(self.url_directory(), self.raw_query())
    }

    /// The parameter of a CAR: the URL's, else the one of `Accept`.
    pub(crate) fn car_param(&self, key: &str) -> Option<&str> {
        let accept_key = key.strip_prefix("car-").unwrap_or("");
        let find = |params: &'_ [(String, String)], key: &str| {
            params.iter().position(|(name, _)| name == key)
        };
        match find(&self.query.car, key) {
            Some(at) => self.query.car.get(at),
            None => find(&self.chosen.params, accept_key).and_then(|at| self.chosen.params.get(at)),
        }
        .map(|(_, value)| value.as_str())
    }
}

/// Reads a request for content of `site`.
///
/// # Errors
/// 400 for paths and formats that do not exist.
pub(crate) fn parse(parts: Parts, site: Site) -> Result<Parsed, GatewayError> {
    if let Some(uri) = uri_parameter(&parts, &site) {
        return protocol_handler(&uri);
    }
    let decoded = path::decode(parts.uri.path())
        .map_err(|error| invalid(parts.uri.path(), error.reason()))?;
    if decoded.cleaned {
        let segments = decoded.segments.iter().map(String::as_str);
        let location = path::encode(segments, decoded.trailing_slash);
        return Ok(redirect(
            StatusCode::TEMPORARY_REDIRECT,
            with_query(location, parts.uri.query()),
        ));
    }
    match site {
        Site::Anywhere | Site::Unknown { .. } => path_request(parts, decoded, None),
        Site::Known(host) => path_request(parts, decoded, Some(&host)),
        Site::Subdomain {
            host,
            namespace,
            label,
        } => subdomain_request(parts, decoded, &host, namespace, &label),
        Site::Domain { domain, authority } => {
            let place = Place::Domain(authority);
            let decoded = below(decoded, Namespace::Ipns, &domain);
            content(parts, decoded, Root::Domain(domain), place, false)
        }
    }
}

/// `/ipfs/<cid>/…` and `/ipns/<name>/…`, on a host of its own or not.
fn path_request(
    parts: Parts,
    decoded: DecodedPath,
    host: Option<&KnownHost>,
) -> Result<Parsed, GatewayError> {
    let (raw_path, raw_query) = (parts.uri.path(), parts.uri.query());
    let [first, root_text, rest @ ..] = decoded.segments.as_slice() else {
        return Err(invalid(raw_path, "it names no content"));
    };
    let namespace = namespace_of(first).ok_or(GatewayError::NoRoute)?;
    if host.is_some_and(|host| !host.config.paths.contains(&namespace)) {
        return Err(GatewayError::NoRoute);
    }
    if namespace_of(root_text).is_some() && !rest.is_empty() {
        let segments = decoded.segments.iter().skip(1).map(String::as_str);
        let location = path::encode(segments, decoded.trailing_slash);
        return Ok(redirect(
            StatusCode::MOVED_PERMANENTLY,
            with_query(location, raw_query),
        ));
    }
    let root = parse_root(namespace, root_text, raw_path)?;
    if let Some(host) = host.filter(|host| host.config.subdomains) {
        let below = match raw_path.splitn(4, '/').nth(3) {
            Some(below) => format!("/{below}"),
            None => "/".to_owned(),
        };
        let location = subdomain_url(host, &root, &below, raw_query)?;
        return Ok(redirect(StatusCode::MOVED_PERMANENTLY, location));
    }
    if let Root::Name(name) = &root {
        let canonical = name.to_string();
        if canonical != *root_text {
            let renamed = ["ipns", &canonical];
            let path = renamed.into_iter().chain(rest.iter().map(String::as_str));
            let location = with_query(path::encode(path, decoded.trailing_slash), raw_query);
            return Ok(redirect(StatusCode::FOUND, location));
        }
    }
    let trustless_only = host.is_some_and(|host| host.config.trustless_only);
    content(parts, decoded, root, Place::Path, trustless_only)
}

/// `<label>.<namespace>.<host>/…`.
fn subdomain_request(
    parts: Parts,
    decoded: DecodedPath,
    host: &KnownHost,
    namespace: Namespace,
    label: &str,
) -> Result<Parsed, GatewayError> {
    if !host.config.paths.contains(&namespace) {
        return Err(GatewayError::NoRoute);
    }
    let word = word(namespace);
    let root = parse_root(namespace, label, &format!("/{word}/{label}"))?;
    let fits = label.len() <= MAX_LABEL_LEN;
    let is_canonical = match &root {
        Root::Cid(_) => fits,
        Root::Name(name) => fits && name.to_string() == label,
        Root::Domain(_) => true,
    };
    if !is_canonical {
        let location = subdomain_url(host, &root, parts.uri.path(), parts.uri.query())?;
        return Ok(redirect(StatusCode::MOVED_PERMANENTLY, location));
    }
    let place = Place::Subdomain(host.authority.clone());
    let decoded = below(decoded, namespace, label);
    content(parts, decoded, root, place, host.config.trustless_only)
}

/// What is asked for of the content path `decoded`, which begins at `root`.
fn content(
    parts: Parts,
    decoded: DecodedPath,
    root: Root,
    place: Place,
    trustless_only: bool,
) -> Result<Parsed, GatewayError> {
    let is_worker = |value| value == "script";
    let bare_root = decoded.segments.len() == 2;
    if place == Place::Path
        && bare_root
        && !decoded.trailing_slash
        && parts.headers.get("service-worker").is_some_and(is_worker)
    {
        return Err(GatewayError::ServiceWorker);
    }
    let query = parts.uri.query().map(Query::parse).unwrap_or_default();
    let chosen =
        negotiate::negotiate(query.format.as_deref(), &parts.headers).map_err(|unknown| {
            GatewayError::UnknownFormat {
                media_type: unknown.0,
            }
        })?;
    let verifiable = match chosen.format {
        Format::Raw => bare_root,
        Format::Car | Format::IpnsRecord => true,
        _ => false,
    };
    if trustless_only && !verifiable {
        return Err(GatewayError::TrustlessOnly);
    }
    if chosen.format == Format::IpnsRecord && !(matches!(root, Root::Name(_)) && bare_root) {
        return Err(GatewayError::NoRecordHere);
    }
    Ok(Parsed::Content(Box::new(ContentRequest {
        root,
        place,
        path: decoded,
        query,
        chosen,
        head: parts.method == Method::HEAD,
        only_if_cached: only_if_cached(&parts.headers),
        parts,
    })))
}

/// The content path of a URL whose host names the root.
fn below(path: DecodedPath, namespace: Namespace, root: &str) -> DecodedPath {
    let trailing_slash = path.trailing_slash || path.segments.is_empty();
    let mut segments = vec![word(namespace).to_owned(), root.to_owned()];
    segments.extend(path.segments);
    DecodedPath {
        segments,
        trailing_slash,
        cleaned: false,
    }
}

/// The URL of a root on a host of its own; `below` is the escaped path there.
fn subdomain_url(
    host: &KnownHost,
    root: &Root,
    below: &str,
    query: Option<&str>,
) -> Result<String, GatewayError> {
    let (namespace, label) = match root {
        Root::Cid(cid) => ("ipfs", dns_label(cid, Base::Base32Lower)?),
        Root::Name(name) => ("ipns", dns_label(name.cid(), Base::Base36Lower)?),
        Root::Domain(domain) if host.https || host.config.inline_dnslink => {
            ("ipns", inline(domain))
        }
        Root::Domain(domain) => ("ipns", domain.clone()),
    };
    let scheme = if host.https { "https" } else { "http" };
    let authority = &host.authority;
    let url = format!("{scheme}://{label}.{namespace}.{authority}{below}");
    Ok(with_query(url, query))
}

/// The spelling of a CID that a DNS label can hold: in `base`, or else in base36.
fn dns_label(cid: &Cid, base: Base) -> Result<String, GatewayError> {
    let too_long = GatewayError::LabelTooLong { cid: *cid };
    let cid = Cid::new_v1(cid.codec(), *cid.hash());
    [base, Base::Base36Lower]
        .into_iter()
        .filter_map(|base| cid.to_string_of_base(base).ok())
        .find(|label| label.len() <= MAX_LABEL_LEN)
        .ok_or(too_long)
}

/// `?uri=` of `/ipfs/` and `/ipns/`, where browsers send what they have no handler for.
fn uri_parameter(parts: &Parts, site: &Site) -> Option<String> {
    let by_path = !site.is_one_root();
    let path = parts.uri.path().trim_matches('/');
    if !by_path || namespace_of(path).is_none() {
        return None;
    }
    let mut query = url::form_urlencoded::parse(parts.uri.query()?.as_bytes());
    let (_, uri) = query.find(|(key, value)| key == "uri" && !value.is_empty())?;
    Some(uri.into_owned())
}

/// `ipfs://<cid>/…` as a path.
fn protocol_handler(uri: &str) -> Result<Parsed, GatewayError> {
    let bad = |reason| GatewayError::BadParameter {
        name: "uri",
        value: uri.to_owned(),
        reason,
    };
    let url = Url::parse(uri).map_err(|_| bad("it is not a URI"))?;
    let root = url.host_str().filter(|root| !root.is_empty());
    let (Some(_), Some(root)) = (namespace_of(url.scheme()), root) else {
        return Err(bad("it is not ipfs://<cid> or ipns://<name>"));
    };
    let path = format!("/{}/{root}{}", url.scheme(), url.path());
    let location = with_query(path, url.query());
    Ok(redirect(StatusCode::MOVED_PERMANENTLY, location))
}

fn redirect(status: StatusCode, location: String) -> Parsed {
    Parsed::Redirect { status, location }
}

fn with_query(mut path: String, query: Option<&str>) -> String {
    if let Some(query) = query {
        path.push('?');
        path.push_str(query);
    }
    path
}

fn invalid(path: &str, reason: &str) -> GatewayError {
    GatewayError::InvalidPath {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

fn namespace_of(segment: &str) -> Option<Namespace> {
    match segment {
        "ipfs" => Some(Namespace::Ipfs),
        "ipns" => Some(Namespace::Ipns),
        _ => None,
    }
}

fn word(namespace: Namespace) -> &'static str {
    match namespace {
        Namespace::Ipfs => "ipfs",
        Namespace::Ipns => "ipns",
    }
}

/// The root that `text` is; `path` is for the error.
fn parse_root(namespace: Namespace, text: &str, path: &str) -> Result<Root, GatewayError> {
    match namespace {
        Namespace::Ipfs => match Cid::try_from(text) {
            Ok(cid) => Ok(Root::Cid(cid)),
            Err(error) => Err(invalid(path, &format!("invalid CID: {error}"))),
        },
        Namespace::Ipns => parse_name(text),
    }
}

/// A name in any of its spellings, or a domain; a CID of another codec stands for the key with its
/// hash.
fn parse_name(text: &str) -> Result<Root, GatewayError> {
    if let Ok(cid) = Cid::try_from(text)
        && let Ok(name) = Cid::new_v1(LIBP2P_KEY, *cid.hash()).to_string().parse()
    {
        return Ok(Root::Name(name));
    }
    if let Ok(name) = text.parse::<Name>() {
        return Ok(Root::Name(name));
    }
    match ContentPath::parse(&format!("/ipns/{text}")).map(|path| path.root) {
        Ok(Root::Domain(domain)) => Ok(Root::Domain(domain.to_ascii_lowercase())),
        _ => Err(GatewayError::UnknownName {
            name: text.to_owned(),
        }),
    }
}

fn only_if_cached(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("only-if-cached"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

    fn request(uri: &str) -> Result<Parsed, GatewayError> {
        let (parts, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
        parse(parts, Site::Anywhere)
    }

    fn content(uri: &str) -> ContentRequest {
        match request(uri).unwrap() {
            Parsed::Content(request) => *request,
            Parsed::Redirect { location, .. } => panic!("redirected to {location}"),
        }
    }

    fn redirected(uri: &str) -> (u16, String) {
        match request(uri).unwrap() {
            Parsed::Redirect { status, location } => (status.as_u16(), location),
            Parsed::Content(_) => panic!("not redirected"),
        }
    }

    #[test]
    fn root_and_segments_are_told_apart() {
        let request = content(&format!("/ipfs/{CID}/a%20b/c/"));
        assert_eq!(request.root, Root::Cid(CID.parse().unwrap()));
        assert_eq!(request.segments(), ["a b", "c"]);
        assert!(request.path.trailing_slash);
    }

    #[test]
    fn absolute_form_target_is_the_same_request() {
        let request = content(&format!("http://example.com:80/ipfs/{CID}/a?filename=b"));
        assert_eq!(request.segments(), ["a"]);
        assert_eq!(request.query.filename.as_deref(), Some("b"));
    }

    #[test]
    fn unclean_path_is_redirected_with_its_query() {
        assert_eq!(
            redirected(&format!("/ipfs/{CID}//a/./b/?x=1")),
            (307, format!("/ipfs/{CID}/a/b/?x=1"))
        );
        assert_eq!(
            redirected("/ipfs/../../etc/passwd"),
            (307, "/etc/passwd".to_owned())
        );
        assert_eq!(
            redirected("/ipfs/..//evil.example/"),
            (307, "/evil.example/".to_owned())
        );
    }

    #[test]
    fn doubled_namespace_is_redirected() {
        assert_eq!(
            redirected(&format!("/ipfs/ipfs/{CID}")),
            (301, format!("/ipfs/{CID}"))
        );
    }

    #[test]
    fn invalid_cid_is_named_in_its_original_case() {
        let error = request("/ipfs/QmInvalidCID").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("invalid path \"/ipfs/QmInvalidCID\""),
            "{error}"
        );
    }

    #[test]
    fn directory_redirect_keeps_the_query_and_escapes_in_upper_case() {
        let request = content(&format!("/ipfs/{CID}/%c4%85?filename=x"));
        assert_eq!(
            request.as_directory(),
            format!("/ipfs/{CID}/%C4%85/?filename=x")
        );
    }

    #[test]
    fn url_parameter_of_a_car_overrides_accept() {
        let (parts, ()) = http::Request::get(format!("/ipfs/{CID}?format=car&car-dups=n"))
            .header(
                "accept",
                "application/vnd.ipld.car; version=1; dups=y; order=unk",
            )
            .body(())
            .unwrap()
            .into_parts();
        let Parsed::Content(request) = parse(parts, Site::Anywhere).unwrap() else {
            panic!("not redirected")
        };
        assert_eq!(request.car_param("car-dups"), Some("n"));
        assert_eq!(request.car_param("car-order"), Some("unk"));
        assert_eq!(request.car_param("dag-scope"), None);
    }

    #[test]
    fn service_worker_of_a_whole_root_is_refused() {
        let worker = |path: String| {
            let request = http::Request::get(path).header("service-worker", "script");
            parse(request.body(()).unwrap().into_parts().0, Site::Anywhere)
        };
        assert!(matches!(
            worker(format!("/ipfs/{CID}")),
            Err(GatewayError::ServiceWorker)
        ));
        assert!(worker(format!("/ipfs/{CID}/sw.js")).is_ok());
    }
}
