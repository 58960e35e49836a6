//! The GPU backend: adapters, and batches on one of them through wgpu.

pub(crate) mod adapter;
mod device;
pub(crate) mod kernel;
pub(crate) mod ln_table;
pub(crate) mod merge;
pub(crate) mod record;
pub(crate) mod rows;
pub(crate) mod settle;
pub(crate) mod slot;
pub(crate) mod variant;
mod worker;

use crate::Error;
use crate::plan::Limits;
use adapter::Adapter;
use device::Device;
use slot::Slot;
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
        // What is planned for another adapter also gets its bins as another would.
        let unified = cap.is_none() && adapter.shares_memory();
        let limits = adapter.limits(cap);
        let required = adapter.required_limits(&limits);
        let handle = adapter.handle().clone();
        let open = move || pollster::block_on(Device::open(&handle, required, limits, unified));
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

    /// A slot for so many bytes of P and Q.
    async fn lend(&self, bytes: [usize; 2]) -> Result<Lent<'_>, Error> {
        let slot = self.run(move |device| device.slot(bytes)).await?;
        Ok(Lent { gpu: self, slot: Some(slot) })
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

/// A slot in the hands of a call, which goes back to the device's thread however the call ends.
pub(crate) struct Lent<'a> {
    gpu: &'a Gpu,
    slot: Option<Slot>,
}

impl Lent<'_> {
    fn slot(&self) -> Result<&Slot, Error> {
        self.slot.as_ref().ok_or_else(|| self.gpu.fault("a slot was lost".into()))
    }

    /// Lets the device do something with the slot.
    async fn run<R: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Device, Slot) -> Result<(R, Slot), String> + Send + 'static,
    ) -> Result<R, Error> {
        let slot = self.slot.take().ok_or_else(|| self.gpu.fault("a slot was lost".into()))?;
        let (result, slot) = self.gpu.run(move |device| job(device, slot)).await?;
        self.slot = Some(slot);
        Ok(result)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            // The job is handed over at once; nobody waits for it.
            drop(self.gpu.run(move |device| {
                device.take_back(slot);
                Ok(())
            }));
        }
    }
}

fn fault(adapter: &Adapter, message: String) -> Error {
    Error::Device { adapter: adapter.name().to_owned(), message }
}
