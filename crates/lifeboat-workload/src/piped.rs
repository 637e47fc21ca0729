//! Bytes that a thread makes while somebody reads them.
//!
//! Must stay true: who reads to the end without an error has read all that the thread made, and it succeeded; the thread
//! is waited for, whoever gives up first.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::thread::JoinHandle;

type Made = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// What a thread makes.
#[derive(Debug)]
pub(crate) struct Piped {
    // Both are there until the end was read.
    passed: Option<PipeReader>,
    making: Option<JoinHandle<Made>>,
}

impl Piped {
    /// Begins to make bytes. `make` fails where nobody reads them any more.
    pub(crate) fn begin<E>(
        make: impl FnOnce(PipeWriter) -> Result<(), E> + Send + 'static,
    ) -> io::Result<Self>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let (passed, passing) = io::pipe()?;
        let making = std::thread::Builder::new()
            .name("lifeboat-archive".into())
            .spawn(move || make(passing).map_err(|error| Box::new(error) as _))?;
        Ok(Self { passed: Some(passed), making: Some(making) })
    }
}

impl Read for Piped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(passed) = &mut self.passed else { return Ok(0) };
        match passed.read(buffer)? {
            0 if !buffer.is_empty() => {
                self.passed = None;
                match self.making.take().map(JoinHandle::join) {
                    None | Some(Ok(Ok(()))) => Ok(0),
                    Some(Ok(Err(error))) => Err(io::Error::other(error)),
                    Some(Err(_)) => Err(io::Error::other("the thread that makes the archive panicked")),
                }
            }
            length => Ok(length),
        }
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // Without a reader the thread's next write fails. It is waited for, because it holds helpers that have to go.
        self.passed = None;
        if let Some(making) = self.making.take() {
            let _ = making.join();
        }
    }
}
