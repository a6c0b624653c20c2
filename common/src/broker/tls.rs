//! Encrypting the connection, and who is trusted on it.

use std::path::{Path, PathBuf};

use super::secret::{AccessError, read_text};

/// How the connection is encrypted. The files are read anew for each connection.
///
/// With authorities or a certificate, and with any `tls://` URL, an unencrypted connection is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// PEM file of the authorities that are trusted to vouch for the server, instead of those the machine trusts.
    pub authorities: Option<PathBuf>,
    /// What this client shows to the server.
    pub certificate: Option<ClientCertificate>,
    /// When it is encrypted.
    pub handshake: Handshake,
}

/// A certificate, and the key that proves that it is one's own: PEM files, the key without a passphrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// When a connection is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Handshake {
    /// If the server demands it.
    #[default]
    AsServer,
    /// Always; a server that cannot is refused.
    Required,
    /// Always, and before the server greets: it has `handshake_first`.
    First,
}

impl Tls {
    /// Others are trusted.
    #[must_use]
    pub fn with_authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.authorities = Some(file.into());
        self
    }

    /// The client shows a certificate.
    #[must_use]
    pub fn with_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificate = Some(ClientCertificate { certificate: certificate.into(), key: key.into() });
        self
    }

    /// Encrypted at another time.
    #[must_use]
    pub fn with_handshake(mut self, handshake: Handshake) -> Self {
        self.handshake = handshake;
        self
    }

    /// Whether the files hold what they should: the client's own errors would not name them.
    pub(super) fn check(&self) -> Result<(), AccessError> {
        let certificates = "certificates in PEM (-----BEGIN CERTIFICATE-----)";
        if let Some(path) = &self.authorities {
            expect(path, certificates, |text| text.contains("-----BEGIN CERTIFICATE-----"))?;
        }
        if let Some(ClientCertificate { certificate, key }) = &self.certificate {
            expect(certificate, certificates, |text| text.contains("-----BEGIN CERTIFICATE-----"))?;
            expect(key, "a private key in PEM, without a passphrase (-----BEGIN PRIVATE KEY-----)", |text| {
                text.contains("PRIVATE KEY-----") && !text.contains("ENCRYPTED")
            })?;
        }
        Ok(())
    }

    /// Whether nothing but an encrypted connection will do.
    pub(super) fn is_demanded(&self) -> bool {
        self.authorities.is_some() || self.certificate.is_some() || self.handshake != Handshake::AsServer
    }

    /// Sets up the client.
    pub(super) fn onto(&self, options: async_nats::ConnectOptions) -> async_nats::ConnectOptions {
        let mut options = options;
        if let Some(path) = &self.authorities {
            options = options.add_root_certificates(path.clone()).require_tls(true);
        }
        if let Some(ClientCertificate { certificate, key }) = &self.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
        }
        match self.handshake {
            Handshake::AsServer => options,
            Handshake::Required => options.require_tls(true),
            Handshake::First => options.tls_first(),
        }
    }

    /// The file that must stay secret.
    pub(super) fn key(&self) -> Option<&Path> {
        self.certificate.as_ref().map(|certificate| certificate.key.as_path())
    }
}

fn expect(path: &Path, wanted: &'static str, fits: impl FnOnce(&str) -> bool) -> Result<(), AccessError> {
    if fits(&read_text(path, wanted)?) {
        Ok(())
    } else {
        Err(AccessError::Unfit { place: path.display().to_string(), wanted })
    }
}
