//! One bin of the sum, in the form that cannot be negative.
//!
//! `Σ p·ln(p/q) = Σ g(p, q) + Σ (p − q)` with `g = p·ln(p/q) − p + q ≥ 0`: a sum of such
//! terms cannot cancel, whatever its order. `g` itself is formed without subtracting nearly
//! equal numbers:
//!
//! * `k` is the integer nearest to `log2(p/q)`, read off the two bit patterns, and 0 as long as
//!   they lie less than one octave apart; `q' = q·2^k` is exact.
//! * `n = p − q'` and `s = n / (p + q')`, so that `ln(p/q) = k·ln 2 + 2·atanh(s)`, `|s| < 1/3`.
//! * With `atanh(s) = s·(1 + t)` and `d = p − q`:
//!   `g = n·(s + (1 + s)·t) + p·k·ln 2 + (n − d)`. For `k = 0` the last two summands are exactly
//!   0 and what remains is a product.
//!
//! The same steps stand in `shaders/shared/term.wgsl`.

use std::fmt::{Debug, Display, LowerExp};
use std::ops::{Add, Mul, Sub};

/// What one bin adds to the sums of its row.
#[derive(Clone, Copy, Debug)]
pub struct Bin<T: Term> {
    /// `p·ln(p/q) − p + q`; +inf where `p > 0 = q`; meaningless if `top` says invalid.
    pub(crate) g: T,
    /// `p − q`.
    pub(crate) d: T,
    /// `p·ln(p/q)`, for those few who want it by itself.
    pub(crate) log: T,
    /// The larger of the two bit patterns as unsigned integers: at least [`Term::INFINITE`]
    /// exactly if one of the two is NaN, infinite or negative.
    pub(crate) top: T::Bits,
}

/// The arithmetic that the sums need of a floating-point type.
pub trait Term:
    Copy
    + Debug
    + Default
    + Display
    + LowerExp
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + 'static
{
    /// An unsigned integer as wide as the type.
    type Bits: Copy + Default + Ord + Send + Sync + Debug;

    /// The bit pattern of +inf.
    const INFINITE: Self::Bits;
    /// The bit pattern from which on a row's sums might overflow.
    const HUGE: Self::Bits;
    /// A mass below this may owe digits to subnormal numbers.
    const FAINT: f64;

    /// One bin.
    fn bin(p: Self, q: Self) -> Bin<Self>;
    /// The value as an f64, which holds it exactly.
    fn to_f64(self) -> f64;
    /// The nearest value of this type; ±inf beyond its range.
    fn from_f64(value: f64) -> Self;
}

/// `atanh(s) = s·(1 + s²·(c₀ + c₁s² + …))`: Chebyshev fit over `|s| ≤ 1/3` in 40-digit
/// arithmetic, coefficients rounded to f32; relative error of `g` below 4e-9.
pub(crate) const ATANH_F32: [f32; 5] =
    [0.333_333_34, 0.199_998_53, 0.142_961_79, 0.108_532_876, 0.116_121_65];

/// The same fit for f64; relative error of `g` below 8e-18.
const ATANH_F64: [f64; 11] = [
    0.3333333333333333,
    0.19999999999999762,
    0.1428571428580005,
    0.11111111099118386,
    0.09090909948981357,
    0.07692271982430275,
    0.06667589315724629,
    0.05867139530651599,
    0.05422589197440007,
    0.03746071897775383,
    0.07815288900461426,
];

impl Term for f32 {
    type Bits = u32;
    const INFINITE: u32 = 0x7f80_0000;
    const HUGE: u32 = (127 + 64) << 23;
    const FAINT: f64 = 8.673617379884035e-19; // 2^-60

    #[inline(always)]
    fn bin(p: f32, q: f32) -> Bin<f32> {
        const ONE_OCTAVE: i32 = 1 << 23;
        const ONE: u32 = 127 << 23;
        const TWO_TO_MINUS_75: f32 = f32::from_bits((127 - 75) << 23);
        let (pb, qb) = (unsigned_zero_f32(p), unsigned_zero_f32(q));
        let both = pb != 0 && qb != 0;
        let (p1, p_exponent) = lift_f32(if both { pb } else { ONE });
        let (q1, q_exponent) = lift_f32(if both { qb } else { ONE });

        let octaves = p1.wrapping_sub(q1) as i32;
        let near = octaves < ONE_OCTAVE && octaves > -ONE_OCTAVE;
        let k = if near { 0 } else { octaves.wrapping_add(ONE_OCTAVE / 2) >> 23 };
        let pv = f32::from_bits(p1);
        let qv = f32::from_bits(q1.wrapping_add((k << 23) as u32));
        let n = pv - qv;
        let s = n / (pv + qv);
        let z = s * s;
        let t = z * ATANH_F32.iter().rev().fold(0.0, |sum, &c| sum * z + c);

        // A lifted p is brought back in two steps, since 2^-149 itself is subnormal.
        let scale = if p_exponent == 0 { 1.0 } else { TWO_TO_MINUS_75 };
        let rest = if p_exponent == 0 { 1.0 } else { 2.0 * TWO_TO_MINUS_75 };
        let log2 = (k + p_exponent - q_exponent) as f32;
        let d = p - q;
        let curve = n * (s + (1.0 + s) * t) + pv * (log2 * std::f32::consts::LN_2);
        let g = curve * scale * rest + (n * scale * rest - d);
        let log = curve * scale * rest + n * scale * rest;
        let alone = if pb == 0 { q } else { f32::INFINITY };
        Bin {
            g: if both { g } else { alone },
            d,
            log: if both { log } else { alone - q },
            top: pb.max(qb),
        }
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn from_f64(value: f64) -> f32 {
        value as f32
    }
}

impl Term for f64 {
    type Bits = u64;
    const INFINITE: u64 = 0x7ff0_0000_0000_0000;
    const HUGE: u64 = (1023 + 900) << 52;
    const FAINT: f64 = 1.1830521861667747e-271; // 2^-900

    #[inline(always)]
    fn bin(p: f64, q: f64) -> Bin<f64> {
        bin_with_residue(p, q, 0.0)
    }

    fn to_f64(self) -> f64 {
        self
    }

    fn from_f64(value: f64) -> f64 {
        value
    }
}

/// `t` of `atanh(s) = s·(1 + t)` from `z = s²`, for `|s| ≤ 1/3`.
#[inline(always)]
pub(crate) fn atanh_tail(z: f64) -> f64 {
    z * ATANH_F64.iter().rev().fold(0.0, |sum, &c| sum * z + c)
}

/// One bin of `p` against `q + residue`, where the residue is what rounding took from `q`.
#[inline(always)]
pub(crate) fn bin_with_residue(p: f64, q: f64, residue: f64) -> Bin<f64> {
    const ONE_OCTAVE: i64 = 1 << 52;
    const ONE: u64 = 1023 << 52;
    const TWO_TO_MINUS_537: f64 = f64::from_bits((1023 - 537) << 52);
    let (pb, qb) = (unsigned_zero_f64(p), unsigned_zero_f64(q));
    let both = pb != 0 && qb != 0;
    let (p1, p_exponent) = lift_f64(if both { pb } else { ONE });
    let (q1, q_exponent) = lift_f64(if both { qb } else { ONE });

    let octaves = p1.wrapping_sub(q1) as i64;
    let near = octaves < ONE_OCTAVE && octaves > -ONE_OCTAVE;
    let k = if near { 0 } else { octaves.wrapping_add(ONE_OCTAVE / 2) >> 52 };
    let pv = f64::from_bits(p1);
    let qv = f64::from_bits(q1.wrapping_add((k << 52) as u64));
    let n = (pv - qv) - if near { residue } else { 0.0 };
    let s = n / (pv + qv);
    let t = atanh_tail(s * s);

    let scale = if p_exponent == 0 { 1.0 } else { TWO_TO_MINUS_537 };
    let log2 = f64::from(k as i32 + p_exponent - q_exponent);
    let d = (p - q) - residue;
    let curve = n * (s + (1.0 + s) * t) + pv * (log2 * std::f64::consts::LN_2);
    let g = curve * scale * scale + (n * scale * scale - d);
    let log = curve * scale * scale + n * scale * scale;
    let alone = if pb == 0 { q } else { f64::INFINITY };
    Bin {
        g: if both { g } else { alone },
        d,
        log: if both { log } else { alone - q },
        top: pb.max(qb),
    }
}

/// The bit pattern, with −0 counted as 0: every other sign bit then marks an invalid value.
#[inline(always)]
fn unsigned_zero_f32(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits == 1 << 31 { 0 } else { bits }
}

#[inline(always)]
fn unsigned_zero_f64(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits == 1 << 63 { 0 } else { bits }
}

/// The bit pattern of 2^-102, below which numbers are lifted.
pub(crate) const TINY_F32: u32 = 25 << 23;

/// Multiplies numbers below 2^-102 by 2^149, in integers so that a hardware that flushes
/// subnormals does the same; returns the bits of the product and the exponent to give back.
#[inline(always)]
fn lift_f32(bits: u32) -> (u32, i32) {
    let normal = bits.wrapping_add(149 << 23);
    let subnormal = (bits as i32 as f32).to_bits();
    let lifted = if bits < 1 << 23 { subnormal } else { normal };
    let tiny = bits < TINY_F32;
    (if tiny { lifted } else { bits }, if tiny { -149 } else { 0 })
}

/// Multiplies numbers below 2^-968 by 2^1074.
#[inline(always)]
fn lift_f64(bits: u64) -> (u64, i32) {
    let normal = bits.wrapping_add(1074 << 52);
    let subnormal = (bits as i64 as f64).to_bits();
    let lifted = if bits < 1 << 52 { subnormal } else { normal };
    let tiny = bits < 55 << 52;
    (if tiny { lifted } else { bits }, if tiny { -1074 } else { 0 })
}
