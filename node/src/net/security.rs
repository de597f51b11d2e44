//! Encryption of connections: TLS 1.3 or noise, whichever the two peers agree on.

use std::pin::Pin;

use futures::future::Either;
use futures::{AsyncRead, AsyncWrite};
use futures_rustls::TlsStream;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use libp2p::identity::Keypair;
use libp2p::{PeerId, noise};

use super::tls;

/// Names of the protocols, as multistream-select has them.
const TLS: &str = "/tls/1.0.0";
const NOISE: &str = "/noise";

/// Offers TLS first: with the AES instructions of servers and desktops it is the faster of the two.
#[derive(Clone)]
pub(super) struct Security {
    tls: tls::Config,
    noise: noise::Config,
}

/// Why a connection could not be encrypted.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecurityError {
    #[error("the TLS handshake failed")]
    Tls(#[from] std::io::Error),
    #[error("the noise handshake failed")]
    Noise(#[from] noise::Error),
}

/// An encrypted stream and who is at its other end.
pub(super) type Secured<C> = (PeerId, Either<TlsStream<C>, noise::Output<C>>);

type Handshake<C> = Pin<Box<dyn Future<Output = Result<Secured<C>, SecurityError>> + Send>>;

impl Security {
    /// Proves that this node is the owner of `key`.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub(super) fn new(key: &Keypair) -> std::io::Result<Self> {
        Ok(Self {
            tls: tls::Config::new(key)?,
            noise: noise::Config::new(key).map_err(std::io::Error::other)?,
        })
    }
}

impl UpgradeInfo for Security {
    type Info = &'static str;
    type InfoIter = [&'static str; 2];

    fn protocol_info(&self) -> Self::InfoIter {
        [TLS, NOISE]
    }
}

impl<C> InboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = Secured<C>;
    type Error = SecurityError;
    type Future = Handshake<C>;

    fn upgrade_inbound(self, socket: C, name: Self::Info) -> Handshake<C> {
        Box::pin(async move {
            if name == TLS {
                let (peer, stream) = self.tls.accept(socket).await?;
                Ok((peer, Either::Left(stream)))
            } else {
                let (peer, stream) = self.noise.upgrade_inbound(socket, name).await?;
                Ok((peer, Either::Right(stream)))
            }
        })
    }
}

impl<C> OutboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = Secured<C>;
    type Error = SecurityError;
    type Future = Handshake<C>;

    fn upgrade_outbound(self, socket: C, name: Self::Info) -> Handshake<C> {
        Box::pin(async move {
            if name == TLS {
                let (peer, stream) = self.tls.connect(socket).await?;
                Ok((peer, Either::Left(stream)))
            } else {
                let (peer, stream) = self.noise.upgrade_outbound(socket, name).await?;
                Ok((peer, Either::Right(stream)))
            }
        })
    }
}
