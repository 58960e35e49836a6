//! Seeded rows for the tests.

use kullback::Element;
use ndarray::{Array2, ArrayView2, Axis};

/// A generator of its own, so that the rows stay the same whatever the dependencies do
/// (Steele, Lea and Flood 2014: SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from (0, 1].
    pub fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

/// Rows of one side, each divided by its sum.
pub fn distributions<T: Element>(rows: usize, bins: usize, seed: u64) -> Array2<T> {
    let mut random = Random(seed);
    // The logarithm of a uniform number: weights as a Dirichlet distribution with α = 1 has them.
    normalized(Array2::from_shape_fn((rows, bins), |_| 1e-9 - random.uniform().ln()).view())
}

/// The rows divided by their sums, in the type.
pub fn normalized<T: Element>(weights: ArrayView2<'_, f64>) -> Array2<T> {
    let mut rows = weights.to_owned();
    for mut row in rows.axis_iter_mut(Axis(0)) {
        let mass = row.sum();
        row.mapv_inplace(|weight| weight / mass);
    }
    rows.mapv(T::from_f64)
}

/// A copy of the rows with every bin changed by a relative amount of about `epsilon`.
pub fn nearby<T: Element>(rows: &Array2<T>, epsilon: f64, seed: u64) -> Array2<T> {
    let mut random = Random(seed);
    let changed = rows.mapv(|p| p.to_f64() * (1.0 + epsilon * (random.uniform() - 0.5)));
    normalized(changed.view())
}
