//! The threads of rayon, which all that is computed on the CPU shares.

use std::error::Error as _;
use std::sync::OnceLock;

use rayon::ThreadPoolBuilder;

use crate::Error;

/// So many numbers on a side are a single task on the CPU, which takes no other threads: a segment of
/// [`chain`](crate::chain), the shortest of all.
const FEW: usize = 1 << 14;

/// Makes sure that there are threads for that many numbers: rayon starts its own at their first use, and
/// panics if the system starts none.
///
/// # Errors
/// [`Error::Thread`].
pub(crate) fn ready_for(numbers: usize) -> Result<(), Error> {
    if numbers <= FEW { Ok(()) } else { ready() }
}

/// The same for what takes threads however small it is.
///
/// # Errors
/// [`Error::Thread`].
pub(crate) fn ready() -> Result<(), Error> {
    // For good: rayon tries it once.
    static FAILED: OnceLock<Option<String>> = OnceLock::new();
    if rayon::current_thread_index().is_some() {
        // The caller's own.
        return Ok(());
    }
    let failed = FAILED.get_or_init(|| {
        let started = ThreadPoolBuilder::new().build_global();
        // Without a source, they are there already.
        started.err().filter(|error| error.source().is_some()).map(|error| error.to_string())
    });
    match failed {
        None => Ok(()),
        Some(message) => Err(Error::Thread { message: message.clone() }),
    }
}
