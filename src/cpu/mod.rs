//! The CPU backend: rows spread over threads, vector code within a row.

mod rows;

/// The CPU backend. It has no state: threads are rayon's, memory is the caller's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu;
