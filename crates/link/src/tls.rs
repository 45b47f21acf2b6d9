//! TLS as this program speaks it, and nothing else of TLS: version 1.3, raw public keys of Ed25519
//! both ways (RFC 7250, RFC 8410), no tickets, no resumption, no early data (rule T1).
//!
//! The verifiers check that the other end holds its key; whose key that is to be, they leave to
//! whoever gets the link.

use std::sync::Arc;

use identity::{DeviceId, DeviceKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    PeerIncompatible, ServerConfig, SignatureAlgorithm, SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms,
        aws_lc_rs::{self, cipher_suite, kx_group},
        verify_tls13_signature_with_raw_key,
    },
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::{
        AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, Signer, SigningKey},
};

use crate::LinkError;

/// What is spoken on a link. Both ends must agree on it: a link for one thing is none for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Devices, their sessions and folders.
    Devices,
    /// The exchange of SSH keys (`kin ssh`).
    Ssh,
}

impl Protocol {
    /// Its name and version, as ALPN (RFC 7301) carries them.
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Devices => b"kin/1",
            Self::Ssh => b"kin-ssh/1",
        }
    }

    /// The same of further connections that belong to a link, if there are such.
    pub(crate) fn strand_alpn(self) -> Option<&'static [u8]> {
        match self {
            Self::Devices => Some(b"kin-strand/1"),
            Self::Ssh => None,
        }
    }
}

/// Label under which ceremonies take key material from a link (RFC 8446, section 7.5).
pub(crate) const EXPORTER: &[u8] = b"EXPORTER-kinfold-link";

/// A SubjectPublicKeyInfo of Ed25519 up to the key's 32 bytes (RFC 8410, section 4).
const SPKI_HEAD: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

fn spki_of(id: DeviceId) -> Vec<u8> {
    [&SPKI_HEAD[..], &id.0].concat()
}

/// The device id in a raw public key, which must be an Ed25519 key in its one encoding.
pub(crate) fn device_of(key: &CertificateDer<'_>) -> Result<DeviceId, Error> {
    let bytes = key.as_ref().strip_prefix(&SPKI_HEAD);
    match bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) {
        Some(bytes) => Ok(DeviceId(bytes)),
        None => Err(CertificateError::BadEncoding.into()),
    }
}

/// Makes the two configurations of one device.
pub(crate) fn configs(
    key: &Arc<DeviceKey>,
    protocol: Protocol,
) -> Result<(ClientConfig, ServerConfig), LinkError> {
    let setup = |error: Error| LinkError::Setup(error.to_string());
    let provider = Arc::new(provider());
    let verifier =
        Arc::new(PossessionOnly { algorithms: provider.signature_verification_algorithms });
    let certified = Arc::new(CertifiedKey::new(
        vec![CertificateDer::from(spki_of(key.id()))],
        Arc::new(DeviceSigner(Arc::clone(key))),
    ));

    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<PossessionOnly>::clone(&verifier))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(
            &certified,
        ))));
    client.alpn_protocols = vec![protocol.alpn().to_vec()];
    client.resumption = Resumption::disabled();
    client.enable_sni = false;
    client.enable_early_data = false;

    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(setup)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)));
    let alpn = std::iter::once(protocol.alpn()).chain(protocol.strand_alpn());
    server.alpn_protocols = alpn.map(<[u8]>::to_vec).collect();
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    server.max_early_data_size = 0;
    Ok((client, server))
}

/// The hybrid key exchange first, plain X25519 for implementations without it; AES-256 first where
/// the CPU has instructions for it.
fn provider() -> CryptoProvider {
    let aes = cipher_suite::TLS13_AES_256_GCM_SHA384;
    let chacha = cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    CryptoProvider {
        cipher_suites: if aes_in_hardware() { vec![aes, chacha] } else { vec![chacha, aes] },
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}

#[cfg(target_arch = "x86_64")]
fn aes_in_hardware() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn aes_in_hardware() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn aes_in_hardware() -> bool {
    false
}

/// Lets TLS sign with the device key without ever holding its secret half.
#[derive(Debug, Clone)]
struct DeviceSigner(Arc<DeviceKey>);

impl SigningKey for DeviceSigner {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ED25519).then(|| Box::new(self.clone()) as _)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(spki_of(self.0.id())))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for DeviceSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        // What is signed begins with 64 spaces and a context string (RFC 8446, section 4.4.3), so it
        // can be taken for no other thing that a device signs.
        Ok(self.0.sign(message).to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// Accepts every device that proves that it holds its own key.
#[derive(Debug)]
struct PossessionOnly {
    algorithms: WebPkiSupportedAlgorithms,
}

impl PossessionOnly {
    fn proven(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        device_of(key)?;
        if signature.scheme != SignatureScheme::ED25519 {
            return Err(CertificateError::BadSignature.into());
        }
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }

    fn only_key(
        key: &CertificateDer<'_>,
        further: &[CertificateDer<'_>],
    ) -> Result<DeviceId, Error> {
        if !further.is_empty() {
            return Err(CertificateError::BadEncoding.into());
        }
        device_of(key)
    }
}

impl ServerCertVerifier for PossessionOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::only_key(end_entity, intermediates).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.proven(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for PossessionOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::only_key(end_entity, intermediates).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.proven(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
