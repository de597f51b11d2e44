//! The connection to the CA.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use reqwest::{Certificate, Client};

use crate::server::tls::{TlsError, read};

/// For one request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Asks the CA. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct HttpsClient(Client);

impl HttpsClient {
    /// Believes whom the file `root` names, or without one whom the system believes.
    pub(super) async fn new(root: &Path) -> Result<Self, TlsError> {
        let mut builder = Client::builder().https_only(true).timeout(TIMEOUT);
        if !root.as_os_str().is_empty() {
            let pem = read(root).await?;
            let roots = Certificate::from_pem_bundle(&pem).map_err(TlsError::AcmeClient)?;
            builder = builder.tls_certs_only(roots);
        }
        Ok(Self(builder.build().map_err(TlsError::AcmeClient)?))
    }
}

type Response = Result<BytesResponse, Error>;

impl HttpClient for HttpsClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Response> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let failed = |error: reqwest::Error| Error::Other(Box::new(error));
            let request = reqwest::Request::try_from(Request::from_parts(parts, body));
            let response = client.execute(request.map_err(failed)?).await;
            let response = http::Response::<reqwest::Body>::from(response.map_err(failed)?);
            Ok(BytesResponse::from(response))
        })
    }
}
