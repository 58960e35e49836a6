//! The GPU backend: adapters, and batches on one of them through wgpu.

pub(crate) mod adapter;
mod device;
pub(crate) mod kernel;
mod ln_table;
pub(crate) mod merge;
pub(crate) mod record;
pub(crate) mod rows;
pub(crate) mod variant;
mod worker;

use crate::Error;
use crate::plan::Limits;
use adapter::Adapter;
use device::Device;
use worker::Worker;

/// The GPU backend: one open device.
pub(crate) struct Gpu {
    adapter: Adapter,
    limits: Limits,
    /// Whether f64 is computed here.
    pub(crate) has_f64: bool,
    worker: Worker,
}

impl Gpu {
    /// Opens an adapter, under its own limits or those of a cap as far as it has them.
    pub(crate) async fn open(adapter: &Adapter, cap: Option<Limits>) -> Result<Gpu, Error> {
        let limits = adapter.limits(cap);
        let required = adapter.required_limits(&limits);
        let handle = adapter.handle().clone();
        let open = move || pollster::block_on(Device::open(&handle, required, limits));
        let worker = Worker::start(open).await;
        let worker = worker.map_err(|message| fault(adapter, message))?;
        Ok(Gpu { adapter: adapter.clone(), limits, has_f64: adapter.has_f64(), worker })
    }

    /// Opens the first adapter of the machine that is eligible and can be opened.
    pub(crate) async fn first(eligible: impl Fn(&Adapter) -> bool) -> Result<Gpu, Error> {
        let mut reasons = Vec::new();
        for adapter in adapter::adapters().iter().filter(|adapter| eligible(adapter)) {
            match Gpu::open(adapter, None).await {
                Ok(gpu) => return Ok(gpu),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        if reasons.is_empty() {
            reasons.push("none was found; a driver for Vulkan, Metal or DX12 is needed".into());
        }
        Err(Error::NoAdapter { reasons: reasons.join("; ") })
    }

    pub(crate) fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    /// Hands the device a job, at once.
    fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Device) -> Result<R, String> + Send + 'static,
    ) -> impl Future<Output = Result<R, Error>> + Send + '_ {
        let answer = self.worker.run(job);
        async move { answer.await.map_err(|message| self.fault(message)) }
    }

    fn fault(&self, message: String) -> Error {
        fault(&self.adapter, message)
    }
}

fn fault(adapter: &Adapter, message: String) -> Error {
    Error::Device { adapter: adapter.name().to_owned(), message }
}
