//! The GPU backend: adapters, and batches on one of them through wgpu.

pub(crate) mod adapter;
pub(crate) mod call;
pub(crate) mod clock;
mod device;
pub(crate) mod family;
pub(crate) mod fault;
pub(crate) mod gradient;
pub(crate) mod kernel;
pub(crate) mod ln_table;
pub(crate) mod matrix;
pub(crate) mod merge;
pub(crate) mod record;
pub(crate) mod rows;
pub(crate) mod settle;
pub(crate) mod slot;
pub(crate) mod variant;
mod worker;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_intrusive::sync::{Semaphore, SemaphoreReleaser};

use crate::Error;
use crate::element::Value;
use crate::memory::available_memory;
use crate::plan::Limits;
use adapter::Adapter;
use call::Call;
use clock::Clock;
use device::Device;
use fault::Fault;
use slot::Slot;
use worker::Worker;

/// How long a driver may take to find its adapters, and to open one.
pub(crate) const OPENING: Duration = Duration::from_secs(20);
/// A driver that notices by itself that it is late says more than we could.
const GRACE: Duration = Duration::from_millis(400);
/// One part in this many of the memory that there is to take goes to slots: software adapters and
/// integrated GPUs take it from the host, and do not always say that there is none.
const MEMORY_SHARE: u64 = 4;
/// A slot takes the chunk of each side, a copy of both where the device has memory of its own, the
/// gradients in both and what is read back of them, and some records beside.
const CHUNKS_PER_SLOT: u64 = 10;
/// So many times what it waits for a device a call waits for a slot while the device does nothing: those
/// who hold them may have much to do on the host.
const PATIENCE: u32 = 4;
/// More calls than this at a time do not make a device any faster.
const MOST_SLOTS: u64 = 64;

/// The GPU backend: one open device, and nothing once that has failed.
pub(crate) struct Gpu {
    adapter: Adapter,
    limits: Limits,
    worker: Worker,
    clock: Arc<Clock>,
    /// As many slots as there is memory for.
    slots: Semaphore,
}

impl Gpu {
    /// Opens an adapter, under its own limits or those of a cap as far as it has them, and with
    /// chunks of at most so many bytes.
    pub(crate) async fn open(
        adapter: &Adapter,
        cap: Option<Limits>,
        chunk_bytes: u64,
        clock: &Arc<Clock>,
        until: Instant,
    ) -> Result<Gpu, Error> {
        // What is planned for another adapter also gets its bins as another would.
        let unified = cap.is_none() && adapter.shares_memory();
        let memory = available_memory() as u64 / MEMORY_SHARE;
        let mut limits = adapter.limits(cap);
        limits.chunk_bytes = limits.chunk_bytes.min(chunk_bytes).min(memory / CHUNKS_PER_SLOT);
        let slots = memory / CHUNKS_PER_SLOT / limits.chunk_bytes.max(1);
        let (handle, required) = (adapter.handle().clone(), adapter.required_limits(&limits));
        let features = adapter.features();
        let open =
            move || pollster::block_on(Device::open(&handle, features, required, limits, unified));
        let gpu = Gpu {
            adapter: adapter.clone(),
            limits,
            worker: Worker::start(open).map_err(|fault| fault.on(adapter))?,
            clock: clock.clone(),
            slots: Semaphore::new(true, slots.clamp(1, MOST_SLOTS) as usize),
        };
        gpu.run(until, |_| Ok(())).await?;
        Ok(gpu)
    }

    pub(crate) fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Under which plans are made.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// A slot for so many bytes of P and Q. Unless it is wanted at once, it may be waited for: as long
    /// as the device does something for other calls. Should these hold all slots and do nothing, as
    /// where one waits on the thread that another is to go on on, this ends in time all the same.
    async fn lend<V: Value>(
        &self,
        call: &mut Call<V>,
        bytes: [usize; 2],
        at_once: bool,
    ) -> Result<Option<Lent<'_>>, Error> {
        let mut permit = self.slots.try_acquire(1);
        if permit.is_none() && !at_once {
            let mut waiting = pin!(self.slots.acquire(1));
            let (mut done, mut idle) = (self.worker.last_done(), 0);
            while permit.is_none() && idle < PATIENCE {
                call.progressed();
                permit = self.clock.within(call.until, waiting.as_mut()).await;
                let now = self.worker.last_done();
                idle = if now == done { idle + 1 } else { 0 };
                done = now;
            }
            if permit.is_none() {
                return Err(self.fault(Fault::late()));
            }
            call.progressed();
        }
        let Some(permit) = permit else { return Ok(None) };
        let slot = self.run(call.until, move |device| device.slot(bytes)).await?;
        Ok(Some(Lent { gpu: self, slot: Some(slot), _permit: permit }))
    }

    /// Does the device an injury, and does not wait for it to show.
    pub(crate) fn injure(&self, injury: Injury) {
        drop(self.worker.run(move |device| match injury {
            Injury::Loss => {
                device.destroy();
                Ok(())
            }
            Injury::Hang(time) => {
                std::thread::sleep(time);
                Ok(())
            }
            Injury::Fault(message) => Err(message.into()),
            Injury::Panic => panic!("an injury"),
        }));
    }

    /// Hands the device a job, at once, and waits for its answer until then.
    fn run<R: Send + 'static>(
        &self,
        until: Instant,
        job: impl FnOnce(&mut Device) -> Result<R, Fault> + Send + 'static,
    ) -> impl Future<Output = Result<R, Error>> + Send + '_ {
        let answer = self.worker.run(job);
        let answer = self.in_time(until, answer);
        async move { answer.await?.map_err(|fault| self.fault(fault)) }
    }

    /// What comes until then. A device that is later than that is given up, unless it was at the jobs of
    /// others meanwhile, or nobody looked.
    fn in_time<F: Future>(
        &self,
        until: Instant,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Error>> {
        let mut alive = Instant::now();
        let time = until.saturating_duration_since(alive) + GRACE;
        async move {
            let mut future = pin!(future);
            loop {
                let until = alive + time;
                if let Some(output) = self.clock.within(until, future.as_mut()).await {
                    return Ok(output);
                }
                let last = match clock::is_missed(until) {
                    true => Instant::now(),
                    false => self.worker.last_done(),
                };
                if last <= alive {
                    self.worker.give_up();
                    return Err(self.fault(Fault::late()));
                }
                alive = last;
            }
        }
    }

    fn fault(&self, fault: impl Into<Fault>) -> Error {
        fault.into().on(&self.adapter)
    }
}

/// What tests do to a device.
#[derive(Clone, Copy, Debug)]
pub enum Injury {
    /// The driver loses it.
    Loss,
    /// It does nothing for so long.
    Hang(Duration),
    /// It reports a fault, in these words.
    Fault(&'static str),
    /// wgpu panics.
    Panic,
}

/// A slot in the hands of a call, which goes back to the device's thread however the call ends.
pub(crate) struct Lent<'a> {
    gpu: &'a Gpu,
    slot: Option<Slot>,
    _permit: SemaphoreReleaser<'a>,
}

impl Lent<'_> {
    fn slot(&self) -> Result<&Slot, Error> {
        self.slot.as_ref().ok_or_else(|| self.gpu.fault("a slot was lost"))
    }

    /// Lets the device do something with the slot.
    async fn run<R: Send + 'static>(
        &mut self,
        until: Instant,
        job: impl FnOnce(&mut Device, Slot) -> Result<(R, Slot), Fault> + Send + 'static,
    ) -> Result<R, Error> {
        let slot = self.slot.take().ok_or_else(|| self.gpu.fault("a slot was lost"))?;
        let (result, slot) = self.gpu.run(until, move |device| job(device, slot)).await?;
        self.slot = Some(slot);
        Ok(result)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            // The job is handed over at once; nobody waits for it.
            drop(self.gpu.worker.run(move |device| {
                device.take_back(slot);
                Ok(())
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread::sleep;

    use super::*;
    use call::from_now;
    use rows::tests::gpu;

    fn milliseconds(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    /// A process that was stopped comes back like that, and so does a caller with something else to do.
    #[test]
    fn a_device_is_not_late_where_nobody_looked() {
        let gpu = gpu();
        let answer = gpu.run(from_now(milliseconds(600)), |_| {
            sleep(milliseconds(2_500));
            Ok(1)
        });
        sleep(milliseconds(2_200));
        assert_eq!(pollster::block_on(answer), Ok(1));
    }

    #[test]
    fn a_device_is_not_late_while_it_does_the_jobs_of_others() {
        let gpu = gpu();
        for _ in 0..5 {
            drop(gpu.run(from_now(OPENING), |_| {
                sleep(milliseconds(300));
                Ok(())
            }));
        }
        assert_eq!(pollster::block_on(gpu.run(from_now(milliseconds(600)), |_| Ok(1))), Ok(1));
    }

    #[test]
    fn a_device_that_does_nothing_is_late() {
        let gpu = gpu();
        let (let_go, held) = channel::<()>();
        let hangs = gpu.run(from_now(milliseconds(50)), move |_| {
            let _ = held.recv();
            Ok(())
        });
        assert_eq!(pollster::block_on(hangs), Err(gpu.fault(Fault::late())));
        drop(let_go);
    }
}
