//! The choice between the backends for one batch, from what each was measured to cost.

#[cfg(feature = "gpu")]
use std::sync::OnceLock;
#[cfg(feature = "gpu")]
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::ArrayView1;

use crate::backend::{Backend, Settings};
use crate::batch::Batch;
#[cfg(feature = "gpu")]
use crate::cost::{self, Costs};
use crate::cpu::Cpu;
use crate::element::Element;
#[cfg(feature = "gpu")]
use crate::gpu::adapter::AdapterKind;
use crate::gradient::Places;
#[cfg(feature = "gpu")]
use crate::recover::Recovering;
use crate::{Divergence, Error, Matrix, Outcome, Pairs};

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
    gpu: Recovering,
    gpu_costs: Costs,
    cpu_costs: Costs,
}

/// Bytes of a batch below which no device round trip can pay.
#[cfg(feature = "gpu")]
const WORTH_A_LOOK: usize = 4 << 20;

impl Backend for Auto {
    async fn rows<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        settings: Settings,
    ) -> Result<Outcome<T::Value>, Error> {
        #[cfg(feature = "gpu")]
        if divergence == Divergence::Kl
            && let Some(gpu) = self.faster_gpu(batch)
        {
            let settings = Settings { cpu_fallback: true, ..settings };
            return gpu.rows(divergence, batch, settings).await;
        }
        self.cpu.rows(divergence, batch, settings).await
    }

    async fn several<T: Element>(
        &self,
        divergences: &[Divergence],
        batch: &Batch<'_, T>,
        settings: Settings,
    ) -> Result<Vec<Outcome<T::Value>>, Error> {
        self.cpu.several(divergences, batch, settings).await
    }

    async fn gradient<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        weights: Option<ArrayView1<'_, T::Value>>,
        places: Places<'_, T::Value>,
        settings: Settings,
    ) -> Result<Outcome<T::Value>, Error> {
        self.cpu.gradient(divergence, batch, weights, places, settings).await
    }

    async fn matrix<T: Element>(
        &self,
        divergence: Divergence,
        pairs: &Pairs<'_, T>,
        settings: Settings,
    ) -> Result<Matrix<T::Value>, Error> {
        self.cpu.matrix(divergence, pairs, settings).await
    }
}

#[cfg(feature = "gpu")]
impl Auto {
    fn faster_gpu<T: Element>(&self, batch: &Batch<'_, T>) -> Option<&Recovering> {
        let bytes = batch.rows().saturating_mul(batch.bins()).saturating_mul(2 * size_of::<T>());
        // What f64 costs a GPU differs too much from one to the next to be guessed from f32.
        if bytes < WORTH_A_LOOK || T::NAME == f64::NAME {
            log::debug!("auto: {bytes} bytes of {} go to the CPU", T::NAME);
            return None;
        }
        let rival = self.rival()?;
        let seconds = |costs: &Costs| {
            let cost = if batch.is_probs() { costs.probs } else { costs.logits };
            cost.seconds(batch.rows(), bytes)
        };
        let (gpu, cpu) = (seconds(&rival.gpu_costs), seconds(&rival.cpu_costs));
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
        let gpu = Recovering::first(|adapter| adapter.kind() != AdapterKind::Software).await?;
        let (gpu_costs, cpu_costs) = (cost::measure(&gpu).await?, cost::measure(&Cpu).await?);
        Ok(Rival { gpu, gpu_costs, cpu_costs })
    }
}
