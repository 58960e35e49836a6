//! The adapters of this machine: what they are, in which order they are tried, and what they allow.

use std::sync::mpsc;
use std::time::Instant;
use std::{fmt, thread};

use super::OPENING;
use super::call::from_now;
use super::fault::Fault;
use super::worker::catch;
use crate::plan::{Limits, MOST_RECORD_BYTES};

/// What an adapter is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterKind {
    /// A GPU with memory of its own.
    DiscreteGpu,
    /// A GPU that shares the processor's memory.
    IntegratedGpu,
    /// A GPU behind a hypervisor.
    VirtualGpu,
    /// Something that does not say what it is.
    Other,
    /// A program that acts as a GPU, such as lavapipe. [`Engine::auto`](crate::Engine::auto) never
    /// takes it: the CPU backend is faster.
    Software,
}

impl AdapterKind {
    pub(crate) fn of(device_type: wgpu::DeviceType) -> AdapterKind {
        match device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::DiscreteGpu,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::IntegratedGpu,
            wgpu::DeviceType::VirtualGpu => AdapterKind::VirtualGpu,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Other,
        }
    }
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AdapterKind::DiscreteGpu => "discrete GPU",
            AdapterKind::IntegratedGpu => "integrated GPU",
            AdapterKind::VirtualGpu => "virtual GPU",
            AdapterKind::Other => "unknown kind",
            AdapterKind::Software => "software",
        })
    }
}

/// An adapter that wgpu found on this machine, not yet opened.
#[derive(Clone, Debug)]
pub struct Adapter {
    handle: wgpu::Adapter,
    name: String,
    driver: String,
    api: String,
    kind: AdapterKind,
    has_f64: bool,
}

impl Adapter {
    fn new(handle: wgpu::Adapter) -> Adapter {
        let info = handle.get_info();
        let kind = AdapterKind::of(info.device_type);
        Adapter {
            has_f64: handle.features().contains(wgpu::Features::SHADER_F64),
            handle,
            name: info.name,
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            api: info.backend.to_string(),
            kind,
        }
    }

    /// Its name, as the driver gives it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The driver and its version, as the driver gives them.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// The API behind it: `vulkan`, `metal` or `dx12`.
    pub fn api(&self) -> &str {
        &self.api
    }

    /// What it is made of.
    pub fn kind(&self) -> AdapterKind {
        self.kind
    }

    /// Whether it computes in f64 as well as in f32.
    pub fn has_f64(&self) -> bool {
        self.has_f64
    }

    /// The same adapter as if it had no f64.
    pub(crate) fn without_f64(self) -> Adapter {
        Adapter { has_f64: false, ..self }
    }

    /// Those of its features that are of use here.
    pub(crate) fn features(&self) -> wgpu::Features {
        let mut useful = wgpu::Features::MAPPABLE_PRIMARY_BUFFERS;
        useful.set(wgpu::Features::SHADER_F64, self.has_f64);
        useful & self.handle.features()
    }

    /// What tells it from other adapters, and from itself with another driver.
    pub(crate) fn identity(&self) -> String {
        let wgpu::AdapterInfo { vendor, device, device_pci_bus_id, .. } = self.handle.get_info();
        let Adapter { name, driver, api, has_f64, .. } = self;
        format!("{api} {vendor:x}:{device:x} {device_pci_bus_id} {name} {driver} f64: {has_f64}")
    }

    /// The same adapter from a driver that is asked anew, if it tells of it until then.
    pub(crate) fn found_again(&self, until: Instant) -> Option<Adapter> {
        let found = look(until.min(from_now(OPENING))).ok()?;
        let adapt = |found: Adapter| match self.has_f64 {
            true => found,
            false => found.without_f64(),
        };
        found.into_iter().map(adapt).find(|found| found.identity() == self.identity())
    }

    pub(crate) fn handle(&self) -> &wgpu::Adapter {
        &self.handle
    }

    /// Whether it works in the processor's own memory, so that a copy for it would be one too many.
    pub(crate) fn shares_memory(&self) -> bool {
        matches!(self.kind, AdapterKind::IntegratedGpu | AdapterKind::Software)
    }

    /// What plans for this adapter have to keep to: what suits it, or a cap, as far as it goes.
    pub(crate) fn limits(&self, cap: Option<Limits>) -> Limits {
        limits(self.kind, &self.handle.limits(), cap)
    }

    /// What to ask of wgpu, so that it refuses whatever exceeds the plan's limits.
    pub(crate) fn required_limits(&self, limits: &Limits) -> wgpu::Limits {
        wgpu::Limits {
            max_storage_buffer_binding_size: limits.binding_bytes,
            max_buffer_size: limits.binding_bytes.next_multiple_of(4),
            max_compute_workgroups_per_dimension: limits.grid,
            ..self.handle.limits()
        }
    }
}

/// What plans for an adapter of this kind have to keep to.
pub(crate) fn limits(kind: AdapterKind, adapter: &wgpu::Limits, cap: Option<Limits>) -> Limits {
    /// Larger bindings are not reliable everywhere.
    const MOST_BINDING_BYTES: u64 = (2 << 30) - 4;
    /// Even logarithms on a weak adapter take no longer than some tens of milliseconds.
    const CHUNK_BYTES: u64 = 32 << 20;
    const SOFTWARE_CHUNK_BYTES: u64 = 8 << 20;
    let invocations = adapter
        .max_compute_invocations_per_workgroup
        .min(adapter.max_compute_workgroup_size_x)
        // Each keeps a record in the workgroup's memory.
        .min(adapter.max_compute_workgroup_storage_size / MOST_RECORD_BYTES as u32)
        .max(1);
    // A software adapter pays for each barrier once per invocation, hardware once.
    let (workgroup_size, lanes, chunk_bytes) = match kind {
        AdapterKind::Software => (64, 1, SOFTWARE_CHUNK_BYTES),
        _ => (256, 256, CHUNK_BYTES),
    };
    let cap = cap.unwrap_or(Limits {
        binding_bytes: MOST_BINDING_BYTES,
        grid: u32::MAX,
        workgroup_size,
        lanes,
        chunk_bytes,
    });
    Limits {
        binding_bytes: cap
            .binding_bytes
            .min(adapter.max_storage_buffer_binding_size)
            .min(adapter.max_buffer_size),
        grid: cap.grid.min(adapter.max_compute_workgroups_per_dimension),
        workgroup_size: cap.workgroup_size.min(1 << invocations.ilog2()),
        lanes: cap.lanes.min(1 << invocations.ilog2()),
        chunk_bytes: cap.chunk_bytes,
    }
}

/// The adapters of this machine, the ones to prefer first. Empty if there is none, or if the drivers
/// have not told of any after 20 seconds.
///
/// Opening one is [`Engine::with_adapter`](crate::Engine::with_adapter).
///
/// ```
/// for adapter in kullback::adapters() {
///     println!("{} ({}) through {}", adapter.name(), adapter.kind(), adapter.api());
/// }
/// ```
pub fn adapters() -> Vec<Adapter> {
    look(from_now(OPENING)).unwrap_or_else(|fault| {
        log::warn!("no GPU adapter: {}", fault.message);
        Vec::new()
    })
}

/// The adapters that the drivers tell of until then, or why there is none.
pub(crate) fn look(until: Instant) -> Result<Vec<Adapter>, Fault> {
    let (tell, told) = mpsc::channel();
    // A driver that hangs keeps the thread, not the caller.
    let looking = thread::Builder::new().name("kullback-adapters".into());
    let looking = looking.spawn(move || {
        // Nobody may be listening any more.
        let _ = tell.send(catch(|| found(wgpu::Backends::PRIMARY, Default::default())));
    });
    looking.map_err(|error| error.to_string())?;
    let left = until.saturating_duration_since(Instant::now());
    let mut adapters = told.recv_timeout(left).unwrap_or_else(|_| Err(Fault::late()))?;
    adapters.sort_by_key(Adapter::kind);
    Ok(adapters)
}

/// The adapter that does nothing of what it is told and reports no error, where wgpu was built with
/// it.
pub(crate) fn idle() -> Option<Adapter> {
    let noop = wgpu::NoopBackendOptions::enabled();
    let options = wgpu::BackendOptions { noop, ..Default::default() };
    found(wgpu::Backends::NOOP, options).ok()?.pop()
}

fn found(
    backends: wgpu::Backends,
    backend_options: wgpu::BackendOptions,
) -> Result<Vec<Adapter>, Fault> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        backend_options,
        // Otherwise debug builds would run other shaders than release builds.
        flags: wgpu::InstanceFlags::empty(),
        // Of a driver that tells how much is left (in percent): an error before it thrashes.
        memory_budget_thresholds: wgpu::MemoryBudgetThresholds {
            for_resource_creation: Some(95),
            ..Default::default()
        },
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapters = pollster::block_on(instance.enumerate_adapters(backends));
    if adapters.is_empty() {
        // An enumeration says nothing of what it did not find.
        let request = instance.request_adapter(&wgpu::RequestAdapterOptions::default());
        pollster::block_on(request).map_err(|error| error.to_string())?;
    }
    Ok(adapters.into_iter().map(Adapter::new).collect())
}
