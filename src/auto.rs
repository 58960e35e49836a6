//! The choice between the backends for one batch, from what each was measured to cost.

#[cfg(feature = "gpu")]
use std::sync::OnceLock;
#[cfg(feature = "gpu")]
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "gpu")]
use std::time::Instant;

#[cfg(feature = "gpu")]
use ndarray::Array2;

use crate::backend::Backend;
use crate::batch::Batch;
use crate::cpu::Cpu;
use crate::element::Element;
#[cfg(feature = "gpu")]
use crate::gpu::{Gpu, adapter::AdapterKind};
use crate::{Divergence, Error, Outcome};
#[cfg(feature = "gpu")]
use crate::{kind::Kind, self_test};

/// Both backends, and which of them to take.
#[derive(Default)]
pub(crate) struct Auto {
    cpu: Cpu,
    #[cfg(feature = "gpu")]
    rival: OnceLock<Option<Rival>>,
    /// Whether some call has begun to look for a rival.
    #[cfg(feature = "gpu")]
    looking: AtomicBool,
}

/// A hardware GPU, and what the two backends cost on this machine.
#[cfg(feature = "gpu")]
struct Rival {
    gpu: Gpu,
    /// Of probabilities, and of logarithms.
    gpu_costs: [Cost; 2],
    cpu_costs: [Cost; 2],
}

/// Bytes of a batch below which no device round trip can pay.
#[cfg(feature = "gpu")]
const WORTH_A_LOOK: usize = 4 << 20;

impl Backend for Auto {
    async fn rows<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
    ) -> Result<Outcome<T::Value>, Error> {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = self.faster_gpu(batch) {
            match gpu.rows(divergence, batch).await {
                Err(error @ (Error::Device { .. } | Error::TooLong { .. })) => {
                    log::warn!("{error}; the batch is computed on the CPU");
                }
                result => return result,
            }
        }
        self.cpu.rows(divergence, batch).await
    }
}

#[cfg(feature = "gpu")]
impl Auto {
    fn faster_gpu<T: Element>(&self, batch: &Batch<'_, T>) -> Option<&Gpu> {
        let bytes = batch.rows().saturating_mul(batch.bins()).saturating_mul(2 * size_of::<T>());
        // What f64 costs a GPU differs too much from one to the next to be guessed from f32.
        if bytes < WORTH_A_LOOK || T::NAME == f64::NAME {
            log::debug!("auto: {bytes} bytes of {} go to the CPU", T::NAME);
            return None;
        }
        let rival = self.rival()?;
        let family = usize::from(!batch.is_probs());
        let gpu = rival.gpu_costs[family].seconds(bytes);
        let cpu = rival.cpu_costs[family].seconds(bytes);
        log::debug!("auto: {bytes} bytes would take the GPU {gpu:.3} s and the CPU {cpu:.3} s");
        (gpu < cpu).then_some(&rival.gpu)
    }

    /// The rival, looked for by the first call that wants it. Calls that come meanwhile do without:
    /// to wait here could be to wait for oneself, on a thread that rayon lent.
    fn rival(&self) -> Option<&Rival> {
        if self.rival.get().is_none() && !self.looking.swap(true, Ordering::AcqRel) {
            let found = pollster::block_on(Rival::find());
            match &found {
                Ok(rival) => log::info!(
                    "auto: {} costs {:?}, the CPU {:?}",
                    rival.gpu.adapter().name(),
                    rival.gpu_costs,
                    rival.cpu_costs
                ),
                Err(error) => log::info!("auto uses the CPU: {error}"),
            }
            // Nobody else can have set it.
            let _ = self.rival.set(found.ok());
        }
        self.rival.get()?.as_ref()
    }
}

#[cfg(feature = "gpu")]
impl Rival {
    async fn find() -> Result<Rival, Error> {
        let gpu = Gpu::first(|adapter| adapter.kind() != AdapterKind::Software).await?;
        self_test::run(&gpu).await?;
        let gpu_costs = [Cost::of(&gpu, Kind::Probs).await?, Cost::of(&gpu, Kind::Logits).await?];
        let cpu_costs = [Cost::of(&Cpu, Kind::Probs).await?, Cost::of(&Cpu, Kind::Logits).await?];
        Ok(Rival { gpu, gpu_costs, cpu_costs })
    }
}

/// What a call costs, from data in the caller's memory to results in it.
#[cfg(feature = "gpu")]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    per_call: f64,
    per_byte: f64,
}

#[cfg(feature = "gpu")]
impl Cost {
    /// Measured on a small and a larger batch, each once to warm up and once to count.
    async fn of(backend: &impl Backend, kind: Kind) -> Result<Cost, Error> {
        const BINS: usize = 256;
        const LARGE: usize = 4096;
        let mut seconds = [0.0; 2];
        for (rows, seconds) in [1, LARGE].into_iter().zip(&mut seconds) {
            // Two sides, so that as many bytes are read as are counted.
            let [p, q] = [(); 2].map(|()| Array2::from_elem((rows, BINS), 1.0 / BINS as f32));
            let batch = Batch::of(kind, &p, kind, &q)?;
            backend.rows(Divergence::Kl, &batch).await?;
            let start = Instant::now();
            backend.rows(Divergence::Kl, &batch).await?;
            *seconds = start.elapsed().as_secs_f64();
        }
        let [small, large] = seconds;
        let bytes = (LARGE * BINS * 2 * size_of::<f32>()) as f64;
        Ok(Cost { per_call: small, per_byte: (large - small).max(0.0) / bytes })
    }

    fn seconds(&self, bytes: usize) -> f64 {
        self.per_call + self.per_byte * bytes as f64
    }
}
