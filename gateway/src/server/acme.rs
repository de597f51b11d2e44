//! A certificate that a CA gives by ACME (RFC 8555), and renews. The CA checks each name by a TLS connection to
//! this gateway (TLS-ALPN-01, RFC 8737), so that no second port is needed.

mod client;
mod kept;
mod order;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use duka_config::AcmeConfig;
use instant_acme::{Account, AccountCredentials, NewAccount};
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use rustls::pki_types::DnsName;

use self::client::HttpsClient;
use self::kept::Kept;
use super::tls::{Shown, TlsError};

/// The protocol of a connection by which a CA checks a name.
pub(super) const ALPN: &[u8] = b"acme-tls/1";
/// For all that one attempt takes.
const ATTEMPT: Duration = Duration::from_secs(300);
/// Pause after the first attempt that failed; each further one doubles it. CAs bear five an hour.
const FIRST_PAUSE: Duration = Duration::from_secs(300);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);
/// How often it is looked whether the certificate is to be renewed: clocks are set, machines sleep.
const LOOK: Duration = Duration::from_secs(3600);
/// What part of its time a certificate has left when it is renewed, as one over this.
const LEFT: u32 = 3;
/// The files that are kept of a CA.
const ACCOUNT: &str = "account.json";
const CERTIFICATE: &str = "certificate.pem";

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum AcmeError {
    #[error(transparent)]
    Protocol(#[from] instant_acme::Error),
    #[error("the CA refused: {0}")]
    Refused(String),
    #[error("the CA does not check {0:?} by TLS-ALPN-01")]
    NoChallenge(String),
    #[error("it took longer than five minutes")]
    Slow,
    #[error("a key or a request for a certificate cannot be made")]
    Make(#[from] rcgen::Error),
    #[error("what the CA sent is of no use: {0}")]
    Useless(String),
    #[error("what belongs to the CA cannot be kept in the data directory")]
    Keep(#[from] std::io::Error),
    #[error("the CA's account cannot be kept")]
    Account(#[from] serde_json::Error),
    #[error("the CA cannot be asked")]
    Client(#[from] reqwest::Error),
}

/// Gets a certificate, and keeps it new.
#[derive(Debug)]
pub(crate) struct Renewal {
    config: AcmeConfig,
    client: HttpsClient,
    kept: Kept,
    shown: Arc<Shown>,
    /// When the certificate that is shown is to be renewed: `None` when there is none.
    renew_at: Option<SystemTime>,
    expires: Gauge,
    failures: Counter,
}

impl Renewal {
    /// Shows the certificate that is kept in `data_dir`, if it is for the names of the settings.
    pub(super) async fn begin(
        config: &AcmeConfig,
        data_dir: &Path,
        shown: Arc<Shown>,
    ) -> Result<Self, TlsError> {
        let wrong = |name: &&String| DnsName::try_from(name.as_str()).is_err();
        if let Some(name) = config.domains.iter().find(wrong) {
            return Err(TlsError::AcmeName { name: name.clone() });
        }
        describe_gauge!(
            "duka_gateway_certificate_expires_seconds",
            "Unix time at which the certificate got by ACME expires; 0 without one"
        );
        describe_counter!(
            "duka_gateway_certificate_failures_total",
            "Attempts to get a certificate by ACME that failed"
        );
        let mut renewal = Self {
            client: HttpsClient::new(&config.root).await?,
            kept: Kept::new(data_dir, &config.directory),
            config: config.clone(),
            shown,
            renew_at: None,
            expires: gauge!("duka_gateway_certificate_expires_seconds"),
            failures: counter!("duka_gateway_certificate_failures_total"),
        };
        match renewal.kept.read(CERTIFICATE).await {
            Ok(None) => {}
            Ok(Some(pem)) => {
                if let Err(error) = renewal.show(&pem) {
                    tracing::warn!(%error, "the certificate that was kept is not used");
                }
            }
            Err(error) => tracing::warn!(%error, "the certificate that was kept cannot be read"),
        }
        Ok(renewal)
    }

    /// Gets and renews the certificate, for ever.
    pub(super) async fn run(mut self) {
        let mut failed = 0;
        loop {
            if let Some(left) = self.left() {
                tokio::time::sleep(left.min(LOOK)).await;
                continue;
            }
            let attempt = tokio::time::timeout(ATTEMPT, self.obtain()).await;
            self.shown.prove_nothing();
            let names = self.config.domains.join(", ");
            match attempt.unwrap_or(Err(AcmeError::Slow)) {
                Ok(()) => {
                    failed = 0;
                    tracing::info!(names, "a certificate was obtained");
                }
                Err(error) => {
                    failed += 1;
                    self.failures.increment(1);
                    let again_in = pause_after(failed);
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        names,
                        ?again_in,
                        "no certificate was obtained"
                    );
                    tokio::time::sleep(again_in).await;
                }
            }
        }
    }

    /// Time until the certificate is to be renewed; `None` when it is now.
    fn left(&self) -> Option<Duration> {
        let left = self.renew_at?.duration_since(SystemTime::now());
        left.ok().filter(|left| !left.is_zero())
    }

    /// Gets a certificate, keeps and shows it.
    async fn obtain(&mut self) -> Result<(), AcmeError> {
        let account = self.account().await?;
        let ordered = order::order(&account, &self.config.domains, &self.shown).await;
        if let Err(AcmeError::Protocol(instant_acme::Error::Api(problem))) = &ordered
            && let Some(kind) = &problem.r#type
            && kind.ends_with(":accountDoesNotExist")
        {
            self.kept.remove(ACCOUNT).await?;
        }
        let pem = ordered?;
        self.show(pem.as_bytes())?;
        if self.left().is_none() {
            return Err(AcmeError::Useless("it is to be renewed at once".to_owned()));
        }
        self.kept.write(CERTIFICATE, pem.into_bytes()).await?;
        Ok(())
    }

    /// The account with the CA, which is made with the first certificate.
    async fn account(&self) -> Result<Account, AcmeError> {
        let builder = || Account::builder_with_http(Box::new(self.client.clone()));
        if let Some(kept) = self.kept.read(ACCOUNT).await?
            && let Ok(credentials) = serde_json::from_slice::<AccountCredentials>(&kept)
        {
            return Ok(builder().from_credentials(credentials).await?);
        }
        let mail = format!("mailto:{}", self.config.contact);
        let contact = [mail.as_str()];
        let new = NewAccount {
            contact: match self.config.contact.is_empty() {
                true => &[],
                false => &contact,
            },
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let directory = self.config.directory.clone();
        let (account, credentials) = builder().create(&new, directory, None).await?;
        self.kept
            .write(ACCOUNT, serde_json::to_vec(&credentials)?)
            .await?;
        Ok(account)
    }

    /// Shows a key and its certificates from now on.
    fn show(&mut self, pem: &[u8]) -> Result<(), AcmeError> {
        let obtained = order::read(pem)?;
        if !obtained.is_for(&self.config.domains) {
            return Err(AcmeError::Useless("it is for other names".to_owned()));
        }
        let lifetime = obtained.not_after.duration_since(obtained.not_before);
        let lifetime = lifetime.unwrap_or_default();
        self.renew_at = Some(obtained.not_after - lifetime / LEFT);
        let expires = obtained.not_after.duration_since(SystemTime::UNIX_EPOCH);
        self.expires.set(expires.unwrap_or_default().as_secs_f64());
        self.shown.show(obtained.certified);
        Ok(())
    }
}

/// Pause after so many attempts in a row that failed.
fn pause_after(failed: u32) -> Duration {
    let doubled = 1_u32
        .checked_shl(failed.saturating_sub(1))
        .unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_six_hours() {
        let minutes = [1, 2, 3, 7, 8, 40].map(|failed| pause_after(failed).as_secs() / 60);
        assert_eq!(minutes, [5, 10, 20, 320, 360, 360]);
    }

    #[tokio::test]
    async fn certificate_that_is_kept_is_shown_where_it_is_for_the_same_names() {
        let dir = tempfile::tempdir().unwrap();
        let pair = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let pem = pair.key_pair.serialize_pem() + &pair.cert.pem();
        let config = |name: &str| AcmeConfig {
            domains: vec![name.to_owned()],
            directory: "https://ca.example/dir".to_owned(),
            ..AcmeConfig::default()
        };
        let kept = Kept::new(dir.path(), &config("").directory);
        kept.write(CERTIFICATE, pem.into_bytes()).await.unwrap();
        for (name, is_shown) in [("a.example", true), ("b.example", false)] {
            let shown = Arc::new(Shown::default());
            let renewal = Renewal::begin(&config(name), dir.path(), Arc::clone(&shown)).await;
            assert_eq!(renewal.unwrap().left().is_some(), is_shown, "{name}");
            assert_eq!(shown.certificate().is_some(), is_shown, "{name}");
        }
        for name in ["*.example", "", "a b"] {
            let refused = Renewal::begin(&config(name), dir.path(), Arc::default()).await;
            assert!(matches!(refused, Err(TlsError::AcmeName { .. })), "{name}");
        }
    }
}
