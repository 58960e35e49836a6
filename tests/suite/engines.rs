//! The engines that every test body runs on. One that is missing is a failure, not a skip.

use std::sync::OnceLock;

use kullback::Engine;

/// All of them. With the feature `gpu` an adapter must be there.
pub fn engines() -> &'static [Engine] {
    static ENGINES: OnceLock<Vec<Engine>> = OnceLock::new();
    ENGINES.get_or_init(|| {
        #[cfg_attr(not(feature = "gpu"), expect(unused_mut))]
        let mut engines = vec![Engine::cpu()];
        #[cfg(feature = "gpu")]
        engines.extend(gpu::engines());
        engines
    })
}

/// Those that take rows of any length: all but the one under tiny limits.
pub fn roomy_engines() -> &'static [Engine] {
    let engines = engines();
    &engines[..engines.len().min(3)]
}

/// Those that compute f64: all but those on an adapter that has none.
pub fn f64_engines() -> impl Iterator<Item = &'static Engine> {
    #[cfg(feature = "gpu")]
    let able = |engine: &&Engine| engine.adapter().is_none_or(kullback::Adapter::has_f64);
    #[cfg(not(feature = "gpu"))]
    let able = |_: &&Engine| true;
    engines().iter().filter(able)
}

#[cfg(feature = "gpu")]
pub mod gpu {
    use kullback::plan::Limits;
    use kullback::{Adapter, Engine, adapters, internal};

    /// Limits under which rows of a few hundred bins are split over bindings, chunks and rounds of
    /// merging, and a few rows over grids and chunks.
    ///
    /// The longest row under them has 64 records of 256 bins each: see `plan.rs`.
    pub const TINY: Limits =
        Limits { binding_bytes: 2048, grid: 3, workgroup_size: 2, lanes: 2, chunk_bytes: 1024 };

    /// What hardware is planned for, also where the adapter is a program.
    const HARDWARE: Limits = Limits {
        binding_bytes: 128 << 20,
        grid: 65_535,
        workgroup_size: 256,
        lanes: 256,
        chunk_bytes: 8 << 20,
    };

    pub fn adapter() -> Adapter {
        let found = adapters();
        let first = found.into_iter().next();
        first.expect("the tests need a Vulkan, Metal or DX12 adapter: see the README")
    }

    pub fn engines() -> Vec<Engine> {
        let adapter = adapter();
        let whole = Engine::with_adapter(&adapter).expect("the adapter opens");
        let hardware = internal::engine_under(&adapter, HARDWARE).expect("the adapter opens");
        let tiny = internal::engine_under(&adapter, TINY).expect("the adapter opens");
        vec![whole, hardware, tiny]
    }
}
