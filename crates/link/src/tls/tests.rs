//! Handshakes in memory between our configurations and bent ones.

use std::sync::atomic::{AtomicUsize, Ordering};

use identity::Secret;
use rustls::{
    AlertDescription, ClientConnection, HandshakeKind, NamedGroup, ServerConnection,
    client::{
        ClientSessionStore, ResolvesClientCert, Tls12ClientSessionValue, Tls13ClientSessionValue,
    },
};

use super::*;

fn key(seed: u8) -> Arc<DeviceKey> {
    Arc::new(DeviceKey::from_seed(&Secret::new([seed; 32])).unwrap())
}

fn client(seed: u8) -> ClientConfig {
    configs(&key(seed), Protocol::Devices).unwrap().0
}

fn server(seed: u8) -> ServerConfig {
    configs(&key(seed), Protocol::Devices).unwrap().1
}

/// Both ends after a handshake, or the error of the end that refused.
fn shake(
    client: ClientConfig,
    server: ServerConfig,
) -> Result<(ClientConnection, ServerConnection), Error> {
    shake_again(&Arc::new(client), &Arc::new(server))
}

fn shake_again(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let name = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

#[test]
fn both_ends_agree_on_what_is_preferred() {
    let (client, server) = shake(client(1), server(2)).unwrap();
    let group = client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(client.alpn_protocol(), Some(Protocol::Devices.alpn()));
    assert_eq!(device_of(&client.peer_certificates().unwrap()[0]).unwrap(), key(2).id());
    assert_eq!(device_of(&server.peer_certificates().unwrap()[0]).unwrap(), key(1).id());
    let suite = client.negotiated_cipher_suite().unwrap().suite();
    assert_ne!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
}

#[test]
fn attack_11_another_protocol_is_refused() {
    let mut other = client(1);
    other.alpn_protocols = vec![b"h2".to_vec()];
    assert_eq!(shake(other, server(2)).unwrap_err(), Error::NoApplicationProtocol);
}

#[test]
fn aes_128_alone_is_refused() {
    let provider = CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..aws_lc_rs::default_provider()
    };
    let mut other = bent(&Arc::new(provider), Arc::new(DeviceSigner(key(1))), spki_of(key(1).id()));
    other.alpn_protocols = vec![Protocol::Devices.alpn().to_vec()];
    assert!(shake(other, server(2)).is_err());
}

/// A client that shows `spki` and signs as `signer` does.
fn bent(
    provider: &Arc<CryptoProvider>,
    signer: Arc<dyn SigningKey>,
    spki: Vec<u8>,
) -> ClientConfig {
    let verifier = PossessionOnly { algorithms: provider.signature_verification_algorithms };
    let certified = CertifiedKey::new(vec![CertificateDer::from(spki)], signer);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::new(
            certified,
        ))));
    config.alpn_protocols = vec![Protocol::Devices.alpn().to_vec()];
    config
}

#[test]
fn attack_13_a_key_that_was_not_proven_is_refused() {
    let provider = Arc::new(provider());
    // Shows the id of device 3, holds the key of device 1.
    let thief = bent(&provider, Arc::new(DeviceSigner(key(1))), spki_of(key(3).id()));
    assert!(matches!(shake(thief, server(2)).unwrap_err(), Error::InvalidCertificate(_)));
    let honest = bent(&provider, Arc::new(DeviceSigner(key(1))), spki_of(key(1).id()));
    shake(honest, server(2)).unwrap();
}

#[test]
fn only_an_ed25519_key_in_its_one_encoding_is_a_device() {
    let good = spki_of(key(1).id());
    let id = |bytes: &[u8]| device_of(&CertificateDer::from(bytes.to_vec()));
    assert_eq!(id(&good).unwrap(), key(1).id());
    assert!(id(&good[..43]).is_err());
    assert!(id(&[&good[..], &[0]].concat()).is_err());
    assert!(id(&[]).is_err());
    for at in 0..SPKI_HEAD.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        assert!(id(&changed).is_err(), "byte {at}");
    }
    // X25519 instead of Ed25519: the same length, another algorithm.
    let mut inbox = good.clone();
    inbox[8] = 0x6e;
    let provider = Arc::new(provider());
    let other = bent(&provider, Arc::new(DeviceSigner(key(1))), inbox);
    assert!(shake(other, server(2)).is_err());
}

#[test]
fn no_client_key_is_refused() {
    let provider = Arc::new(provider());
    let verifier = PossessionOnly { algorithms: provider.signature_verification_algorithms };
    let mut nobody = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    nobody.alpn_protocols = vec![Protocol::Devices.alpn().to_vec()];
    assert!(shake(nobody, server(2)).is_err());
}

#[test]
fn a_certificate_instead_of_a_raw_key_is_refused() {
    /// Shows the same bytes, but as an X.509 certificate.
    #[derive(Debug)]
    struct Certificate(Arc<CertifiedKey>);

    impl ResolvesClientCert for Certificate {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    let certified = CertifiedKey::new(
        vec![CertificateDer::from(spki_of(key(1).id()))],
        Arc::new(DeviceSigner(key(1))),
    );
    let mut other = client(1);
    other.client_auth_cert_resolver = Arc::new(Certificate(Arc::new(certified)));
    assert!(shake(other, server(2)).is_err());
}

/// A client that would resume if it could.
#[derive(Debug, Default)]
struct Hoarder {
    tickets: AtomicUsize,
}

impl ClientSessionStore for Hoarder {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.tickets.fetch_add(1, Ordering::Relaxed);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

#[test]
fn t1_the_server_gives_no_tickets() {
    let hoarder = Arc::new(Hoarder::default());
    let mut eager = client(1);
    eager.resumption = Resumption::store(Arc::<Hoarder>::clone(&hoarder));
    let (eager, server) = (Arc::new(eager), Arc::new(server(2)));
    for _ in 0..2 {
        let (client, server) = shake_again(&eager, &server).unwrap();
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
    }
    assert_eq!(hoarder.tickets.load(Ordering::Relaxed), 0);
    assert_eq!((server.send_tls13_tickets, server.max_early_data_size), (0, 0));
}

#[test]
fn t1_the_client_resumes_nothing_where_it_could() {
    // A server that gives tickets and would take them back.
    let mut generous = server(2);
    generous.send_tls13_tickets = 4;
    generous.session_storage = rustls::server::ServerSessionMemoryCache::new(16);
    let generous = Arc::new(generous);
    let ours = Arc::new(client(1));
    for _ in 0..2 {
        let (client, _) = shake_again(&ours, &generous).unwrap();
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
    }
    // A client that wants to can: else this test would show nothing.
    let mut eager = client(1);
    eager.resumption = Resumption::in_memory_sessions(16);
    let eager = Arc::new(eager);
    shake_again(&eager, &generous).unwrap();
    let (resumed, _) = shake_again(&eager, &generous).unwrap();
    assert_eq!(resumed.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[test]
fn attack_11_tls_1_2_is_answered_with_an_alert() {
    let mut server = ServerConnection::new(Arc::new(server(2))).unwrap();
    server.read_tls(&mut client_hello_1_2().as_slice()).unwrap();
    assert!(matches!(server.process_new_packets(), Err(Error::PeerIncompatible(_))));
    let mut answer = Vec::new();
    server.write_tls(&mut answer).unwrap();
    // Content type, version, length, level fatal, description (RFC 8446, section 6).
    let alert = AlertDescription::ProtocolVersion.into();
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, alert]);
}

/// A ClientHello as a client of TLS 1.2 sends it (RFC 5246, section 7.4.1.2).
fn client_hello_1_2() -> Vec<u8> {
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 29, // supported groups: X25519
        0, 13, 0, 4, 0, 2, 8, 7, // signature algorithms: Ed25519
        0, 11, 0, 2, 1, 0, // point formats: uncompressed
    ];
    let mut body = vec![3, 3];
    body.extend([7; 32]); // random
    body.push(0); // no session
    body.extend([0, 2, 0xc0, 0x2b]); // ECDHE, ECDSA, AES-128-GCM
    body.extend([1, 0]); // no compression
    body.extend([0, u8::try_from(extensions.len()).unwrap()]);
    body.extend(extensions);
    let len = u8::try_from(body.len()).unwrap();
    [&[22, 3, 1, 0, len + 4, 1, 0, 0, len][..], &body].concat()
}
