//! TLS with the operator's certificate, which is read again when its files change, or with one that is got by
//! ACME.

use std::collections::HashMap;
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

use super::acme::{self, Renewal};

/// HTTP/2, as TLS negotiates it.
pub(super) const HTTP_2: &[u8] = b"h2";
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
    /// There are two ways to a certificate.
    #[error("gateway.tls.cert and gateway.tls.acme.domains are both set")]
    Both,
    /// No CA can check the name by a connection.
    #[error("gateway.tls.acme.domains has {name:?}, which is no host name")]
    AcmeName {
        /// What is set.
        name: String,
    },
    /// The CA cannot be asked.
    #[error("the CA cannot be asked for a certificate")]
    AcmeClient(#[source] reqwest::Error),
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
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("shown", &self.shown).finish()
    }
}

/// What is shown: to clients a certificate, and to a CA that checks a name what proves it.
#[derive(Debug, Default)]
pub(super) struct Shown {
    certificate: RwLock<Option<Arc<CertifiedKey>>>,
    proofs: RwLock<HashMap<String, Arc<CertifiedKey>>>,
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

impl Shown {
    /// The certificate for clients, if there is one yet.
    pub(super) fn certificate(&self) -> Option<Arc<CertifiedKey>> {
        self.certificate.read().clone()
    }

    pub(super) fn show(&self, certificate: Arc<CertifiedKey>) {
        *self.certificate.write() = Some(certificate);
    }

    /// Shows this to a CA that checks the name.
    pub(super) fn prove(&self, name: &str, proof: CertifiedKey) {
        let name = name.to_ascii_lowercase();
        self.proofs.write().insert(name, Arc::new(proof));
    }

    /// No name is being checked.
    pub(super) fn prove_nothing(&self) {
        self.proofs.write().clear();
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut protocols = hello.alpn().into_iter().flatten();
        if !protocols.any(|protocol| protocol == acme::ALPN) {
            return self.certificate();
        }
        let name = hello.server_name()?.to_ascii_lowercase();
        self.proofs.read().get(&name).cloned()
    }
}

impl Tls {
    /// Reads the certificate and its key, or what ACME left of them in `data_dir`; `None` where neither is
    /// set. [`Upkeep::run`] keeps them new.
    pub(super) async fn load(
        config: &TlsConfig,
        data_dir: &Path,
    ) -> Result<Option<(Self, Upkeep)>, TlsError> {
        let is_set = |path: &Path| !path.as_os_str().is_empty();
        let by_acme = !config.acme.domains.is_empty();
        let shown = Arc::new(Shown::default());
        let upkeep = match (is_set(&config.cert), is_set(&config.key)) {
            (false, false) if by_acme => {
                let renewal = Renewal::begin(&config.acme, data_dir, Arc::clone(&shown)).await?;
                Upkeep::Acme(Box::new(renewal))
            }
            (false, false) => return Ok(None),
            (true, true) if by_acme => return Err(TlsError::Both),
            (true, true) => {
                let files = Files {
                    cert: config.cert.clone(),
                    key: config.key.clone(),
                };
                Upkeep::Files(Reload::begin(files, Arc::clone(&shown)).await?)
            }
            _ => return Err(TlsError::Half),
        };
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![HTTP_2.to_vec(), b"http/1.1".to_vec()];
        if by_acme {
            config.alpn_protocols.push(acme::ALPN.to_vec());
        }
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Some((Self { acceptor, shown }, upkeep)))
    }

    /// The handshake.
    ///
    /// # Errors
    /// When it fails, or was all that a CA wanted.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let stream = self.acceptor.accept(stream).await?;
        match stream.get_ref().1.alpn_protocol() {
            Some(acme::ALPN) => Err(io::Error::other("a CA checked a name")),
            _ => Ok(stream),
        }
    }
}

/// Keeps the certificate new.
#[derive(Debug)]
pub(crate) enum Upkeep {
    Files(Reload),
    Acme(Box<Renewal>),
}

impl Upkeep {
    /// Does so for ever.
    pub(super) async fn run(self) {
        match self {
            Self::Files(reload) => reload.run().await,
            Self::Acme(renewal) => renewal.run().await,
        }
    }
}

/// Reads the files again when they change.
pub(crate) struct Reload {
    files: Files,
    shown: Arc<Shown>,
    contents: Contents,
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reload").finish_non_exhaustive()
    }
}

impl Reload {
    async fn begin(files: Files, shown: Arc<Shown>) -> Result<Self, TlsError> {
        let contents = files.read().await?;
        shown.show(Arc::new(files.certified(&contents)?));
        Ok(Self {
            files,
            shown,
            contents,
        })
    }

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
        let contents = self.files.read().await?;
        if contents == self.contents {
            return Ok(false);
        }
        self.shown.show(Arc::new(self.files.certified(&contents)?));
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

pub(super) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(super) async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
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
            ..TlsConfig::default()
        }
    }

    async fn load(config: &TlsConfig) -> Result<Option<(Tls, Upkeep)>, TlsError> {
        Tls::load(config, Path::new("nowhere")).await
    }

    #[tokio::test]
    async fn renewed_certificate_is_shown_and_half_a_renewal_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        renew(&files);
        let (tls, upkeep) = load(&files).await.unwrap().unwrap();
        let Upkeep::Files(mut reload) = upkeep else {
            panic!("{upkeep:?}");
        };
        let shown = || tls.shown.certificate().unwrap().cert.clone();
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
        let error = load(&files).await.unwrap_err();
        assert!(error.to_string().contains("cert.pem"), "{error}");
        renew(&files);
        std::fs::write(&files.key, "no key").unwrap();
        let error = load(&files).await.unwrap_err();
        assert!(error.to_string().contains("key.pem has no private key"));
        let half = TlsConfig {
            key: PathBuf::new(),
            ..files.clone()
        };
        assert!(matches!(load(&half).await, Err(TlsError::Half)));
        assert!(load(&TlsConfig::default()).await.unwrap().is_none());
        let mut both = files;
        both.acme.domains.push("a.example".to_owned());
        assert!(matches!(load(&both).await, Err(TlsError::Both)));
    }
}
