//! What can go wrong between lifeboat and an engine, and what a person can do about it.
//!
//! Must stay true: a failure names what was being done and to what; the engine's own words are kept; an address never
//! shows a secret, because it has none.

use std::time::Duration;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Ask for something else.
    Usage,
    /// The engine has no such object.
    NotFound,
    /// The object is in a state that forbids it, or its name is taken.
    Conflict,
    /// The socket or the engine refuses this user.
    Denied,
    /// No engine answers, or it stopped answering: try again later.
    Unavailable,
    /// Another version of lifeboat or of the engine is needed.
    Unsupported,
    /// The engine sent something that is not what its interface says.
    Protocol,
    /// What the caller gave to be sent could not be read.
    Input,
    /// The engine's disk is full.
    Full,
}

/// How engines pass on that the system has no room, or that a quota is used up.
const NO_ROOM: [&str; 2] = ["no space left on device", "disk quota exceeded"];

/// Why a call to an engine failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one that lifeboat can connect to.
    #[error("`{address}` is not an engine's address: {detail}")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A file of the TLS identity is missing or unusable.
    #[error("{file} cannot be used for TLS")]
    Tls {
        /// Which file.
        file: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nobody listens at the address.
    #[error("no engine answers at {address}")]
    NoEngine {
        /// Where.
        address: String,
        /// Why the connection failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What listens there wants TLS, and was spoken to in the clear.
    #[error("the engine at {address} speaks TLS only, and DOCKER_TLS_VERIFY is not set")]
    NeedsTls {
        /// Where.
        address: String,
    },
    /// The operating system does not let this user connect.
    #[error("no permission to use the engine at {address}")]
    Permission {
        /// Where.
        address: String,
        /// What the operating system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine is older or newer than what this lifeboat can speak with.
    #[error("the engine at {address} speaks API {least} to {newest}; this lifeboat speaks {ours}")]
    ApiVersion {
        /// Where.
        address: String,
        /// The engine's oldest.
        least: String,
        /// The engine's newest.
        newest: String,
        /// What lifeboat speaks.
        ours: String,
    },
    /// The engine is of a kind that lifeboat does not work with.
    #[error("{0}")]
    Unsupported(String),
    /// The engine answered with a failure.
    #[error("{doing}: the engine answered {status}: {message}")]
    Refused {
        /// What was being done.
        doing: String,
        /// The HTTP status.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// The engine did not answer in time.
    #[error("{doing}: the engine did not answer within {} s", after.as_secs_f32())]
    Timeout {
        /// What was being done.
        doing: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke in the middle.
    #[error("{doing}: the connection to the engine broke")]
    Broken {
        /// What was being done.
        doing: String,
        /// How.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine's answer is not what its interface says.
    #[error("{doing}: the engine's answer is not understood: {detail}")]
    Protocol {
        /// What was being done.
        doing: String,
        /// What is wrong with it.
        detail: String,
    },
    /// What was to be sent to the engine could not be read.
    #[error("{doing}: what was to be sent could not be read")]
    Input {
        /// What was being done.
        doing: String,
        /// Why.
        source: std::io::Error,
    },
    /// The runtime that talks to the engine could not be started.
    #[error("the threads that talk to the engine could not be started")]
    Runtime(#[source] std::io::Error),
    /// The request makes no sense.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. } | Self::Tls { .. } | Self::Usage(_) => ErrorKind::Usage,
            Self::NoEngine { .. }
            | Self::NeedsTls { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::Runtime(_) => ErrorKind::Unavailable,
            Self::Permission { .. } => ErrorKind::Denied,
            Self::ApiVersion { .. } | Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Refused { message, .. } if NO_ROOM.iter().any(|words| message.contains(words)) => {
                ErrorKind::Full
            }
            Self::Refused { status, .. } => match status {
                400 => ErrorKind::Usage,
                401 | 403 => ErrorKind::Denied,
                404 => ErrorKind::NotFound,
                409 => ErrorKind::Conflict,
                501 => ErrorKind::Unsupported,
                _ => ErrorKind::Unavailable,
            },
            Self::Protocol { .. } => ErrorKind::Protocol,
            Self::Input { .. } => ErrorKind::Input,
        }
    }

    /// Whether the engine went away, so that nobody knows what became of a request.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::NoEngine { .. } | Self::Timeout { .. } | Self::Broken { .. })
    }

    /// Whether the engine says that there is no such object.
    pub fn is_not_found(&self) -> bool {
        self.kind() == ErrorKind::NotFound
    }

    /// Whether the engine says that something is used, or there already.
    pub fn is_conflict(&self) -> bool {
        self.kind() == ErrorKind::Conflict
    }

    /// What to type next, where that can be said.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoEngine { address, .. } => {
                format!("docker -H {address} version    # is the engine running, and is this its address?")
            }
            Self::NeedsTls { .. } => {
                "DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=FOLDER lifeboat ...    # ca.pem, cert.pem and key.pem in FOLDER".into()
            }
            Self::Permission { .. } => {
                "sudo lifeboat ...    # or add this user to the group that owns the socket, often `docker`"
                    .into()
            }
            Self::Address { .. } => {
                "--docker-host unix:///var/run/docker.sock    # or tcp://HOST:2376 with DOCKER_TLS_VERIFY=1"
                    .into()
            }
            Self::Tls { .. } => {
                "ls $DOCKER_CERT_PATH    # ca.pem, cert.pem and key.pem belong there, in PEM".into()
            }
            Self::ApiVersion { .. } => "docker version    # update the engine, or lifeboat".into(),
            _ if self.kind() == ErrorKind::Full => {
                "docker system df    # make room on the engine's disk and run the same command again".into()
            }
            _ => return None,
        })
    }
}

/// The result of a call to an engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;
