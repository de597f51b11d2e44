//! Phase one: from a request's header to what is asked for. Nothing is looked up here.

use cid::Cid;
use duka_node::block::LIBP2P_KEY;
use duka_node::keys::Name;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};

use super::negotiate::{self, Format, Negotiated};
use super::path::{self, DecodedPath};
use crate::error::GatewayError;

/// Where a content path begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// `/ipfs/<cid>`
    Ipfs(Cid),
    /// `/ipns/<name>`
    Ipns(Name),
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
    /// The path, with namespace and root as its first two segments.
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
        /// Absolute path and query.
        location: String,
    },
}

impl ContentRequest {
    /// The segments behind the root.
    pub(crate) fn segments(&self) -> &[String] {
        self.path.segments.get(2..).unwrap_or_default()
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

    /// Path and query of the same content, as a directory: with a slash at the end.
    pub(crate) fn as_directory(&self) -> String {
        let path = path::encode(self.path.segments.iter().map(String::as_str), true);
        with_query(path, self.raw_query())
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

/// Reads a request under `/ipfs/` or `/ipns/`.
///
/// # Errors
/// 400 for paths and formats that do not exist.
pub(crate) fn parse(parts: Parts) -> Result<Parsed, GatewayError> {
    let raw_path = parts.uri.path();
    let raw_query = parts.uri.query();
    let invalid = |reason: String| GatewayError::InvalidPath {
        path: raw_path.to_owned(),
        reason,
    };
    let decoded = path::decode(raw_path).map_err(|error| invalid(error.reason().to_owned()))?;
    let segments = &decoded.segments;
    if decoded.cleaned {
        let location = path::encode(segments.iter().map(String::as_str), decoded.trailing_slash);
        return Ok(redirect(
            StatusCode::TEMPORARY_REDIRECT,
            with_query(location, raw_query),
        ));
    }
    let [namespace, root_text, rest @ ..] = segments.as_slice() else {
        return Err(invalid("it names no content".to_owned()));
    };
    if is_namespace(root_text) && !rest.is_empty() {
        let location = path::encode(
            segments.iter().skip(1).map(String::as_str),
            decoded.trailing_slash,
        );
        return Ok(redirect(
            StatusCode::MOVED_PERMANENTLY,
            with_query(location, raw_query),
        ));
    }
    let root = if namespace == "ipns" {
        let name = parse_name(root_text)?;
        let canonical = name.to_string();
        if canonical != *root_text {
            let renamed = ["ipns", &canonical];
            let path = renamed.into_iter().chain(rest.iter().map(String::as_str));
            let location = with_query(path::encode(path, decoded.trailing_slash), raw_query);
            return Ok(redirect(StatusCode::FOUND, location));
        }
        Root::Ipns(name)
    } else {
        let cid = Cid::try_from(root_text.as_str());
        Root::Ipfs(cid.map_err(|error| invalid(format!("invalid CID: {error}")))?)
    };
    let bare_root = rest.is_empty() && !decoded.trailing_slash;
    if bare_root
        && parts
            .headers
            .get("service-worker")
            .is_some_and(|value| value == "script")
    {
        return Err(GatewayError::ServiceWorker);
    }
    let query = raw_query.map(Query::parse).unwrap_or_default();
    let chosen =
        negotiate::negotiate(query.format.as_deref(), &parts.headers).map_err(|unknown| {
            GatewayError::UnknownFormat {
                media_type: unknown.0,
            }
        })?;
    if chosen.format == Format::IpnsRecord && (namespace != "ipns" || !rest.is_empty()) {
        return Err(GatewayError::NoRecordHere);
    }
    Ok(Parsed::Content(Box::new(ContentRequest {
        root,
        path: decoded,
        query,
        chosen,
        head: parts.method == Method::HEAD,
        only_if_cached: only_if_cached(&parts.headers),
        parts,
    })))
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

fn is_namespace(segment: &str) -> bool {
    matches!(segment, "ipfs" | "ipns")
}

/// A name in any of its spellings; a CID of another codec stands for the key with its hash.
fn parse_name(text: &str) -> Result<Name, GatewayError> {
    let unknown = || GatewayError::UnknownName {
        name: text.to_owned(),
    };
    text.parse::<Name>().or_else(|_| {
        let cid = Cid::try_from(text).map_err(|_| unknown())?;
        let key = Cid::new_v1(LIBP2P_KEY, *cid.hash());
        key.to_string().parse().map_err(|_| unknown())
    })
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
        parse(parts)
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
        assert_eq!(request.root, Root::Ipfs(CID.parse().unwrap()));
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
        let Parsed::Content(request) = parse(parts).unwrap() else {
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
            parse(request.body(()).unwrap().into_parts().0)
        };
        assert!(matches!(
            worker(format!("/ipfs/{CID}")),
            Err(GatewayError::ServiceWorker)
        ));
        assert!(worker(format!("/ipfs/{CID}/sw.js")).is_ok());
    }
}
