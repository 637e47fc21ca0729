//! TCP with TLS: both sides show a certificate, and nobody else gets in.

use crate::fake::usual_version;
use lifeboat_workload::engine::{Address, Engine, Error, ErrorKind};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key of `name`, in PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A folder as `DOCKER_CERT_PATH` names one: `trusted` checks the engine, this authority made our own identity.
    fn folder(&self, trusted: &Self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = self.issue("lifeboat");
        for (name, text) in [("ca.pem", trusted.0.pem()), ("cert.pem", cert), ("key.pem", key)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }
}

/// An engine behind TLS that lets in whom `authority` vouches for; gives its port.
fn serve(authority: &Authority) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.0.pem().as_bytes()).unwrap()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let (cert, key) = authority.issue("localhost");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            let body = usual_version().to_string();
            let _ = write!(stream, "HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    port
}

fn connect(port: u16, certificates: &Path) -> Result<Engine, Error> {
    let authority = format!("localhost:{port}");
    Engine::connect_to(Address::Tls { authority, certificates: certificates.to_owned() })
}

#[test]
fn an_engine_behind_tls_is_reached_with_the_folders_identity() {
    let authority = Authority::new();
    let folder = authority.folder(&authority);
    let engine = connect(serve(&authority), folder.path()).unwrap();
    assert_eq!(engine.version().engine, "20.10.24");
}

#[test]
fn an_engine_that_nobody_vouches_for_is_refused_and_so_are_we() {
    let (ours, other) = (Authority::new(), Authority::new());
    let port = serve(&ours);
    // Its certificate is not from whom we trust.
    let error = connect(port, ours.folder(&other).path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    // Ours is not from whom it trusts.
    let error = connect(port, other.folder(&ours).path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[test]
fn a_missing_or_empty_file_of_the_identity_is_named() {
    let authority = Authority::new();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        let folder = authority.folder(&authority);
        let file = folder.path().join(name);
        std::fs::write(&file, "no certificate").unwrap();
        let error = connect(1, folder.path()).unwrap_err();
        assert!(matches!(error, Error::Tls { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
        std::fs::remove_file(&file).unwrap();
        let error = connect(1, folder.path()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}
