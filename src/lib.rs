//! x
#[doc = "x"]
pub mod plan;
pub mod reference;

mod auto;
mod backend;
mod batch;
mod blocking;
mod cpu;
mod cross_check;
mod divergence;
mod engine;
mod error;
#[cfg(feature = "gpu")]
mod gpu;
mod outcome;
mod self_test;
mod sums;
mod term;

pub use batch::{Batch, Element, Mass, OnInvalid};
pub use blocking::Engine;
pub use cross_check::CrossCheck;
pub use divergence::Divergence;
pub use error::{Disagreement, Error, InvalidRow, Rule, Side};
#[cfg(feature = "gpu")]
pub use gpu::adapter::{Adapter, AdapterKind, adapters};
pub use outcome::{Outcome, Status};

/// The engine for asynchronous callers.
pub mod nonblocking {
    pub use crate::engine::Engine;
}

/// For the project's own tests: no part of the public interface.
#[cfg(feature = "gpu")]
#[doc(hidden)]
pub mod internal {
    pub use crate::gpu::kernel::{Spec, WORKGROUP_SIZE};
    use crate::gpu::{Gpu, merge, record, rows};
    use crate::plan::Limits;
    use crate::{Adapter, Engine, Error, nonblocking};

    /// Every kernel.
    pub const KERNELS: &[Spec] = &[rows::SPEC, merge::SPEC];
    /// The fields of a record of sums, and their offsets.
    pub const RECORD_FIELDS: &[(&str, usize)] = record::FIELDS;
    /// The flags of a record, by their names in the shaders.
    pub const RECORD_FLAGS: &[(&str, u32)] =
        &[("SOME_INFINITE", record::SOME_INFINITE), ("SOME_STALE", record::SOME_STALE)];

    /// An engine that plans under smaller limits than the adapter's, which wgpu then enforces.
    pub fn engine_under(adapter: &Adapter, limits: Limits) -> Result<Engine, Error> {
        let gpu = pollster::block_on(Gpu::open(adapter, Some(limits)))?;
        Ok(nonblocking::Engine::on(gpu).into())
    }
}
