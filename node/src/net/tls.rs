//! libp2p's TLS 1.3 handshake, with the cipher that is fastest here offered first.
//!
//! `libp2p-tls` makes and checks the certificates; its own upgrade offers ChaCha20 first whatever
//! the processor can do, and writes session keys to the file named in `SSLKEYLOGFILE`.
//! <https://github.com/libp2p/specs/blob/master/tls/tls.md>

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use futures::{AsyncRead, AsyncWrite};
use futures_rustls::rustls::client::Resumption;
use futures_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use futures_rustls::rustls::crypto::CryptoProvider;
use futures_rustls::rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use futures_rustls::rustls::crypto::aws_lc_rs::default_provider;
use futures_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use futures_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use futures_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use futures_rustls::rustls::version::TLS13;
use futures_rustls::rustls::{
    self, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, ServerConfig,
    SignatureScheme,
};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::PeerId;
use libp2p::identity::Keypair;
use libp2p::tls::certificate;

/// The handshake's name for itself, inside TLS.
const ALPN: &[u8] = b"libp2p";

/// Does the handshake for one identity. Cheap to clone.
#[derive(Clone)]
pub(super) struct Config {
    server: TlsAcceptor,
    client: TlsConnector,
}

impl Config {
    /// Makes a certificate that proves who owns `key`.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub(super) fn new(key: &Keypair) -> io::Result<Self> {
        let (certificate, secret) = certificate::generate(key).map_err(io::Error::other)?;
        let provider = Arc::new(provider());
        let signer = provider.key_provider.load_private_key(secret);
        let signer = signer.map_err(io::Error::other)?;
        let identity = CertifiedKey::new(vec![certificate], signer);
        let identity = Arc::new(SingleCertAndKey::from(identity));
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(io::Error::other)?
            .with_client_cert_verifier(Arc::new(Verifier))
            .with_cert_resolver(Arc::clone(&identity) as _);
        server.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would show no certificate: each handshake proves anew who is there.
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier))
            .with_client_cert_resolver(identity);
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Self {
            server: Arc::new(server).into(),
            client: Arc::new(client).into(),
        })
    }

    /// The server's side.
    pub(super) async fn accept<C>(self, socket: C) -> io::Result<(PeerId, TlsStream<C>)>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.server.accept(socket).await?;
        Ok((peer_of(stream.get_ref().1)?, stream.into()))
    }

    /// The client's side. The swarm compares the peer with the one that was dialled.
    pub(super) async fn connect<C>(self, socket: C) -> io::Result<(PeerId, TlsStream<C>)>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        // An address is not sent as a server name, which the specification forbids.
        let nobody = ServerName::from(std::net::IpAddr::from(Ipv4Addr::UNSPECIFIED));
        let stream = self.client.connect(nobody, socket).await?;
        Ok((peer_of(stream.get_ref().1)?, stream.into()))
    }
}

/// AES first where the processor has instructions for it, as Go does, else ChaCha20.
fn provider() -> CryptoProvider {
    let mut cipher_suites = vec![
        TLS13_AES_128_GCM_SHA256,
        TLS13_AES_256_GCM_SHA384,
        TLS13_CHACHA20_POLY1305_SHA256,
    ];
    if !has_aes_instructions() {
        cipher_suites.reverse();
    }
    CryptoProvider {
        cipher_suites,
        ..default_provider()
    }
}

fn has_aes_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// Who proved to be at the other end.
fn peer_of(connection: &CommonState) -> io::Result<PeerId> {
    let certificates = connection.peer_certificates().unwrap_or_default();
    let [certificate] = certificates else {
        return Err(io::Error::other("the peer has not exactly one certificate"));
    };
    let certificate = certificate::parse(certificate).map_err(io::Error::other)?;
    Ok(certificate.peer_id())
}

/// Takes exactly one certificate, which the owner of a libp2p key signed.
#[derive(Debug)]
struct Verifier;

impl Verifier {
    fn verify(
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        if !others.is_empty() {
            return Err(rustls::Error::General(
                "more than one certificate".to_owned(),
            ));
        }
        certificate::parse(certificate)?;
        Ok(())
    }

    fn verify_signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let certificate = certificate::parse(certificate)?;
        certificate.verify_signature(signed.scheme, message, signed.signature())?;
        Ok(HandshakeSignatureValid::assertion())
    }

    /// What `libp2p-tls` can verify.
    fn schemes() -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
        ]
    }
}

/// What a verifier says to a version that is never negotiated.
fn only_tls13<T>() -> Result<T, rustls::Error> {
    Err(rustls::Error::General("only TLS 1.3 is spoken".to_owned()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Self::verify(certificate, others)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        only_tls13()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Self::verify(certificate, others)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        only_tls13()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

#[cfg(test)]
mod tests {
    use futures::io::{AsyncReadExt, AsyncWriteExt};
    use futures_rustls::rustls::{CipherSuite, HandshakeKind};
    use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
    use libp2p::tls;
    use tokio_util::compat::TokioAsyncReadCompatExt;

    use super::*;

    fn sockets() -> (
        impl AsyncRead + AsyncWrite + Unpin + Send,
        impl AsyncRead + AsyncWrite + Unpin + Send,
    ) {
        let (a, b) = tokio::io::duplex(64 << 10);
        (a.compat(), b.compat())
    }

    #[tokio::test]
    async fn both_sides_learn_who_the_other_one_is_and_use_aes_where_it_is_fast() {
        let (client, server) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let (near, far) = sockets();
        let connecting = Config::new(&client).unwrap().connect(near);
        let accepting = Config::new(&server).unwrap().accept(far);
        let (connected, accepted) = tokio::try_join!(connecting, accepting).unwrap();
        assert_eq!(connected.0, server.public().to_peer_id());
        assert_eq!(accepted.0, client.public().to_peer_id());
        let suite = connected.1.get_ref().1.negotiated_cipher_suite().unwrap();
        let expected = match has_aes_instructions() {
            true => CipherSuite::TLS13_AES_128_GCM_SHA256,
            false => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        };
        assert_eq!(suite.suite(), expected);
    }

    #[tokio::test]
    async fn libp2p_tls_understands_both_sides() {
        let (ours, theirs) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let (near, far) = sockets();
        let connecting = Config::new(&ours).unwrap().connect(near);
        let accepting = tls::Config::new(&theirs).unwrap().upgrade_inbound(far, "");
        let (connected, accepted) = tokio::join!(connecting, accepting);
        assert_eq!(connected.unwrap().0, theirs.public().to_peer_id());
        assert_eq!(accepted.unwrap().0, ours.public().to_peer_id());

        let (near, far) = sockets();
        let connecting = tls::Config::new(&theirs)
            .unwrap()
            .upgrade_outbound(near, "");
        let accepting = Config::new(&ours).unwrap().accept(far);
        let (connected, accepted) = tokio::join!(connecting, accepting);
        assert_eq!(connected.unwrap().0, ours.public().to_peer_id());
        assert_eq!(accepted.unwrap().0, theirs.public().to_peer_id());
    }

    /// Connects twice, and reads what the server sends after each handshake, tickets included.
    async fn connect_twice(
        client: TlsConnector,
        server: TlsAcceptor,
    ) -> [Option<HandshakeKind>; 2] {
        let mut kinds = [None; 2];
        for kind in &mut kinds {
            let (near, far) = sockets();
            let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::UNSPECIFIED));
            let connecting = async {
                let mut stream = client.connect(name, near).await.unwrap();
                stream.read_exact(&mut [0]).await.unwrap();
                stream.get_ref().1.handshake_kind()
            };
            let accepting = async {
                let mut stream = server.accept(far).await.unwrap();
                stream.write_all(&[0]).await.unwrap();
                stream.flush().await.unwrap();
                stream
            };
            let (met, _stream) = tokio::join!(connecting, accepting);
            *kind = met;
        }
        kinds
    }

    #[tokio::test]
    async fn a_second_handshake_resumes_nothing_whatever_the_other_side_would_do() {
        let key = Keypair::generate_ed25519();
        let ours = Config::new(&key).unwrap();
        let mut client = tls::make_client_config(&key, None).unwrap();
        client.alpn_protocols = vec![ALPN.to_vec()];
        let client = TlsConnector::from(Arc::new(client));
        let mut server = tls::make_server_config(&key).unwrap();
        server.alpn_protocols = vec![ALPN.to_vec()];
        let server = TlsAcceptor::from(Arc::new(server));
        let (full, resumed) = (Some(HandshakeKind::Full), Some(HandshakeKind::Resumed));
        let theirs = connect_twice(client.clone(), server.clone()).await;
        assert_eq!(theirs, [full, resumed], "this test could not fail");
        assert_eq!(connect_twice(client, ours.server).await, [full; 2]);
        assert_eq!(connect_twice(ours.client, server).await, [full; 2]);
    }

    #[tokio::test]
    async fn a_certificate_that_no_libp2p_key_signed_is_refused() {
        let (key, stranger) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        // A certificate of one key beside the secret of another.
        let (certificate, _) = certificate::generate(&stranger).unwrap();
        let (_, secret) = certificate::generate(&stranger).unwrap();
        let provider = Arc::new(provider());
        let signer = provider.key_provider.load_private_key(secret).unwrap();
        let identity = CertifiedKey::new(vec![certificate], signer);
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        client.alpn_protocols = vec![ALPN.to_vec()];
        let (near, far) = sockets();
        let connecting = async {
            let config = Config {
                client: Arc::new(client).into(),
                ..Config::new(&stranger).unwrap()
            };
            // The client is done before the server has looked at its certificate.
            let (_, mut stream) = config.connect(near).await.unwrap();
            stream.read(&mut [0]).await
        };
        let (read, accepted) = tokio::join!(connecting, Config::new(&key).unwrap().accept(far));
        assert!(accepted.is_err());
        assert!(read.is_err());
    }
}
