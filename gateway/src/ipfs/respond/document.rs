//! The page that shows a DAG-CBOR or DAG-JSON document to a person, as DAG-JSON with links.

use std::fmt::Write as _;

use askama::Template;
use askama::filters::{Escaper as _, Html};
use cid::Cid;
use duka_node::block::DAG_CBOR;
use duka_node::dag::document;
use duka_node::human::human_size;
use duka_node::source::BlockSource;
use http::Response;
use ipld_core::ipld::Ipld;

use super::page::{self, CidLinks, Crumb, crumbs};
use super::{dir, entity};
use crate::body::Body;
use crate::error::GatewayError;
use crate::ipfs::Backend;
use crate::ipfs::negotiate::Format;
use crate::ipfs::request::ContentRequest;
use crate::ipfs::resolve::Resolved;
use crate::ipfs::source::RequestSource;

/// Longest document that is shown, in bytes of HTML.
const MAX_LEN: usize = 1 << 20;
/// Of the templates' text: another page has another `ETag`.
const PAGE_VERSION: u64 = entity::fnv1a(concat!(
    include_str!("../../../templates/document.html"),
    include_str!("../../../templates/page_head.html"),
    include_str!("../../../templates/page_foot.html"),
));

pub(super) async fn respond<B: Backend>(
    request: &ContentRequest,
    resolved: &Resolved,
    source: &RequestSource<B>,
) -> Result<Response<Body>, GatewayError> {
    if let Some(response) = dir::to_slash(request) {
        return Ok(response);
    }
    let cid = &resolved.cid;
    let etag = entity::etag(format!("\"DagIndex-{PAGE_VERSION:x}_CID-{cid}\""));
    let body = async {
        let block = source.fetch(cid).await?;
        let mut shown = Document::new(CidLinks::of(request));
        shown.value(&document::decode(&block)?, 0);
        let format = match cid.codec() {
            DAG_CBOR => Format::DagCbor,
            _ => Format::DagJson,
        };
        let html = DocumentPage {
            kind: format.word(),
            cid,
            namespace: request.path.segments.first().map_or("", String::as_str),
            crumbs: crumbs(request),
            size: human_size(block.data().len() as u64),
            cut: shown.html.len() >= MAX_LEN,
            document: shown.html,
        }
        .render()?;
        Ok(Some(Body::bytes(html)))
    };
    page::answer(request, resolved, etag, body).await
}

/// A document as HTML, up to [`MAX_LEN`].
struct Document {
    html: String,
    links: CidLinks,
}

impl Document {
    fn new(links: CidLinks) -> Self {
        let html = String::new();
        Self { html, links }
    }

    /// Appends a value whose first line is already indented.
    fn value(&mut self, value: &Ipld, indent: usize) {
        match value {
            Ipld::Null => self.push("null"),
            Ipld::Bool(value) => self.push(&value.to_string()),
            Ipld::Integer(value) => self.push(&value.to_string()),
            Ipld::Float(value) => self.push(&format!("{value:?}")),
            Ipld::String(text) => self.text(text),
            Ipld::Bytes(bytes) => {
                let bytes = multibase::encode(multibase::Base::Base64, bytes);
                self.push("{\"/\": {\"bytes\": ");
                self.text(bytes.get(1..).unwrap_or_default());
                self.push("}}");
            }
            Ipld::Link(cid) => {
                let href = self.links.href(cid, None);
                self.push(&format!("{{\"/\": \"<a href=\"{href}\">{cid}</a>\"}}"));
            }
            Ipld::List(values) => {
                let items = values.iter().map(|value| (None, value));
                self.group(['[', ']'], items, indent);
            }
            Ipld::Map(values) => {
                let items = values
                    .iter()
                    .map(|(key, value)| (Some(key.as_str()), value));
                self.group(['{', '}'], items, indent);
            }
        }
    }

    fn group<'a>(
        &mut self,
        [open, close]: [char; 2],
        items: impl ExactSizeIterator<Item = (Option<&'a str>, &'a Ipld)>,
        indent: usize,
    ) {
        self.html.push(open);
        let last = items.len().saturating_sub(1);
        let is_empty = items.len() == 0;
        for (at, (key, value)) in items.enumerate() {
            if self.html.len() >= MAX_LEN {
                return;
            }
            self.line(indent + 1);
            if let Some(key) = key {
                self.text(key);
                self.push(": ");
            }
            self.value(value, indent + 1);
            if at < last {
                self.push(",");
            }
        }
        if !is_empty {
            self.line(indent);
        }
        self.html.push(close);
    }

    fn line(&mut self, indent: usize) {
        write!(self.html, "\n{:1$}", "", indent * 2).expect("a String takes everything");
    }

    fn push(&mut self, html: &str) {
        self.html.push_str(html);
    }

    /// Appends a JSON string, as much of it as there is room for.
    fn text(&mut self, text: &str) {
        let room = MAX_LEN.saturating_sub(self.html.len());
        let end = text.floor_char_boundary(room.min(text.len()));
        let json = serde_json::Value::from(text.get(..end).unwrap_or_default()).to_string();
        Html.write_escaped_str(&mut self.html, &json)
            .expect("a String takes everything");
    }
}

#[derive(Template)]
#[template(path = "document.html")]
struct DocumentPage<'a> {
    /// The codec, which is also the value of `?format=`.
    kind: &'static str,
    cid: &'a Cid,
    namespace: &'a str,
    crumbs: Vec<Crumb<'a>>,
    size: String,
    /// HTML.
    document: String,
    /// There is more of it.
    cut: bool,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn shown(value: &Ipld) -> String {
        let gateway = Some("//host".to_owned());
        let mut document = Document::new(CidLinks { gateway });
        document.value(value, 0);
        document.html
    }

    #[test]
    fn document_is_dag_json_with_links_that_cannot_break_out() {
        let cid: Cid = "bafkqaaa".parse().unwrap();
        let map = BTreeMap::from([
            ("<b>".to_owned(), Ipld::Link(cid)),
            (
                "c".to_owned(),
                Ipld::List(vec![Ipld::Bytes(vec![0, 1]), Ipld::Float(1.0)]),
            ),
            ("d".to_owned(), Ipld::List(vec![])),
            ("e".to_owned(), Ipld::String("\"</pre><script>".to_owned())),
        ]);
        let html = shown(&Ipld::Map(map));
        assert!(
            html.contains("<a href=\"//host/ipfs/bafkqaaa\">bafkqaaa</a>"),
            "{html}"
        );
        assert!(html.contains("AAE"), "{html}");
        assert!(html.contains("[]"), "{html}");
        assert_eq!(html.matches('<').count(), 2, "{html}");
    }

    #[test]
    fn giant_documents_are_cut() {
        let deep = (0..120).fold(Ipld::Null, |inner, _| Ipld::List(vec![inner]));
        let deep = Ipld::List(vec![deep; 1000]);
        let wide = Ipld::List(vec![Ipld::String("x".repeat(1000)); 10_000]);
        let long = Ipld::String("<".repeat(3 << 20));
        for value in [deep, wide, long] {
            assert!(shown(&value).len() < 8 * MAX_LEN);
        }
    }
}
