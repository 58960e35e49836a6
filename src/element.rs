//! The types that numbers come in, and the ones that results come in.

use std::fmt::{Debug, Display};

use half::{bf16, f16};

use crate::batch::Batch;
use crate::cpu::rows::Loops;
use crate::term::Term;

/// A floating-point type that input comes in: `f32`, `f64`, [`half::f16`] or [`half::bf16`].
///
/// This trait is sealed.
///
/// ```
/// use half::bf16;
/// use kullback::Engine;
/// use ndarray::array;
///
/// let p = array![[0.75, 0.25]].mapv(bf16::from_f64);
/// let q = array![[0.5, 0.5]].mapv(bf16::from_f64);
/// let kl: ndarray::Array1<f32> = Engine::cpu().kl(&p, &q)?;
/// assert!((kl[0] - 0.130812).abs() < 1e-6);
/// # Ok::<(), kullback::Error>(())
/// ```
pub trait Element:
    Copy + Debug + Default + Display + PartialEq + Send + Sync + bytemuck::Pod + sealed::Sealed
{
    /// The type of the arithmetic and of the results: f32 for all but f64.
    type Value: Value;
    /// The type's name, as messages spell it.
    const NAME: &'static str;
    /// How far a mass may lie from 1 under [`Mass::Check`](crate::Mass::Check), unless set
    /// otherwise: 1e-3, and 1e-2 for the types of 16 bits.
    const MASS_TOLERANCE: f64;

    /// The same number in the type of the arithmetic, which holds it exactly.
    fn widen(self) -> Self::Value;
    /// The nearest f32, which is the same number for all types but f64.
    fn to_f32(self) -> f32 {
        self.to_f64() as f32
    }
    /// The same batch where this is the type of the arithmetic.
    #[doc(hidden)]
    fn as_values<'b, 'a>(_: &'b Batch<'a, Self>) -> Option<&'b Batch<'a, Self::Value>> {
        None
    }
    /// The nearest number of this type; ±inf beyond its range.
    fn from_f64(value: f64) -> Self;
    /// The same number as an f64, which holds it exactly.
    fn to_f64(self) -> f64 {
        self.widen().to_f64()
    }
}

/// A floating-point type that results come in: `f32` or `f64`.
///
/// This trait is sealed.
pub trait Value: Element<Value = Self> + Term + Loops {
    /// The relative difference from the reference that a cross-check accepts: 16 units in the
    /// last place for f32; 64 for f64, of which the reference may owe some.
    const CROSS_CHECK: f64;
}

impl Element for f32 {
    type Value = f32;
    const NAME: &'static str = "f32";
    const MASS_TOLERANCE: f64 = 1e-3;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    fn as_values<'b, 'a>(batch: &'b Batch<'a, f32>) -> Option<&'b Batch<'a, f32>> {
        Some(batch)
    }

    #[inline(always)]
    fn from_f64(value: f64) -> f32 {
        value as f32
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Value for f32 {
    const CROSS_CHECK: f64 = 16.0 * f32::EPSILON as f64;
}

impl Element for f64 {
    type Value = f64;
    const NAME: &'static str = "f64";
    const MASS_TOLERANCE: f64 = 1e-3;

    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }

    fn as_values<'b, 'a>(batch: &'b Batch<'a, f64>) -> Option<&'b Batch<'a, f64>> {
        Some(batch)
    }

    #[inline(always)]
    fn from_f64(value: f64) -> f64 {
        value
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
}

impl Value for f64 {
    const CROSS_CHECK: f64 = 64.0 * f64::EPSILON;
}

impl Element for f16 {
    type Value = f32;
    const NAME: &'static str = "f16";
    const MASS_TOLERANCE: f64 = 1e-2;

    /// In integers and without a branch, so that whole vectors of them are widened at once.
    #[inline(always)]
    fn widen(self) -> f32 {
        const BIAS: u32 = (127 - 15) << 23;
        const TWO_TO_MINUS_24: f32 = f32::from_bits((127 - 24) << 23);
        let bits = u32::from(self.to_bits());
        let magnitude = bits & 0x7fff;
        let subnormal = (magnitude as i32 as f32 * TWO_TO_MINUS_24).to_bits();
        let normal = (magnitude << 13) + BIAS;
        let finite = if magnitude < 0x0400 { subnormal } else { normal };
        let top = if magnitude < 0x7c00 { finite } else { (magnitude << 13) | 0x7f80_0000 };
        f32::from_bits(top | (bits & 0x8000) << 16)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self.widen()
    }

    fn from_f64(value: f64) -> f16 {
        f16::from_f64(value)
    }
}

impl Element for bf16 {
    type Value = f32;
    const NAME: &'static str = "bf16";
    const MASS_TOLERANCE: f64 = 1e-2;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self.widen()
    }

    fn from_f64(value: f64) -> bf16 {
        bf16::from_f64(value)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_16_bits_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let (f, b) = (f16::from_bits(bits), bf16::from_bits(bits));
            // The crate half is the judge; it may make another NaN of a NaN.
            for (got, want) in [(f.widen(), f.to_f32()), (b.widen(), b.to_f32())] {
                let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
                assert!(same, "{bits:#06x}: {got:e} for {want:e}");
            }
        }
    }
}
