//! One request to a gateway over HTTP: bounded in length and time, and to nowhere else than the
//! gateway.

use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use url::Url;

use super::health::MAX_PARALLEL;
use super::refusal::Refusal;
use crate::source::guard::Guard;

const MAX_REDIRECTS: usize = 4;
/// A whole answer may take this many times the time allowed without progress.
const WHOLE_ANSWER: u32 = 8;
/// Who says "later" is believed for so long.
const LONGEST_LATER: Duration = Duration::from_secs(60 * 60);
/// Time to connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// A client for gateways. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client,
    timeout: Duration,
}

impl Http {
    /// Each request is bounded by `timeout` without progress.
    pub(super) fn new(timeout: Duration, guard: &Guard) -> Self {
        let client = || {
            Client::builder()
                .user_agent(concat!("duka/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT.min(timeout / 3))
                .pool_max_idle_per_host(MAX_PARALLEL)
                .http2_adaptive_window(true)
                .redirect(Policy::custom(follow))
                .dns_resolver(guard.clone())
                .no_proxy()
        };
        let client = client()
            .build()
            .or_else(|error| {
                // A machine without CA certificates can still use gateways over plain HTTP.
                tracing::warn!(%error, "no certificates to check gateways with: HTTPS will fail");
                client().tls_certs_only([]).build()
            })
            .expect("a client without certificates needs nothing from the machine");
        Self { client, timeout }
    }

    /// The body of an answer of `most` bytes at most; `arrived` is called when some of it arrived, with the part
    /// that is there, 0 if the answer does not say how long it is.
    pub(super) async fn get(
        &self,
        url: Url,
        accept: &str,
        most: usize,
        arrived: impl Fn(f64),
    ) -> Result<Bytes, Refusal> {
        let request = self.client.get(url).header(ACCEPT, accept);
        self.within(self.try_get(request, most, arrived)).await
    }

    /// The same, of what the gateway has itself: it is asked not to fetch it.
    pub(super) async fn get_cached(
        &self,
        url: Url,
        accept: &str,
        most: usize,
    ) -> Result<Bytes, Refusal> {
        let request = self.client.get(url).header(ACCEPT, accept);
        let request = request.header(CACHE_CONTROL, "only-if-cached");
        self.within(self.try_get(request, most, |_| {})).await
    }

    async fn within(
        &self,
        download: impl Future<Output = Result<Bytes, Refusal>>,
    ) -> Result<Bytes, Refusal> {
        let whole = self.timeout.saturating_mul(WHOLE_ANSWER);
        match tokio::time::timeout(whole, download).await {
            Ok(done) => done,
            Err(_) => Err(Refusal::TimedOut),
        }
    }

    async fn try_get(
        &self,
        request: RequestBuilder,
        most: usize,
        arrived: impl Fn(f64),
    ) -> Result<Bytes, Refusal> {
        let mut response = self.progress(request.send()).await?;
        match response.status() {
            StatusCode::OK => {}
            // The last one: it is not there without fetching.
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::PRECONDITION_FAILED => {
                return Err(Refusal::NotFound);
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                return Err(Refusal::Later(retry_after(response.headers())));
            }
            _ => return Err(Refusal::Failed),
        }
        // A page instead of a block comes from somebody in between.
        if is_text(&response) {
            return Err(Refusal::Failed);
        }

        let mut body = BytesMut::new();
        let len = response.content_length();
        let len = len.map(|len| usize::try_from(len).unwrap_or(usize::MAX));
        if len.is_some_and(|len| len > most) {
            return Err(Refusal::Failed);
        }
        body.reserve(len.unwrap_or(0));
        while let Some(chunk) = self.progress(response.chunk()).await? {
            if body.len() + chunk.len() > most {
                return Err(Refusal::Failed);
            }
            body.extend_from_slice(&chunk);
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            arrived(len.map_or(0.0, |len| body.len() as f64 / len as f64));
        }
        Ok(body.freeze())
    }

    /// One step of a transfer, bounded by the time allowed without progress.
    async fn progress<T>(
        &self,
        step: impl Future<Output = reqwest::Result<T>>,
    ) -> Result<T, Refusal> {
        match tokio::time::timeout(self.timeout, step).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a gateway failed");
                Err(if error.is_connect() {
                    Refusal::Unreachable
                } else if error.is_timeout() {
                    Refusal::TimedOut
                } else {
                    Refusal::Failed
                })
            }
            Err(_) => Err(Refusal::TimedOut),
        }
    }
}

/// A gateway may move a request to its own subdomains, and nowhere else: not to another scheme, and
/// not to hosts that only this machine can reach.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let first = attempt.previous().first();
    let own = first.is_some_and(|first| {
        let (Some(from), Some(to)) = (first.host_str(), attempt.url().host_str()) else {
            return false;
        };
        let subdomain = to.strip_suffix(from).is_some_and(|sub| sub.ends_with('.'));
        first.scheme() == attempt.url().scheme()
            && first.port_or_known_default() == attempt.url().port_or_known_default()
            && (to == from || subdomain)
    });
    if own && attempt.previous().len() <= MAX_REDIRECTS {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(RETRY_AFTER);
    let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1)).min(LONGEST_LATER)
}

fn is_text(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_later_is_believed_for_an_hour_at_most() {
        for (said, seconds) in [("7", 7), ("18446744073709551615", 3600), ("soon", 1)] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, said.parse().unwrap())]);
            assert_eq!(retry_after(&headers), Duration::from_secs(seconds));
        }
    }
}
