//! What goes wrong on a device, as it is told from the device's thread to the caller.

use super::adapter::Adapter;
use crate::Error;
use crate::error::Cause;

/// A fault: of which kind, and in the words of whoever noticed it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub cause: Cause,
    pub message: String,
}

impl Fault {
    /// A fault of a kind, unless the message tells of a lack of memory: wgpu calls a device lost
    /// that ran out of it, and panics over it in some calls.
    pub(crate) fn new(cause: Cause, message: impl Into<String>) -> Fault {
        let message = message.into();
        let cause =
            if message.to_lowercase().contains("memory") { Cause::OutOfMemory } else { cause };
        Fault { cause, message }
    }

    /// Results that are not what the job owed.
    pub(crate) fn wrong(message: String) -> Fault {
        Fault { cause: Cause::Wrong, message }
    }

    /// An answer that did not come in time.
    pub(crate) fn late() -> Fault {
        Fault { cause: Cause::TimedOut, message: "it gave no answer in time".into() }
    }

    pub(crate) fn on(self, adapter: &Adapter) -> Error {
        let Fault { cause, message } = self;
        Error::Device { adapter: adapter.name().to_owned(), cause, message }
    }
}

impl From<String> for Fault {
    fn from(message: String) -> Fault {
        Fault::new(Cause::Other, message)
    }
}

impl From<&str> for Fault {
    fn from(message: &str) -> Fault {
        Fault::new(Cause::Other, message)
    }
}

impl From<wgpu::Error> for Fault {
    fn from(error: wgpu::Error) -> Fault {
        let cause = match error {
            wgpu::Error::OutOfMemory { .. } => Cause::OutOfMemory,
            _ => Cause::Other,
        };
        Fault { cause, message: error.to_string() }
    }
}
