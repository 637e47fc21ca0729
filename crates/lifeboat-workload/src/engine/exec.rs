//! Commands inside a running container.
//!
//! Must stay true: standard output and standard error are told apart, so nothing runs in a terminal; a command counts as
//! done only when its exit code was asked for after its output ended. Standard input ends for the command when
//! [`ExecInput`] is closed, and also when this process dies: that is what holds hang on.
//! An exec cannot be killed through the engine: whoever gives up closes the input and signals the process by its id.

use super::Engine;
use super::call::{QUICK, Route, plain_name};
use super::error::{Error, Result};
use super::views::number;
use bollard::container::LogOutput;
use bollard::errors::Error as BollardError;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use futures_util::{Stream, StreamExt};
use serde_json::Value;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// After its output ended, an exec is over at once but for the engine's book-keeping.
const END_WAIT: Duration = Duration::from_secs(10);
const END_POLL: Duration = Duration::from_millis(20);

/// What to run, and as whom.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    /// The program and its arguments; no shell unless it is named here.
    pub command: Vec<String>,
    /// `USER` or `USER:GROUP`, names or numbers; `None` means the container's.
    pub user: Option<String>,
    /// `NAME=VALUE`. They are seen in the process table of the engine's machine.
    pub environment: Vec<String>,
    /// Where to run it; `None` means the container's.
    pub directory: Option<String>,
    /// Whether the command gets an open standard input, or none.
    pub with_input: bool,
}

/// A command that was started.
pub struct ExecSession {
    engine: Engine,
    /// The engine's id of it.
    pub id: String,
    /// What it says.
    pub output: ExecOutput,
    /// What it is told; `None` without standard input, or after it was taken.
    pub input: Option<ExecInput>,
}

/// The output of a command. It can go to a thread of its own.
pub struct ExecOutput {
    engine: Engine,
    doing: String,
    stream: Pin<Box<dyn Stream<Item = Result<LogOutput, BollardError>> + Send>>,
}

/// The standard input of a command. It can go to a thread of its own.
///
/// Dropping it closes it.
pub struct ExecInput {
    engine: Engine,
    doing: String,
    writer: Option<Pin<Box<dyn AsyncWrite + Send>>>,
}

/// A piece of what a command says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// On standard output.
    Standard(Vec<u8>),
    /// On standard error.
    Error(Vec<u8>),
}

/// What came out of waiting for output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextOutput {
    /// This was said.
    Output(Output),
    /// Nothing, for as long as was waited.
    Quiet,
    /// Both outputs are closed.
    End,
}

/// How a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecEnd {
    /// Whether it still runs.
    pub is_running: bool,
    /// Its exit code; `None` while it runs.
    pub exit_code: Option<i64>,
    /// Its process id in the engine's view; 0 before and after.
    pub pid: u64,
}

impl Engine {
    /// Starts a command in a running container. The engine refuses it in a paused one.
    pub fn exec(&self, container: &str, request: &ExecRequest) -> Result<ExecSession> {
        let container = plain_name(container)?;
        let program = request.command.first().map_or("nothing", String::as_str);
        let doing = format!("running `{program}` in container {container}");
        let config = ExecConfig {
            attach_stdin: Some(request.with_input),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            cmd: Some(request.command.clone()),
            env: Some(request.environment.clone()),
            user: request.user.clone(),
            working_dir: request.directory.clone(),
            ..ExecConfig::default()
        };
        let id = self.wait(&doing, QUICK, self.bollard().create_exec(container, config))?.id;
        let start = StartExecOptions { detach: false, tty: false, output_capacity: None };
        match self.wait(&doing, QUICK, self.bollard().start_exec(plain_name(&id)?, Some(start)))? {
            StartExecResults::Attached { output, input } => {
                let input = ExecInput { engine: self.clone(), doing: doing.clone(), writer: Some(input) };
                Ok(ExecSession {
                    engine: self.clone(),
                    id,
                    output: ExecOutput { engine: self.clone(), doing, stream: output },
                    // Without standard input the engine does not read; the writer is closed by being dropped here.
                    input: request.with_input.then_some(input),
                })
            }
            StartExecResults::Detached => Err(self.shapeless(&doing)),
        }
    }

    /// How a command stands, by the engine's id of it.
    pub fn exec_end(&self, id: &str) -> Result<ExecEnd> {
        let answer = self.get("asking how a command ended", Route::new(&["exec", id, "json"]))?;
        let is_running = answer.get("Running").and_then(Value::as_bool).unwrap_or_default();
        let exit_code = answer.get("ExitCode").and_then(Value::as_i64).filter(|_| !is_running);
        Ok(ExecEnd { is_running, exit_code, pid: number(&answer, "/Pid") })
    }
}

impl ExecSession {
    /// How the command stands now.
    pub fn end(&self) -> Result<ExecEnd> {
        self.engine.exec_end(&self.id)
    }

    /// The exit code, once the output has ended; `None` where the command runs on without it.
    pub fn exit_code(&self) -> Result<Option<i64>> {
        let deadline = Instant::now() + END_WAIT;
        loop {
            let end = self.end()?;
            if !end.is_running || Instant::now() > deadline {
                return Ok(end.exit_code);
            }
            std::thread::sleep(END_POLL);
        }
    }
}

impl ExecOutput {
    /// Waits for the next piece of output, for at most `limit`.
    pub fn next(&mut self, limit: Duration) -> Result<NextOutput> {
        let Self { engine, doing, stream } = self;
        let next = engine.wait(doing, limit, async { stream.next().await.transpose() });
        let output = match next {
            Err(Error::Timeout { .. }) => return Ok(NextOutput::Quiet),
            Err(error) => return Err(error),
            Ok(None) => return Ok(NextOutput::End),
            Ok(Some(output)) => output,
        };
        match output {
            LogOutput::StdOut { message } => Ok(NextOutput::Output(Output::Standard(message.into()))),
            LogOutput::StdErr { message } => Ok(NextOutput::Output(Output::Error(message.into()))),
            // bollard gives as a console's what has no valid header: bytes are missing or the stream was cut.
            LogOutput::Console { .. } | LogOutput::StdIn { .. } => Err(Error::Protocol {
                doing: doing.clone(),
                detail: "a piece of the output has no valid header".to_owned(),
            }),
        }
    }
}

impl ExecInput {
    /// Writes all of it, for at most `limit`.
    pub fn write(&mut self, bytes: &[u8], limit: Duration) -> Result<()> {
        let Self { engine, doing, writer } = self;
        let Some(writer) = writer else {
            return Err(Error::Usage(format!("{doing}: its standard input is closed")));
        };
        engine.wait(doing, limit, async {
            writer.write_all(bytes).await?;
            Ok(writer.flush().await?)
        })
    }

    /// Ends the command's standard input.
    pub fn close(mut self) -> Result<()> {
        self.shut()
    }

    fn shut(&mut self) -> Result<()> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        // Dropping the writer alone would leave the connection open for as long as its other half is read.
        self.engine.wait(&self.doing, QUICK, async { Ok(writer.shutdown().await?) })
    }
}

impl Drop for ExecInput {
    fn drop(&mut self) {
        // What cannot be closed is broken, and then it is at its end too.
        let _ = self.shut();
    }
}

impl std::fmt::Debug for ExecSession {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ExecSession({})", self.output.doing)
    }
}

impl std::fmt::Debug for ExecOutput {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ExecOutput({})", self.doing)
    }
}

impl std::fmt::Debug for ExecInput {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ExecInput({})", self.doing)
    }
}
