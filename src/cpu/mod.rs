//! The CPU backend: rows spread over threads, vector code within a row.

mod ahead;
mod bins;
mod block;
mod distribution;
mod entropies_of_logs;
mod entropy;
mod entropy_gradient;
pub(crate) mod family;
mod form;
mod form_gradient;
mod fours;
pub(crate) mod gradient;
mod in_f32;
mod kl_gradient;
mod logs;
mod matrix;
pub(crate) mod pairing;
mod plain;
mod power;
pub(crate) mod rows;
mod short_logs;
mod side_by_side;
mod sums;
pub(crate) mod tile;
mod usual;
mod ways;
mod widen;

/// The CPU backend. It has no state: threads are rayon's, memory is the caller's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu;

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    /// Numbers from 0 to 1 that have no order.
    pub(super) fn noise(row: usize, bin: usize) -> f64 {
        let mixed = (row as u64 * 0x9e37_79b9 + bin as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
        ((mixed >> 40) as f64 + 1.0) / f64::from(1 << 24)
    }

    /// Holds the vector units of this machine against each other: all that fuse products and sums
    /// give the same bits, and the arithmetic without vectors a value that is as good.
    pub(super) fn on_every_vector_unit<O>(op: impl Fn() -> O, value: impl Fn(&O::Output) -> f64)
    where
        O: pulp::WithSimd<Output: Debug + PartialEq>,
    {
        let best = pulp::Arch::new().dispatch(op());
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(avx2) = pulp::x86::V3::try_new() {
                assert_eq!(pulp::Simd::vectorize(avx2, op()), best);
            }
        }
        let scalar = pulp::Arch::Scalar.dispatch(op());
        let (got, want) = (value(&scalar), value(&best));
        assert!(
            (got - want).abs() <= 5e-7 * want.abs(),
            "{scalar:?} without vectors, not {best:?}"
        );
    }
}
