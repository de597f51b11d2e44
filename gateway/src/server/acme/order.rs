//! One order: from names to a key and its certificates.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewOrder, Order, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::GeneralName;

use super::AcmeError;
use crate::server::tls::{Shown, provider};

/// How long it is waited for the CA to check, and then to sign.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(120));

/// A key with its certificates.
pub(super) struct Obtained {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    names: Vec<String>,
}

impl Obtained {
    /// Whether it is for these names.
    pub(super) fn is_for(&self, domains: &[String]) -> bool {
        let has = |domain: &String| {
            self.names
                .iter()
                .any(|name| name.eq_ignore_ascii_case(domain))
        };
        domains.iter().all(has)
    }
}

/// A new key and its certificates, in the PEM format. Until this has ended `shown` proves to the CA that the
/// names are this gateway's.
pub(super) async fn order(
    account: &Account,
    domains: &[String],
    shown: &Shown,
) -> Result<String, AcmeError> {
    let names: Vec<_> = domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    prove(&mut order, shown).await?;
    match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready) => {}
        ended => {
            return Err(match why_refused(&mut order).await {
                Some(why) => AcmeError::Refused(why),
                None => AcmeError::Refused(format!("the order is {:?}", ended?)),
            });
        }
    }
    let key = KeyPair::generate()?;
    let request = CertificateParams::new(domains.to_vec())?.serialize_request(&key)?;
    order.finalize_csr(request.der()).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    Ok(key.serialize_pem() + &chain)
}

/// Shows for each name what the CA asks for, and says so.
async fn prove(order: &mut Order, shown: &Shown) -> Result<(), AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
        let mut challenge = challenge.ok_or_else(|| AcmeError::NoChallenge(name.clone()))?;
        let proof = proof(&name, challenge.key_authorization().digest().as_ref())?;
        shown.prove(&name, proof);
        challenge.set_ready().await?;
    }
    Ok(())
}

/// The certificate that a CA looks for when it checks a name.
fn proof(name: &str, digest: &[u8]) -> Result<CertifiedKey, AcmeError> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = provider().key_provider.load_private_key(key);
    let key = key.map_err(|error| AcmeError::Useless(error.to_string()))?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// What the CA found when it checked the names.
async fn why_refused(order: &mut Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let problem = state.challenges.iter().find_map(|it| it.error.as_ref());
        if let Some(problem) = problem {
            return Some(format!("{}: {problem}", state.identifier()));
        }
    }
    None
}

/// A key and certificates in the PEM format.
pub(super) fn read(pem: &[u8]) -> Result<Obtained, AcmeError> {
    let useless = |error: &dyn std::fmt::Display| AcmeError::Useless(error.to_string());
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| useless(&error))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| useless(&error))?;
    let Some(first) = chain.first() else {
        return Err(useless(&"there is no certificate"));
    };
    let (_, parsed) =
        x509_parser::parse_x509_certificate(first).map_err(|error| useless(&error))?;
    let time = |seconds: i64| {
        let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        SystemTime::UNIX_EPOCH + seconds
    };
    let validity = parsed.validity();
    let (not_before, not_after) = (
        time(validity.not_before.timestamp()),
        time(validity.not_after.timestamp()),
    );
    let names = parsed.subject_alternative_name();
    let names = names.map_err(|error| useless(&error))?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let names = names.collect();
    let certified = CertifiedKey::from_der(chain, key, &provider());
    Ok(Obtained {
        certified: Arc::new(certified.map_err(|error| useless(&error))?),
        not_before,
        not_after,
        names,
    })
}
