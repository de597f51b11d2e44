//! The keys in a backup: an age file, so that they can be had back without duka, too.
//!
//! Its content is JSON: the bytes of each key file in base64, by the name of the file.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor, Identity, IdentityFile, Recipient};
use multibase::Base;
use zeroize::Zeroizing;

use crate::keys::KeyFiles;

/// Work that a passphrase costs who tries it, as the exponent of two: about a second and 256 MiB, as
/// the `age` program has it.
const WORK: u8 = 18;
/// Most work that a backup may ask for.
const MAX_WORK: u8 = 22;
/// Longest content, in bytes.
const MAX_LEN: u64 = 64 << 10;

/// For whom keys are encrypted.
pub enum Lock {
    /// For whoever knows it.
    Passphrase(Zeroizing<String>),
    /// For the holders of these age keys, `age1…`.
    Recipients(Vec<String>),
}

/// What opens encrypted keys.
pub enum Opener {
    /// A passphrase.
    Passphrase(Zeroizing<String>),
    /// The content of an age identity file, with lines such as `AGE-SECRET-KEY-1…`.
    Identities(Zeroizing<String>),
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase",
            Self::Recipients(_) => "Recipients",
        })
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase",
            Self::Identities(_) => "Identities",
        })
    }
}

/// Why keys were not encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Not the public key of anybody.
    #[error("{recipient:?} is not an age recipient")]
    Recipient {
        /// What was given.
        recipient: String,
    },
    /// No identity can be read.
    #[error("the identity file holds no age identity")]
    Identity,
    /// The passphrase is wrong.
    #[error("the passphrase does not open the keys")]
    WrongPassphrase,
    /// None of the identities opens them.
    #[error("no identity of the file opens the keys")]
    WrongIdentity,
    /// Encrypted to recipients, not to a passphrase.
    #[error("the keys are encrypted to a recipient, not to a passphrase")]
    NeedsIdentity,
    /// Encrypted to a passphrase, not to recipients.
    #[error("the keys are encrypted to a passphrase, not to a recipient")]
    NeedsPassphrase,
    /// A passphrase with more work than anybody should have to do.
    #[error("the keys ask for too much work (2^{work})")]
    TooMuchWork {
        /// The exponent.
        work: u8,
    },
    /// What was decrypted is no set of keys.
    #[error("the file with the keys cannot be read")]
    Unreadable,
}

/// Encrypts key files; the result is text.
pub(crate) fn lock(files: &KeyFiles, lock: &Lock) -> Result<String, SecretError> {
    let recipients = recipients(lock)?;
    let recipients = recipients.iter().map(|recipient| &**recipient as _);
    let encoded = files.iter().map(|(name, bytes)| {
        let bytes = Base::Base64Pad.encode(&***bytes);
        (name, bytes)
    });
    let encoded: BTreeMap<_, _> = encoded.collect();
    let plain = Zeroizing::new(serde_json::to_vec(&encoded).expect("names and texts are JSON"));
    let encrypted = Encryptor::with_recipients(recipients)
        .map_err(|_| SecretError::Unreadable)
        .and_then(|encryptor| write(encryptor, &plain).map_err(|_| SecretError::Unreadable))?;
    String::from_utf8(encrypted).map_err(|_| SecretError::Unreadable)
}

fn write(encryptor: Encryptor, plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
    let mut writer = encryptor.wrap_output(armor)?;
    writer.write_all(plain)?;
    writer.finish()?.finish()
}

fn recipients(lock: &Lock) -> Result<Vec<Box<dyn Recipient>>, SecretError> {
    match lock {
        Lock::Passphrase(passphrase) => {
            let mut recipient = age::scrypt::Recipient::new(secret(passphrase));
            recipient.set_work_factor(WORK);
            Ok(vec![Box::new(recipient)])
        }
        Lock::Recipients(texts) => {
            let parsed = texts.iter().map(|text| {
                let recipient: Result<age::x25519::Recipient, _> = text.parse();
                let recipient = recipient.map_err(|_| SecretError::Recipient {
                    recipient: text.clone(),
                })?;
                Ok(Box::new(recipient) as Box<dyn Recipient>)
            });
            parsed.collect()
        }
    }
}

/// Decrypts key files.
pub(crate) fn open(encrypted: &[u8], opener: &Opener) -> Result<KeyFiles, SecretError> {
    let decryptor = Decryptor::new_buffered(ArmoredReader::new(encrypted))
        .map_err(|_| SecretError::Unreadable)?;
    let wrong = match (opener, decryptor.is_scrypt()) {
        (Opener::Passphrase(_), true) => SecretError::WrongPassphrase,
        (Opener::Identities(_), false) => SecretError::WrongIdentity,
        (Opener::Passphrase(_), false) => return Err(SecretError::NeedsIdentity),
        (Opener::Identities(_), true) => return Err(SecretError::NeedsPassphrase),
    };
    let identities = identities(opener)?;
    let identities = identities.iter().map(|identity| &**identity as _);
    let reader = decryptor.decrypt(identities).map_err(|error| match error {
        DecryptError::ExcessiveWork { required, .. } => SecretError::TooMuchWork { work: required },
        _ => wrong,
    })?;
    let mut plain = Zeroizing::new(Vec::new());
    reader
        .take(MAX_LEN)
        .read_to_end(&mut plain)
        .map_err(|_| SecretError::Unreadable)?;
    let encoded: BTreeMap<String, String> =
        serde_json::from_slice(&plain).map_err(|_| SecretError::Unreadable)?;
    let decoded = encoded.into_iter().map(|(name, text)| {
        let bytes = Base::Base64Pad.decode(Zeroizing::new(text).as_str());
        let bytes = bytes.map_err(|_| SecretError::Unreadable)?;
        Ok((name, Zeroizing::new(bytes)))
    });
    decoded.collect()
}

fn identities(opener: &Opener) -> Result<Vec<Box<dyn Identity + Send + Sync>>, SecretError> {
    match opener {
        Opener::Passphrase(passphrase) => {
            let mut identity = age::scrypt::Identity::new(secret(passphrase));
            identity.set_max_work_factor(MAX_WORK);
            Ok(vec![Box::new(identity)])
        }
        Opener::Identities(text) => IdentityFile::from_buffer(text.as_bytes())
            .ok()
            .and_then(|file| file.into_identities().ok())
            .filter(|identities| !identities.is_empty())
            .ok_or(SecretError::Identity),
    }
}

fn secret(passphrase: &Zeroizing<String>) -> SecretString {
    SecretString::from(passphrase.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret;

    use super::*;

    fn files() -> KeyFiles {
        let file = |name: &str| (name.to_owned(), Zeroizing::new(name.as_bytes().to_vec()));
        KeyFiles::from(["shop.key", "peer.key"].map(file))
    }

    fn passphrase(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[test]
    fn a_passphrase_opens_what_it_locked_and_another_does_not() {
        let locked = lock(&files(), &Lock::Passphrase(passphrase("correct horse"))).unwrap();
        assert!(locked.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
        let opener = |text| Opener::Passphrase(passphrase(text));
        let opened = open(locked.as_bytes(), &opener("correct horse")).unwrap();
        assert_eq!(opened, files());
        let wrong = open(locked.as_bytes(), &opener("battery staple"));
        assert!(
            matches!(wrong, Err(SecretError::WrongPassphrase)),
            "{wrong:?}"
        );
        let identity = Opener::Identities(passphrase("AGE-SECRET-KEY-1"));
        let wrong = open(locked.as_bytes(), &identity);
        assert!(
            matches!(wrong, Err(SecretError::NeedsPassphrase)),
            "{wrong:?}"
        );
    }

    #[test]
    fn an_identity_opens_what_was_locked_for_its_recipient() {
        let [one, other] = [(); 2].map(|()| age::x25519::Identity::generate());
        let recipients = vec![one.to_public().to_string()];
        let locked = lock(&files(), &Lock::Recipients(recipients)).unwrap();
        let opener = |identity: &age::x25519::Identity| {
            let text = identity.to_string();
            Opener::Identities(passphrase(&format!("# mine\n{}\n", text.expose_secret())))
        };
        assert_eq!(open(locked.as_bytes(), &opener(&one)).unwrap(), files());
        let wrong = open(locked.as_bytes(), &opener(&other));
        assert!(
            matches!(wrong, Err(SecretError::WrongIdentity)),
            "{wrong:?}"
        );
        let wrong = open(locked.as_bytes(), &Opener::Passphrase(passphrase("x")));
        assert!(
            matches!(wrong, Err(SecretError::NeedsIdentity)),
            "{wrong:?}"
        );
        let not_one = lock(&files(), &Lock::Recipients(vec!["age1x".to_owned()]));
        assert!(matches!(not_one, Err(SecretError::Recipient { .. })));
    }
}
