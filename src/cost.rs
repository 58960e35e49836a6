//! What calls on a backend cost, measured on the machine at hand.

use std::time::{Duration, Instant};

use ndarray::ArrayView2;

use crate::backend::{Backend, Settings};
use crate::batch::{Batch, Mass};
use crate::kind::Kind;
use crate::{Divergence, Error};

/// Time that one kind of input may take, of the 50 ms that `auto` has for two kinds on two backends.
const PER_KIND: Duration = Duration::from_millis(10);
/// Bytes of both sides of the largest batch.
const LARGEST: usize = 8 << 20;

/// What calls on an engine cost, from data in the caller's memory to results in it, as
/// [`Engine::costs`](crate::Engine::costs) measured it in f32.
///
/// ```
/// let costs = kullback::Engine::cpu().costs()?;
/// // A million rows of 64 bins:
/// assert!(costs.probs.seconds(1_000_000, 64 * 1_000_000 * 8) > 0.0);
/// # Ok::<(), kullback::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Costs {
    /// Of probabilities on both sides.
    pub probs: Cost,
    /// Of logits on both sides; that of log-probabilities is alike.
    pub logits: Cost,
}

/// What calls on one kind of input cost. A model of three numbers: some calls cost more or less.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Cost {
    /// Seconds that each call takes.
    pub per_call: f64,
    /// Seconds that each row takes beside its bins.
    pub per_row: f64,
    /// Seconds that each byte of input takes, both sides counted.
    pub per_byte: f64,
}

impl Cost {
    /// The seconds that a batch of so many rows and bytes is expected to take.
    pub fn seconds(&self, rows: usize, bytes: usize) -> f64 {
        self.per_call + self.per_row * rows as f64 + self.per_byte * bytes as f64
    }

    /// From the time of a call with next to nothing to do, and of two batches `(rows, bytes,
    /// seconds)`, of which the rows of the second are the longer.
    fn fit(per_call: f64, short: (usize, usize, f64), long: (usize, usize, f64)) -> Cost {
        let beyond = |(rows, bytes, seconds): (usize, usize, f64)| {
            let per_row = (seconds - per_call).max(0.0) / rows as f64;
            (bytes as f64 / rows as f64, per_row)
        };
        let ((short_bytes, short_row), (long_bytes, long_row)) = (beyond(short), beyond(long));
        let slope = (long_row - short_row) / (long_bytes - short_bytes);
        // In noise longer rows may seem to cost no more, but their bytes are not for nothing.
        let per_byte = if slope > 0.0 { slope } else { long.2 / long.1 as f64 };
        let per_row = (short_row - per_byte * short_bytes).max(0.0);
        Cost { per_call, per_row, per_byte }
    }
}

/// Measures a backend that has computed before.
pub(crate) async fn measure(backend: &impl Backend) -> Result<Costs, Error> {
    let side = |period: usize| -> Vec<f32> {
        (0..LARGEST / 2 / size_of::<f32>()).map(|at| (1 + at % period) as f32).collect()
    };
    let (p, q) = (side(5), side(7));
    Ok(Costs {
        probs: of_kind(backend, Kind::Probs, &p, &q).await?,
        logits: of_kind(backend, Kind::Logits, &p, &q).await?,
    })
}

async fn of_kind(backend: &impl Backend, kind: Kind, p: &[f32], q: &[f32]) -> Result<Cost, Error> {
    const SHORT: usize = 8;
    const LONG: usize = 1024;
    let mut per_call = f64::INFINITY;
    for _ in 0..3 {
        per_call = per_call.min(seconds(backend, kind, p, q, 1, SHORT).await?);
    }
    let mut found = [(0, 0, 0.0); 2];
    for (bins, found) in [SHORT, LONG].into_iter().zip(&mut found) {
        let start = Instant::now();
        let mut rows = 32;
        loop {
            // The first of a size has memory to find, and threads to wake.
            let first = seconds(backend, kind, p, q, rows, bins).await?;
            let seconds = first.min(seconds(backend, kind, p, q, rows, bins).await?);
            let bytes = 2 * rows * bins * size_of::<f32>();
            *found = (rows, bytes, seconds);
            let telling = seconds > 4.0 * per_call && seconds > 3e-4;
            // The next two would take four times as long each.
            let late =
                (start.elapsed().as_secs_f64() + 8.0 * seconds) > PER_KIND.as_secs_f64() / 2.0;
            if telling || late || 4 * bytes > LARGEST {
                break;
            }
            rows *= 4;
        }
    }
    let [short, long] = found;
    Ok(Cost::fit(per_call, short, long))
}

/// The time of one call.
async fn seconds(
    backend: &impl Backend,
    kind: Kind,
    p: &[f32],
    q: &[f32],
    rows: usize,
    bins: usize,
) -> Result<f64, Error> {
    let side = |side| ArrayView2::from_shape((rows, bins), side);
    let (Ok(p), Ok(q)) = (side(&p[..rows * bins]), side(&q[..rows * bins])) else {
        return Ok(0.0); // cannot be: the slice has as many numbers as the shape
    };
    // No mass is refused, and none is far from the other.
    let batch = Batch::of(kind, p, kind, q)?.with_mass(Mass::Generalized);
    let start = Instant::now();
    backend.rows(Divergence::Kl, &batch, Settings::default()).await?;
    Ok(start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;

    #[test]
    fn a_fit_gives_back_what_it_was_made_of() {
        let cost = Cost { per_call: 2e-4, per_row: 3e-8, per_byte: 1e-10 };
        let of = |rows, bins: usize| (rows, rows * bins, cost.seconds(rows, rows * bins));
        let fit = Cost::fit(2e-4, of(10_000, 64), of(700, 8192));
        for (got, want) in [(fit.per_row, cost.per_row), (fit.per_byte, cost.per_byte)] {
            assert!((got / want - 1.0).abs() < 1e-9, "{fit:?}, not {cost:?}");
        }
    }

    #[test]
    fn a_fit_of_noise_is_neither_negative_nor_for_nothing() {
        let fit = Cost::fit(1e-3, (100, 6400, 9e-4), (10, 81_920, 8e-4));
        assert_eq!(fit, Cost { per_call: 1e-3, per_row: 0.0, per_byte: 8e-4 / 81_920.0 });
        // Short rows that a thread was late for.
        let fit = Cost::fit(1e-6, (100, 6400, 2e-3), (100, 819_200, 1e-3));
        assert_eq!(fit.per_byte, 1e-3 / 819_200.0);
    }

    #[test]
    fn the_cpu_costs_something() {
        let costs = pollster::block_on(measure(&Cpu)).unwrap();
        for cost in [costs.probs, costs.logits] {
            assert!(cost.per_call > 0.0 && cost.per_row + cost.per_byte > 0.0, "{costs:?}");
        }
    }
}
