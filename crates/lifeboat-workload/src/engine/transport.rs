//! How requests reach an engine: one HTTP client, and the version in every path.
//!
//! Must stay true: every request but the first names the API version that was agreed on, so that an engine answers in
//! words that this lifeboat knows. (bollard alone would drop the version from the path, and every engine would answer in
//! its own newest words.) A connection is used for one request and never kept: a kept one may be dead, and an engine that
//! restarts would then cost a request that cannot simply be repeated.

use super::address::Address;
use super::error::{Error, Result};
use super::patient::Patient;
use bollard::errors::Error as BollardError;
use futures_util::Stream;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use hyperlocal::UnixConnector;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A TCP connection that is not there after this long will not come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How soon a peer that vanished without a word is noticed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What bollard sends: whole, or as a stream.
pub(super) type Body =
    Either<Full<Bytes>, StreamBody<Pin<Box<dyn Stream<Item = std::io::Result<Frame<Bytes>>> + Send>>>>;

enum Wire {
    Unix(Client<Patient<UnixConnector>, Body>),
    Tcp(Client<Patient<HttpsConnector<HttpConnector>>, Body>),
}

/// The way to one engine.
pub(super) struct Transport {
    wire: Wire,
    address: Address,
    version: OnceLock<String>,
}

impl Transport {
    /// Prepares the way; nothing is connected yet.
    pub(super) fn new(address: Address) -> Result<Self> {
        let wire = match &address {
            Address::Unix(_) => Wire::Unix(client(UnixConnector)),
            Address::Tcp { .. } => Wire::Tcp(client(tcp_connector(empty_tls()?))),
            Address::Tls { certificates, .. } => Wire::Tcp(client(tcp_connector(identity(certificates)?))),
        };
        Ok(Self { wire, address, version: OnceLock::new() })
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// From now on every path names this version.
    pub(super) fn agree(&self, version: String) {
        // Set once, by who made the transport, before anybody else has it.
        let _ = self.version.set(version);
    }

    /// Sends a request whose URI holds a path only, or one that bollard made.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, BollardError> {
        let request = self.addressed(request)?;
        Ok(match &self.wire {
            Wire::Unix(client) => client.request(request).await?,
            Wire::Tcp(client) => client.request(request).await?,
        })
    }

    fn addressed(&self, mut request: Request<Body>) -> Result<Request<Body>, BollardError> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let path = match self.version.get() {
            Some(version) => format!("/v{version}{path}"),
            None => path.to_owned(),
        };
        *request.uri_mut() = match &self.address {
            Address::Unix(socket) => hyperlocal::Uri::new(socket, &path).into(),
            Address::Tcp { authority } => {
                Uri::builder().scheme("http").authority(authority.as_str()).path_and_query(path).build()?
            }
            Address::Tls { authority, .. } => {
                Uri::builder().scheme("https").authority(authority.as_str()).path_and_query(path).build()?
            }
        };
        let headers = request.headers_mut();
        if matches!(self.address, Address::Unix(_)) {
            // The socket's path, which hyperlocal puts there in hexadecimal, is no host name; proxies refuse it.
            headers.insert(HOST, HeaderValue::from_static("docker"));
        }
        // bollard appends its usual content type to the one that was asked for. The engine unpacks an archive only
        // where the first is a tar's, and which one is first would be left to whatever proxy is in between.
        if let Some(first) = headers.get(CONTENT_TYPE).cloned() {
            headers.insert(CONTENT_TYPE, first);
        }
        Ok(request)
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Transport({})", self.address)
    }
}

fn client<C>(connector: C) -> Client<Patient<C>, Body>
where
    C: Clone,
    Patient<C>: Connect,
{
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(Patient(connector))
}

fn tcp_connector(tls: rustls::ClientConfig) -> HttpsConnector<HttpConnector> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    http.set_keepalive(Some(KEEPALIVE));
    HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http)
}

fn tls_builder() -> Result<rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::Tls { file: "the list of protocol versions".into(), source: source.into() })
}

/// Trusts nobody: for connections in the clear, which never ask it.
fn empty_tls() -> Result<rustls::ClientConfig> {
    Ok(tls_builder()?.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

/// Who is trusted and who we are. As with the `docker` command, the system's own authorities are not asked.
fn identity(folder: &Path) -> Result<rustls::ClientConfig> {
    fn bad<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        file: &Path,
    ) -> impl FnOnce(E) -> Error + use<'_, E> {
        move |source| Error::Tls { file: file.display().to_string(), source: source.into() }
    }
    let (ca, cert, key) = (folder.join("ca.pem"), folder.join("cert.pem"), folder.join("key.pem"));
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(&ca).map_err(bad(&ca))? {
        roots.add(certificate).map_err(bad(&ca))?;
    }
    let chain = certificates(&cert).map_err(bad(&cert))?;
    let key_der = PrivateKeyDer::from_pem_file(&key).map_err(bad(&key))?;
    tls_builder()?.with_root_certificates(roots).with_client_auth_cert(chain, key_der).map_err(bad(&cert))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    let found = CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>()?;
    match found.is_empty() {
        true => Err(rustls::pki_types::pem::Error::NoItemsFound),
        false => Ok(found),
    }
}
