//! `_redirects`: what a site wants to happen with paths that are not there
//! (<https://specs.ipfs.tech/http-gateways/web-redirects-file/>).

use bytes::BytesMut;
use cid::Cid;
use duka_node::dag::unixfs::UnixFs;
use duka_node::dag::{self, DagError, read};
use futures::TryStreamExt;
use http::StatusCode;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::Backend;
use super::path::{self, encode_segment};
use super::source::RequestSource;
use crate::error::GatewayError;

/// Its name, directly under the root.
const FILE: &str = "_redirects";

/// Longest file that is read, in bytes.
const MAX_LEN: u64 = 64 << 10;
/// Longest target once its placeholders are filled in, in bytes: each may stand there thousands of times.
const MAX_TARGET_LEN: usize = 32 << 10;
/// Where a redirect may lead, other than to a path of the site.
const SCHEMES: [&str; 4] = ["http", "https", "ipfs", "ipns"];
/// What may not be in a `Location` as it is.
const NOT_IN_A_URL: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedirectsError {
    #[error("redirects file size cannot exceed {MAX_LEN} bytes")]
    TooLong,
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("line {line}: {reason}")]
    Line { line: usize, reason: &'static str },
}

/// The rules of the site under `root`, if it has any.
///
/// # Errors
/// 500 for a file that cannot be used, and what goes wrong with reading it.
pub(crate) async fn load<B: Backend>(
    source: &RequestSource<B>,
    root: Cid,
) -> Result<Option<Redirects>, GatewayError> {
    let file = match dag::path::resolve(source, root, &[FILE.to_owned()]).await {
        Ok(found) => found.cid,
        Err(DagError::NoLink { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let UnixFs::File(node) = read::load(source, &file).await? else {
        return Ok(None);
    };
    if node.size > MAX_LEN {
        return Err(RedirectsError::TooLong.into());
    }
    let chunks = read::read_range(source, file, 0..node.size);
    let bytes: BytesMut = chunks.try_collect().await?;
    Ok(Some(Redirects::parse(&bytes)?))
}

/// The rules of a file, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redirects {
    rules: Vec<Rule>,
}

/// What happens with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The client goes elsewhere.
    Redirect {
        status: StatusCode,
        /// URL or absolute path, escaped.
        location: String,
    },
    /// Another file of the site is served, with this status.
    Serve {
        status: StatusCode,
        /// Its path below the root.
        segments: Vec<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    from: Vec<Pattern>,
    /// A trailing `*`: one segment or more follow.
    splat: bool,
    to: String,
    status: StatusCode,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exactly(String),
    Placeholder(String),
}

/// What a placeholder stands for.
struct Binding<'a> {
    name: &'a str,
    segments: &'a [String],
}

impl Redirects {
    /// Reads a file.
    ///
    /// # Errors
    /// [`RedirectsError`] names the first line that is no rule.
    pub(super) fn parse(file: &[u8]) -> Result<Self, RedirectsError> {
        if file.len() as u64 > MAX_LEN {
            return Err(RedirectsError::TooLong);
        }
        let text = std::str::from_utf8(file).map_err(|_| RedirectsError::NotUtf8)?;
        let mut rules = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let rule = Rule::parse(line).map_err(|reason| RedirectsError::Line {
                line: number + 1,
                reason,
            })?;
            rules.push(rule);
        }
        Ok(Self { rules })
    }

    /// What the first rule that matches does with the path `segments`; `query` is the request's. A target
    /// that becomes too long is none.
    pub(crate) fn outcome(&self, segments: &[String], query: Option<&str>) -> Option<Outcome> {
        let (rule, bindings) = self
            .rules
            .iter()
            .find_map(|rule| Some((rule, rule.bind(segments)?)))?;
        let to = expand(&rule.to, &bindings)?;
        if rule.status.is_redirection() {
            let location = merge_query(&to, query);
            let location = utf8_percent_encode(&location, NOT_IN_A_URL).to_string();
            return Some(Outcome::Redirect {
                status: rule.status,
                location,
            });
        }
        let path = to.split(['?', '#']).next().unwrap_or_default();
        Some(Outcome::Serve {
            status: rule.status,
            segments: path::decode(path).ok()?.segments,
        })
    }
}

impl Rule {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let mut fields = line.split_whitespace();
        let from = fields.next().unwrap_or_default();
        let to = fields.next().ok_or("missing 'to' path")?;
        let status = fields
            .next()
            .map_or(Ok(StatusCode::MOVED_PERMANENTLY), parse_status)?;
        if fields.next().is_some() {
            return Err("must match format 'from to [status]'");
        }
        let (from, splat) = parse_from(from)?;
        let names = from.iter().filter_map(|pattern| match pattern {
            Pattern::Placeholder(name) => Some(name),
            Pattern::Exactly(_) => None,
        });
        let mut names: Vec<_> = names.collect();
        names.sort();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err("a placeholder appears twice");
        }
        if !is_target(to, status) {
            return Err("'to' must be a path that begins with '/' or, for 3xx, a URL");
        }
        Ok(Self {
            from,
            splat,
            to: to.to_owned(),
            status,
        })
    }

    /// What the placeholders stand for, if the path matches.
    fn bind<'a>(&'a self, segments: &'a [String]) -> Option<Vec<Binding<'a>>> {
        let fits = match self.splat {
            true => segments.len() > self.from.len(),
            false => segments.len() == self.from.len(),
        };
        if !fits {
            return None;
        }
        let (matched, rest) = segments.split_at(self.from.len());
        let mut bindings = Vec::new();
        for (pattern, segment) in self.from.iter().zip(matched.chunks(1)) {
            match pattern {
                Pattern::Exactly(text) if [text] == [&segment[0]] => {}
                Pattern::Exactly(_) => return None,
                Pattern::Placeholder(name) => bindings.push(Binding {
                    name,
                    segments: segment,
                }),
            }
        }
        if self.splat {
            bindings.push(Binding {
                name: "splat",
                segments: rest,
            });
        }
        // Of two names that begin alike the longer one is meant.
        bindings.sort_by_key(|binding| std::cmp::Reverse(binding.name.len()));
        Some(bindings)
    }
}

fn parse_from(from: &str) -> Result<(Vec<Pattern>, bool), &'static str> {
    let path = from.strip_prefix('/').ok_or("'from' must begin with '/'")?;
    let (path, splat) = match path.strip_suffix('*') {
        Some(path) => (path, true),
        None => (path, false),
    };
    if path.contains('*') {
        return Err("'from' may have one asterisk, at its end");
    }
    if splat && !path.is_empty() && !path.ends_with('/') {
        return Err("an asterisk must follow a slash");
    }
    let patterns = path.split('/').filter(|part| !part.is_empty()).map(pattern);
    Ok((patterns.collect::<Result<_, _>>()?, splat))
}

fn pattern(part: &str) -> Result<Pattern, &'static str> {
    match part.strip_prefix(':') {
        Some("") => Err("a placeholder needs a name"),
        Some(name) => Ok(Pattern::Placeholder(name.to_owned())),
        None => {
            let decoded = percent_decode_str(part).decode_utf8();
            let text = decoded.map_err(|_| "'from' is not UTF-8")?;
            Ok(Pattern::Exactly(text.into_owned()))
        }
    }
}

fn parse_status(text: &str) -> Result<StatusCode, &'static str> {
    if text.ends_with('!') {
        return Err("forced redirects (or \"shadowing\") are not supported");
    }
    match text {
        "200" | "301" | "302" | "303" | "307" | "308" | "404" | "410" | "451" => {
            StatusCode::from_bytes(text.as_bytes()).map_err(|_| "status code is not supported")
        }
        _ => Err("status code is not supported"),
    }
}

fn is_target(to: &str, status: StatusCode) -> bool {
    let scheme = to
        .split_once("://")
        .map(|(scheme, _)| scheme.to_ascii_lowercase());
    to.starts_with('/')
        || status.is_redirection()
            && scheme.is_some_and(|scheme| SCHEMES.contains(&scheme.as_str()))
}

/// Replaces each `:name` by what it stands for, escaped. `None` when that is too long.
fn expand(to: &str, bindings: &[Binding<'_>]) -> Option<String> {
    let mut expanded = String::with_capacity(to.len());
    let mut rest = to;
    while let Some((before, after)) = rest.split_once(':') {
        if expanded.len() > MAX_TARGET_LEN {
            return None;
        }
        expanded.push_str(before);
        let bound = bindings
            .iter()
            .find_map(|binding| Some((binding, after.strip_prefix(binding.name)?)));
        rest = match bound {
            Some((binding, behind)) => {
                for (n, segment) in binding.segments.iter().enumerate() {
                    let slash = if n == 0 { "" } else { "/" };
                    expanded.push_str(slash);
                    expanded.extend(encode_segment(segment));
                }
                behind
            }
            None => {
                expanded.push(':');
                after
            }
        };
    }
    expanded.push_str(rest);
    (expanded.len() <= MAX_TARGET_LEN).then_some(expanded)
}

/// `to` with the request's query; of a key that both have, the request's values count.
fn merge_query(to: &str, query: Option<&str>) -> String {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return to.to_owned();
    };
    let (before, fragment) = match to.split_once('#') {
        Some((before, fragment)) => (before, Some(fragment)),
        None => (to, None),
    };
    let (path, own) = before.split_once('?').unwrap_or((before, ""));
    let key = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let asked: Vec<String> = query.split('&').map(key).collect();
    let kept = own
        .split('&')
        .filter(|pair| !pair.is_empty() && !asked.contains(&key(pair)));
    let pairs: Vec<&str> = kept.chain([query]).collect();
    let fragment = fragment.map_or(String::new(), |fragment| format!("#{fragment}"));
    format!("{path}?{}{fragment}", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn outcome(file: &str, path: &str) -> Option<Outcome> {
        let redirects = Redirects::parse(file.as_bytes()).unwrap();
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        redirects.outcome(&path::decode(path).unwrap().segments, query)
    }

    fn location(file: &str, path: &str) -> (u16, String) {
        match outcome(file, path) {
            Some(Outcome::Redirect { status, location }) => (status.as_u16(), location),
            other => panic!("{path}: {other:?}"),
        }
    }

    fn served(file: &str, path: &str) -> (u16, String) {
        match outcome(file, path) {
            Some(Outcome::Serve { status, segments }) => (status.as_u16(), segments.join("/")),
            other => panic!("{path}: {other:?}"),
        }
    }

    fn refused(file: &str) -> String {
        Redirects::parse(file.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn first_rule_that_matches_counts() {
        let file =
            "# moved\r\n\r\n/one /two\r\n  /one /three 302\r\n/a/* /b 307\n/* /index.html 200";
        assert_eq!(location(file, "/one"), (301, "/two".to_owned()));
        assert_eq!(location(file, "/one/"), (301, "/two".to_owned()));
        assert_eq!(location(file, "/a/x/y"), (307, "/b".to_owned()));
        assert_eq!(served(file, "/a"), (200, "index.html".to_owned()));
        assert_eq!(outcome("/x /y", "/z"), None);
    }

    #[test]
    fn placeholder_is_one_segment_and_splat_is_the_rest() {
        let file = "/posts/:month/:monthly/* /:monthly/:month/:splat/:unknown";
        assert_eq!(
            location(file, "/posts/06/15/a%20b/%C4%85"),
            (301, "/15/06/a%20b/%C4%85/:unknown".to_owned())
        );
        assert_eq!(outcome(file, "/posts/06/15"), None);
        assert_eq!(outcome("/a/:b /c", "/a/b/c"), None);
    }

    #[test]
    fn statuses_other_than_3xx_serve_a_file() {
        for status in [200, 404, 410, 451] {
            let file = format!("/gone/* /pages/:splat.html?x#y {status}");
            assert_eq!(
                served(&file, "/gone/a%20b"),
                (status, "pages/a b.html".to_owned())
            );
        }
    }

    #[test]
    fn query_is_kept_and_wins() {
        let file = "/old https://example.com/new?a=1&b=2#part 308";
        assert_eq!(
            location(file, "/old?b=3&c=4"),
            (308, "https://example.com/new?a=1&b=3&c=4#part".to_owned())
        );
        assert_eq!(
            location("/old /new", "/old?x=%20"),
            (301, "/new?x=%20".to_owned())
        );
    }

    #[test]
    fn path_of_the_rule_may_be_escaped() {
        assert_eq!(location("/%C4%85 /ż", "/ą"), (301, "/%C5%BC".to_owned()));
    }

    #[test]
    fn what_is_no_rule_is_named() {
        for (file, reason) in [
            ("/a", "line 1: missing 'to' path"),
            ("\n/a /b 301!", "line 2: forced redirects"),
            ("/a /b 999", "line 1: status code is not supported"),
            ("/a /b 301 x", "line 1: must match format"),
            ("a /b", "line 1: 'from' must begin with '/'"),
            ("/a b", "line 1: 'to' must be"),
            ("/a javascript://x", "line 1: 'to' must be"),
            ("/a https://example.com 200", "line 1: 'to' must be"),
            ("/a*b /c", "line 1: 'from' may have one asterisk"),
            ("/a* /c", "line 1: an asterisk must follow a slash"),
            ("/:a/:a /c", "line 1: a placeholder appears twice"),
        ] {
            assert!(
                refused(file).starts_with(reason),
                "{file}: {}",
                refused(file)
            );
        }
        let long = "# ".repeat(32 << 10) + "#";
        assert_eq!(
            refused(&long),
            "redirects file size cannot exceed 65536 bytes"
        );
    }

    #[test]
    fn location_is_always_a_header_value() {
        let (_, location) = location("/* /:splat?<\"ż", "/a%0D%0AX:%20y");
        assert!(http::HeaderValue::try_from(&location).is_ok(), "{location}");
        assert!(location.is_ascii());
    }

    #[test]
    fn target_that_grows_too_long_is_none() {
        let rule = |times| format!("/* /{}", ":splat/".repeat(times));
        let path = format!("/{}", "a".repeat(3_000));
        assert!(outcome(&rule(10), &path).is_some());
        assert_eq!(outcome(&rule(11), &path), None);
        assert_eq!(outcome(&rule(8_000), &path), None);
    }

    proptest! {
        #[test]
        fn any_file_and_path_give_an_outcome_or_an_error(
            file in "((/|:|\\*|[a-b]|%|é|#|\\?){0,8} (/|:splat|:a|https://){0,3} (200|301|404)?\n){0,5}",
            path in "(/|[a-b]|%20|%0a|é){0,10}",
        ) {
            if let (Ok(redirects), Ok(path)) = (Redirects::parse(file.as_bytes()), path::decode(&path))
                && let Some(Outcome::Redirect { location, .. }) = redirects.outcome(&path.segments, Some("a=b"))
            {
                prop_assert!(http::HeaderValue::try_from(location).is_ok());
            }
        }
    }
}
