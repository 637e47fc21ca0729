//! An engine and what can be asked of it.
//!
//! Must stay true: every call says what it is doing, waits for a limited time and answers in plain values of ours; nothing
//! of bollard, hyper or tokio is seen outside. Calls block, may come from any number of threads at once, and must not come
//! from inside an async runtime.
//!
//! What the engine says about its objects is kept as it came ([`views`], field `raw`): a snapshot holds it, and an engine
//! knows more words than any list of ours. bollard makes the calls that act; what lists and inspects goes past its types,
//! because they drop what they do not know and refuse a whole list for one unknown word.
//!
//! Read next: [`address`], [`transport`], [`call`]; then the kinds of calls: [`containers`], [`exec`], [`archive`],
//! [`images`], [`objects`], [`events`].

mod address;
mod archive;
mod call;
mod containers;
mod error;
mod events;
mod exec;
mod images;
mod listener;
mod objects;
mod patient;
mod transport;
mod version;
pub mod views;

pub use address::{Address, DEFAULT_SOCKET};
pub use archive::{ArchiveReader, PathStat};
pub use containers::{AnonymousVolumes, Change, ChangeKind, Stopping};
pub use error::{Error, ErrorKind, Result};
pub use events::{Event, EventStream, NextEvent};
pub use exec::{ExecEnd, ExecInput, ExecOutput, ExecRequest, ExecSession, NextOutput, Output};
pub use objects::empty_tar;
pub use version::ApiVersion;

use call::Route;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;
use transport::Transport;
use version::OURS;
use views::{EngineInfo, EngineVersion};

/// Two threads drive all connections: one could be busy with a stream while another waits for an answer.
const RUNTIME_THREADS: usize = 2;
/// bollard's own limit is for the beginning of an answer, which for stopping, committing and unpacking comes last. Ours
/// are stated call by call, so its limit is out of their way: a week.
const HEADER_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// A connection to one engine; cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    // Taken only by `drop`.
    runtime: Option<tokio::runtime::Runtime>,
    transport: Arc<Transport>,
    bollard: bollard::Docker,
    version: EngineVersion,
    api: ApiVersion,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A name look-up that hangs must not keep the program from ending.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Engine {
    /// Connects to the engine that `host` names, or `DOCKER_HOST`, or the usual socket.
    ///
    /// # Errors
    /// Whatever keeps lifeboat from working with this engine is found here: no engine, no permission, a version that does
    /// not fit, an engine for another system.
    pub fn connect(host: Option<&str>) -> Result<Self> {
        Self::connect_with(host, |name| std::env::var_os(name))
    }

    /// As [`Engine::connect`], with the environment given.
    pub fn connect_with(host: Option<&str>, environment: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        Self::connect_to(Address::choose(host, environment)?)
    }

    /// Connects to the engine at an address.
    pub fn connect_to(address: Address) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("lifeboat-engine")
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        let transport = Arc::new(Transport::new(address)?);
        let bollard = bollard_over(&transport)?;
        let mut shared = Shared {
            runtime: Some(runtime),
            transport,
            bollard,
            version: EngineVersion::default(),
            api: OURS.newest,
        };
        let first = Self { shared: Arc::new(shared) };
        let answer = first.get("asking the engine for its version", Route::new(&["version"]))?;
        let version = EngineVersion::from_json(answer);
        let api = version::agree(&first.address().to_string(), &version)?;
        first.transport().agree(api.to_string());
        // Nobody else has it yet, so there is exactly one reference.
        shared = Arc::into_inner(first.shared)
            .ok_or_else(|| Error::Usage("the engine is in use before it is connected".into()))?;
        shared.version = version;
        shared.api = api;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Where this engine is.
    pub fn address(&self) -> &Address {
        self.transport().address()
    }

    /// What the engine says about its versions.
    pub fn version(&self) -> &EngineVersion {
        &self.shared.version
    }

    /// The version that all calls use: gate payloads by it.
    pub fn api(&self) -> ApiVersion {
        self.shared.api
    }

    /// What the engine says about itself.
    pub fn info(&self) -> Result<EngineInfo> {
        let doing = "asking the engine about itself";
        EngineInfo::from_json(self.get(doing, Route::new(&["info"]))?).ok_or_else(|| Error::Protocol {
            doing: doing.to_owned(),
            detail: "it gives no identity".to_owned(),
        })
    }

    fn transport(&self) -> &Arc<Transport> {
        &self.shared.transport
    }

    fn bollard(&self) -> &bollard::Docker {
        &self.shared.bollard
    }

    fn runtime(&self) -> &tokio::runtime::Runtime {
        match &self.shared.runtime {
            Some(runtime) => runtime,
            None => unreachable!("only `drop` takes the runtime"),
        }
    }
}

/// bollard's calls over our transport.
fn bollard_over(transport: &Arc<Transport>) -> Result<bollard::Docker> {
    let way = Arc::clone(transport);
    let send = move |request: bollard::BollardRequest| {
        let way = Arc::clone(&way);
        async move { way.send(request).await }
    };
    bollard::Docker::connect_with_custom_transport(
        send,
        // The transport writes the real address; this one only has to be a valid one.
        Some("engine://engine"),
        HEADER_LIMIT.as_secs(),
        bollard::API_DEFAULT_VERSION,
    )
    .map_err(|error| Error::Usage(error.to_string()))
}
