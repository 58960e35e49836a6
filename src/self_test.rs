//! Known rows for a backend to prove itself on.

use ndarray::{Array2, Axis};

use crate::backend::Backend;
use crate::batch::Batch;
use crate::cross_check::cross_check;
use crate::{Divergence, Error, Kind};

/// Lengths around every edge that a shader has: vector loads, workgroups, segments, and the
/// 65,535 loop trips after which some adapters stop without a word.
const LENGTHS: &[usize] = &[2, 3, 15, 16, 17, 64, 65, 256, 257, 1_000, 4_097, 65_536, 70_001];

/// Runs them.
pub(crate) async fn run(backend: &impl Backend) -> Result<(), Error> {
    for &bins in LENGTHS {
        let (p, q) = known_rows(bins);
        check(backend, &Batch::probs(&p, &q)?).await?;
        let (p, q) = (p.mapv(f32::ln), q.mapv(|q| 1.01 * q.ln() + 10.0));
        check(backend, &Batch::of(Kind::LogProbs, &p, Kind::Logits, &q)?).await?;
    }
    Ok(())
}

async fn check(backend: &impl Backend, batch: &Batch<'_, f32>) -> Result<(), Error> {
    let outcome = backend.rows(Divergence::Kl, batch).await?;
    cross_check(Divergence::Kl, batch, &outcome, batch.rows())?;
    match outcome.closer_looks {
        0 => Ok(()),
        // A closer look is right whatever the sums are: here they were so far off that it was taken.
        rows => Err(Error::Device {
            adapter: outcome.adapter.unwrap_or_else(|| outcome.backend.to_owned()),
            message: format!("the sums of {rows} known rows of {} bins are wrong", batch.bins()),
        }),
    }
}

/// Five pairs: far apart, near, identical, infinite, and zeros in both.
fn known_rows(bins: usize) -> (Array2<f32>, Array2<f32>) {
    let noise = |row: usize, bin: usize| {
        let mixed = (row as u64 * 0x9e37_79b9 + bin as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
        ((mixed >> 40) as f32 + 1.0) / (1 << 24) as f32
    };
    let mut p = Array2::from_shape_fn((5, bins), |(row, bin)| noise(row, bin));
    let mut q = Array2::from_shape_fn((5, bins), |(row, bin)| match row {
        0 => noise(9, bin),
        1 => noise(1, bin) * (1.0 + 1e-3 * noise(8, bin)),
        _ => noise(row, bin),
    });
    q[[3, bins - 1]] = 0.0;
    q[[3, 0]] *= 1.5;
    p[[4, 0]] = 0.0;
    for zero in (1..bins).step_by(3).filter(|_| bins > 2) {
        (p[[4, zero]], q[[4, zero]]) = (0.0, 0.0);
    }
    for side in [&mut p, &mut q] {
        for mut row in side.axis_iter_mut(Axis(0)) {
            let mass: f64 = row.iter().map(|&value| f64::from(value)).sum();
            row.mapv_inplace(|value| (f64::from(value) / mass) as f32);
        }
    }
    (p, q)
}
