//! TLS with the operator's certificate, which is read again when its files change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use duka_config::TlsConfig;
use parking_lot::RwLock;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often the files are looked at.
const RELOAD: Duration = Duration::from_secs(5);
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// One of the two settings is missing.
    #[error("only one of the settings gateway.tls.cert and gateway.tls.key is set")]
    Half,
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} has no {what} in the PEM format", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// The cause.
        #[source]
        source: pem::Error,
    },
    /// The key is of no use, or of another certificate.
    #[error("the key in {} does not fit the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// The cause.
        #[source]
        source: rustls::Error,
    },
    /// The TLS library refused its settings.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// Accepts TLS connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("shown", &self.shown).finish()
    }
}

/// The certificate that clients are shown.
#[derive(Debug)]
struct Shown {
    files: Files,
    now: RwLock<Arc<CertifiedKey>>,
}

/// Where certificate and key are.
#[derive(Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

/// What the files held.
#[derive(PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.now.read()))
    }
}

impl Tls {
    /// Reads certificate and key; `None` where neither is set. [`keep_up`] reads them again.
    pub(super) async fn load(config: &TlsConfig) -> Result<Option<(Self, Reload)>, TlsError> {
        let is_set = |path: &Path| !path.as_os_str().is_empty();
        let files = match (is_set(&config.cert), is_set(&config.key)) {
            (false, false) => return Ok(None),
            (true, true) => Files {
                cert: config.cert.clone(),
                key: config.key.clone(),
            },
            _ => return Err(TlsError::Half),
        };
        let contents = files.read().await?;
        let shown = Arc::new(Shown {
            now: RwLock::new(Arc::new(files.certified(&contents)?)),
            files,
        });
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let reload = Reload {
            shown: Arc::clone(&shown),
            contents,
        };
        Ok(Some((Self { acceptor, shown }, reload)))
    }

    /// The handshake.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }
}

/// Reads the files again when they change.
pub(super) struct Reload {
    shown: Arc<Shown>,
    contents: Contents,
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reload").finish_non_exhaustive()
    }
}

impl Reload {
    /// Looks at the files, for ever.
    pub(super) async fn run(mut self) {
        loop {
            tokio::time::sleep(RELOAD).await;
            match self.turn().await {
                Ok(false) => {}
                Ok(true) => tracing::info!("the certificate was read again"),
                // Between the writing of the one and of the other file they do not fit.
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the certificate is the one from before"
                ),
            }
        }
    }

    /// Shows the certificate of the files from now on, if it is another one.
    async fn turn(&mut self) -> Result<bool, TlsError> {
        let files = &self.shown.files;
        let contents = files.read().await?;
        if contents == self.contents {
            return Ok(false);
        }
        let certified = files.certified(&contents)?;
        *self.shown.now.write() = Arc::new(certified);
        self.contents = contents;
        Ok(true)
    }
}

impl Files {
    async fn read(&self) -> Result<Contents, TlsError> {
        Ok(Contents {
            cert: read(&self.cert).await?,
            key: read(&self.key).await?,
        })
    }

    fn certified(&self, contents: &Contents) -> Result<CertifiedKey, TlsError> {
        let not_pem = |path: &Path, what| {
            let path = path.to_owned();
            move |source| TlsError::Pem { path, what, source }
        };
        let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents.cert).collect();
        let certs = match certs {
            Ok(certs) if certs.is_empty() => Err(pem::Error::NoItemsFound),
            certs => certs,
        };
        let certs = certs.map_err(not_pem(&self.cert, "certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key);
        let key = key.map_err(not_pem(&self.key, "private key"))?;
        CertifiedKey::from_der(certs, key, &provider()).map_err(|source| TlsError::Mismatch {
            cert: self.cert.clone(),
            key: self.key.clone(),
            source,
        })
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(ring::default_provider())
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE)
        .read_to_end(&mut bytes)
        .await
        .map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a new certificate and its key.
    fn renew(files: &TlsConfig) {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&files.cert, pair.cert.pem()).unwrap();
        std::fs::write(&files.key, pair.key_pair.serialize_pem()).unwrap();
    }

    fn files(dir: &Path) -> TlsConfig {
        TlsConfig {
            cert: dir.join("cert.pem"),
            key: dir.join("key.pem"),
        }
    }

    #[tokio::test]
    async fn renewed_certificate_is_shown_and_half_a_renewal_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        renew(&files);
        let (tls, mut reload) = Tls::load(&files).await.unwrap().unwrap();
        let shown = || tls.shown.now.read().cert.clone();
        let first = shown();
        assert!(!reload.turn().await.unwrap());

        let old_key = std::fs::read(&files.key).unwrap();
        renew(&files);
        let new_key = std::fs::read(&files.key).unwrap();
        std::fs::write(&files.key, old_key).unwrap();
        let error = reload.turn().await.unwrap_err();
        assert!(matches!(error, TlsError::Mismatch { .. }), "{error}");
        assert_eq!(shown(), first);

        std::fs::write(&files.key, new_key).unwrap();
        assert!(reload.turn().await.unwrap());
        assert_ne!(shown(), first);
    }

    #[tokio::test]
    async fn files_that_are_of_no_use_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let error = Tls::load(&files).await.unwrap_err();
        assert!(error.to_string().contains("cert.pem"), "{error}");
        renew(&files);
        std::fs::write(&files.key, "no key").unwrap();
        let error = Tls::load(&files).await.unwrap_err();
        assert!(error.to_string().contains("key.pem has no private key"));
        let half = TlsConfig {
            key: PathBuf::new(),
            ..files
        };
        assert!(matches!(Tls::load(&half).await, Err(TlsError::Half)));
        assert!(Tls::load(&TlsConfig::default()).await.unwrap().is_none());
    }
}
