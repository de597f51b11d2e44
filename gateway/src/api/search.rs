//! `/api/v1/search?q=WORDS[&limit=N]`.

use duka_node::search::{SearchError, words};
use http::{StatusCode, header};
use serde::Serialize;

use super::{Answer, CACHE, Problem, json, with_body};
use crate::ipfs::Backend;

/// Products shown without a limit.
const USUAL: usize = 20;
/// Most products shown.
const MOST: usize = 100;
/// Longest query, in bytes.
const MAX_QUERY_LEN: usize = 256;
/// Words of a query: each is looked for among all words of the shop.
const MAX_WORDS: usize = 8;

/// What was found.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub struct SearchPage {
    /// Best first.
    pub results: Vec<Hit>,
    /// Products that match, shown or not.
    pub total: usize,
}

/// A product.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Hit {
    /// Its id.
    pub product: String,
    /// Title.
    pub title: String,
    /// Price, such as `9.50 USD`; `null` when it is free.
    pub price: Option<String>,
    /// Its folder in the shop: `/ipns/<shop>/products/<product>/`.
    pub path: String,
}

pub(super) async fn search<B: Backend>(backend: &B, query: &str) -> Answer {
    let (terms, limit) = parse(query)?;
    let page = backend.search(terms, limit).await.map_err(|error| {
        let detail = match error {
            SearchError::Busy => "too many search at the moment; try again in a moment",
            error => {
                tracing::error!(error = &error as &dyn std::error::Error, "a search failed");
                "the products cannot be searched now; try again later"
            }
        };
        Problem {
            status: StatusCode::SERVICE_UNAVAILABLE,
            detail: detail.to_owned(),
        }
    })?;
    let mut response = with_body("application/json", json(&page));
    response.headers_mut().insert(header::CACHE_CONTROL, CACHE);
    Ok(response)
}

fn parse(query: &str) -> Result<(String, usize), Problem> {
    let wrong = |detail: String| Problem {
        status: StatusCode::BAD_REQUEST,
        detail,
    };
    let (mut terms, mut limit) = (None, USUAL);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "q" => terms = Some(value.into_owned()),
            "limit" => {
                let number = value
                    .parse()
                    .ok()
                    .filter(|number| (1..=MOST).contains(number));
                limit = number.ok_or_else(|| {
                    wrong(format!("limit={value:?} is no number from 1 to {MOST}"))
                })?;
            }
            _ => {}
        }
    }
    match terms.filter(|terms| !terms.trim().is_empty()) {
        Some(terms) if terms.len() > MAX_QUERY_LEN => {
            Err(wrong(format!("q is longer than {MAX_QUERY_LEN} bytes")))
        }
        Some(terms) if words(&terms).len() > MAX_WORDS => {
            Err(wrong(format!("q has more than {MAX_WORDS} words")))
        }
        Some(terms) => Ok((terms, limit)),
        None => Err(wrong("q is missing: /api/v1/search?q=WORDS".to_owned())),
    }
}
