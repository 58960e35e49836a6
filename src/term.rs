//! One bin of the sum, in the form that cannot be negative.
//!
//! `Σ p·ln(p/q) = Σ g(p, q) + Σ (p − q)` with `g = p·ln(p/q) − p + q ≥ 0`: a sum of such
//! terms cannot cancel, whatever its order. `g` itself is formed without subtracting nearly
//! equal numbers:
//!
//! * `k` is the number of octaves that p and q lie apart, an integer read off the two bit patterns;
//!   `q' = q·2^k` is exact.
//! * `n = p − q'` and `s = n / (p + q')`, so that `ln(p/q) = k·ln 2 + 2·atanh(s)`.
//! * With `atanh(s) = s·(1 + t)`:
//!   `g = n·(s + (1 + s)·t) + p·k·ln 2 + (q − q')`. For `k = 0` the last two summands are exactly
//!   0 and what remains is a product; for `k = ±1`, where they cancel most, the last one is exact.
//!
//! k is rounded towards 0, so that `|s| < 1/3`. The nearest integer would leave `|s| ≤ 1/5` and a
//! shorter series, but more to cancel between the last two summands. Where a fused multiply-add
//! rounds them once, that does no harm, and so it is done in f32.
//!
//! The same steps stand in `shaders/shared/term_f32.wgsl` and, but for the order of a series, in
//! `shaders/shared/term_f64.wgsl`.

use std::fmt::{Debug, Display, LowerExp};
use std::ops::{Add, BitAnd, BitOr, Mul, Sub};

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
    type Bits: Copy
        + Default
        + Ord
        + Send
        + Sync
        + Debug
        + BitAnd<Output = Self::Bits>
        + BitOr<Output = Self::Bits>;

    /// The bit pattern of +inf.
    const INFINITE: Self::Bits;
    /// The bit pattern from which on a row's sums might overflow.
    const HUGE: Self::Bits;
    /// A mass below this may owe digits to subnormal numbers.
    const FAINT: f64;

    /// −0, which no sum has to be told of: a compiler leaves out what adds to it.
    const NOTHING: Self;
    /// The least usual number.
    const LEAST_USUAL: Self;
    /// The number of which [`HUGE`](Self::HUGE) is the bit pattern. What is right for usual numbers is right for
    /// larger ones too, up to this.
    const MOST: Self;
    /// +inf.
    const INFINITY: Self;
    /// The bits of what follows that tell a number which is not usual.
    const STRANGE: Self::Bits;

    /// Has bits of [`STRANGE`](Self::STRANGE) unless the number is usual: positive, not so small that
    /// it would have to be lifted, and of no more octaves above that than two bits of the exponent
    /// tell. These may be collected from many numbers.
    fn strangeness(self) -> Self::Bits;
    /// One bin of usual numbers: `g` and `d`, with the same bits as [`bin`](Self::bin).
    fn usual_bin<const FUSED: bool>(p: Self, q: Self) -> (Self, Self);
    /// One bin. `FUSED` says whether products are rounded before something is added to them.
    fn bin<const FUSED: bool>(p: Self, q: Self) -> Bin<Self>;
}

/// The same over `|s| ≤ 1/5`: minimax fit of the relative error of `g`, which is below 2.9e-8.
pub(crate) const ATANH_FIFTH: [f32; 3] = [0.333_334_2, 0.199_832_3, 0.151_033_27];

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
    const NOTHING: f32 = -0.0;
    const LEAST_USUAL: f32 = f32::from_bits(TINY_F32);
    const MOST: f32 = f32::from_bits(Self::HUGE);
    const INFINITY: f32 = f32::INFINITY;
    const STRANGE: u32 = 3 << 30;

    #[inline(always)]
    fn strangeness(self) -> u32 {
        self.to_bits().wrapping_sub(TINY_F32)
    }

    #[inline(always)]
    fn usual_bin<const FUSED: bool>(p: f32, q: f32) -> (f32, f32) {
        /// ln 2 in units of the exponent's lowest bit.
        const LN_2: f32 = std::f32::consts::LN_2 / ONE_OCTAVE_F32 as f32;
        let k = octaves_f32::<FUSED>(p.to_bits().wrapping_sub(q.to_bits()) as i32);
        let q_near = f32::from_bits(q.to_bits().wrapping_add(k as u32));
        let n = p - q_near;
        let s = n / (p + q_near);
        let beyond = mul_add::<FUSED>(p, k as f32 * LN_2, q - q_near);
        (curve_f32::<FUSED>(n, s, beyond), p - q)
    }

    #[inline(always)]
    fn bin<const FUSED: bool>(p: f32, q: f32) -> Bin<f32> {
        const ONE: u32 = 127 << 23;
        const TWO_TO_MINUS_75: f32 = f32::from_bits((127 - 75) << 23);
        let (pb, qb) = (unsigned_zero_f32(p), unsigned_zero_f32(q));
        let both = pb != 0 && qb != 0;
        let (p1, p_exponent) = lift_f32(if both { pb } else { ONE });
        let (q1, q_exponent) = lift_f32(if both { qb } else { ONE });

        let k = octaves_f32::<FUSED>(p1.wrapping_sub(q1) as i32) >> 23;
        let pv = f32::from_bits(p1);
        let qv = f32::from_bits(q1.wrapping_add((k << 23) as u32));
        let n = pv - qv;
        let s = n / (pv + qv);

        // A lifted p is brought back in two steps, since 2^-149 itself is subnormal.
        let scale = if p_exponent == 0 { 1.0 } else { TWO_TO_MINUS_75 };
        let rest = if p_exponent == 0 { 1.0 } else { 2.0 * TWO_TO_MINUS_75 };
        let log2 = (k + p_exponent - q_exponent) as f32;
        let curve = curve_f32::<FUSED>(n, s, pv * (log2 * std::f32::consts::LN_2));
        let beyond = q - qv * scale * rest;
        let g = match p_exponent {
            // What cancels is rounded once.
            0 => {
                let more = mul_add::<FUSED>(pv, log2 * std::f32::consts::LN_2, beyond);
                curve_f32::<FUSED>(n, s, more)
            }
            _ => curve * scale * rest + beyond,
        };
        let log = curve * scale * rest + n * scale * rest;
        let alone = if pb == 0 { q } else { f32::INFINITY };
        Bin {
            g: if both { g } else { alone },
            d: p - q,
            log: if both { log } else { alone - q },
            top: pb.max(qb),
        }
    }
}

impl Term for f64 {
    type Bits = u64;
    const INFINITE: u64 = 0x7ff0_0000_0000_0000;
    const HUGE: u64 = (1023 + 900) << 52;
    const FAINT: f64 = 1.1830521861667747e-271; // 2^-900
    const NOTHING: f64 = -0.0;
    const LEAST_USUAL: f64 = f64::from_bits(TINY_F64);
    const MOST: f64 = f64::from_bits(Self::HUGE);
    const INFINITY: f64 = f64::INFINITY;
    const STRANGE: u64 = 3 << 62;

    #[inline(always)]
    fn strangeness(self) -> u64 {
        self.to_bits().wrapping_sub(TINY_F64)
    }

    #[inline(always)]
    fn usual_bin<const FUSED: bool>(p: f64, q: f64) -> (f64, f64) {
        let k = whole_octaves_f64(p.to_bits().wrapping_sub(q.to_bits()) as i64);
        let q_near = f64::from_bits(q.to_bits().wrapping_add(k as u64));
        let n = p - q_near;
        let s = n / (p + q_near);
        let t = atanh_tail::<FUSED>(s * s);
        let log = exponent(k) * std::f64::consts::LN_2;
        let beyond = mul_add_f64::<FUSED>(p, log, q - q_near);
        (curve_f64::<FUSED>(n, s, t, beyond), p - q)
    }

    #[inline(always)]
    fn bin<const FUSED: bool>(p: f64, q: f64) -> Bin<f64> {
        bin_with_residue::<FUSED>(p, q, 0.0)
    }
}

pub(crate) const ONE_OCTAVE_F32: i32 = 1 << 23;
const ONE_OCTAVE_F64: i64 = 1 << 52;

/// The exponent's part of a difference of bit patterns, rounded to the nearest or towards 0.
#[inline(always)]
fn octaves_f32<const NEAREST: bool>(apart: i32) -> i32 {
    let towards_0 = (apart >> 31) & (ONE_OCTAVE_F32 - 1);
    apart.wrapping_add(if NEAREST { ONE_OCTAVE_F32 / 2 } else { towards_0 }) & -ONE_OCTAVE_F32
}

/// The same in f64, towards 0 and without the shift that few vector units have.
#[inline(always)]
pub(crate) fn whole_octaves_f64(apart: i64) -> i64 {
    apart.wrapping_add(if apart < 0 { ONE_OCTAVE_F64 - 1 } else { 0 }) & -ONE_OCTAVE_F64
}

/// `k / 2^52` for a multiple of 2^52, without the instruction for it that few vector units have.
#[inline(always)]
pub(crate) fn exponent(k: i64) -> f64 {
    const TWO_TO_52: u64 = (1023 + 52) << 52;
    let biased = ((k as u64).wrapping_add(1 << 63) >> 52) | TWO_TO_52;
    f64::from_bits(biased) - (f64::from_bits(TWO_TO_52) + 2048.0)
}

/// `ln(p/q)` of usual numbers.
#[inline(always)]
pub(crate) fn ln_ratio_f32<const FUSED: bool>(p: f32, q: f32) -> f32 {
    let k = octaves_f32::<FUSED>(p.to_bits().wrapping_sub(q.to_bits()) as i32);
    let q_near = f32::from_bits(q.to_bits().wrapping_add(k as u32));
    ln_f32::<FUSED>(k, (p - q_near) / (p + q_near))
}

/// The same with a difference `n = p − q` that has more digits than the two numbers.
#[inline(always)]
pub(crate) fn ln_ratio_beside_f32<const FUSED: bool>(p: f32, q: f32, n: f32) -> f32 {
    let (octaves, s) = ratio_f32::<FUSED>(p, q, n);
    mul_add::<FUSED>(octaves, std::f32::consts::LN_2, ln_near_f32::<FUSED>(s))
}

/// The octaves of such a ratio, and the `s` of the `(1 + s)/(1 − s)` that is left.
#[inline(always)]
pub(crate) fn ratio_f32<const FUSED: bool>(p: f32, q: f32, n: f32) -> (f32, f32) {
    let k = octaves_f32::<FUSED>(p.to_bits().wrapping_sub(q.to_bits()) as i32);
    let q_near = f32::from_bits(q.to_bits().wrapping_add(k as u32));
    ((k >> 23) as f32, if k == 0 { n } else { p - q_near } / (p + q_near))
}

/// `p·ln(p/q) − p + q` of such numbers.
#[inline(always)]
pub(crate) fn bregman_f32<const FUSED: bool>(p: f32, q: f32, n: f32) -> f32 {
    let k = octaves_f32::<FUSED>(p.to_bits().wrapping_sub(q.to_bits()) as i32);
    let q_near = f32::from_bits(q.to_bits().wrapping_add(k as u32));
    let n = if k == 0 { n } else { p - q_near };
    let log = (k >> 23) as f32 * std::f32::consts::LN_2;
    curve_f32::<FUSED>(n, n / (p + q_near), mul_add::<FUSED>(p, log, q - q_near))
}

/// The logarithm of a ratio that is some octaves, by their bits, and `(1 + s)/(1 − s)`.
#[inline(always)]
fn ln_f32<const FUSED: bool>(k: i32, s: f32) -> f32 {
    mul_add::<FUSED>((k >> 23) as f32, std::f32::consts::LN_2, ln_near_f32::<FUSED>(s))
}

/// `ln((1 + s)/(1 − s))` for the s that [`octaves_f32`] leaves.
#[inline(always)]
pub(crate) fn ln_near_f32<const FUSED: bool>(s: f32) -> f32 {
    let (twice, z) = (s + s, s * s);
    mul_add::<FUSED>(twice, z * atanh_series_f32::<FUSED>(z), twice)
}

/// `w` of `atanh(s) = s·(1 + z·w)` from `z = s²`, for the s that [`octaves_f32`] leaves.
#[inline(always)]
fn atanh_series_f32<const FUSED: bool>(z: f32) -> f32 {
    let fma = mul_add::<FUSED>;
    if FUSED {
        let [c0, c1, c2] = ATANH_FIFTH;
        return fma(fma(c2, z, c1), z, c0);
    }
    let [c0, c1, c2, c3, c4] = ATANH_F32;
    fma(fma(fma(fma(c4, z, c3), z, c2), z, c1), z, c0)
}

/// `t = z·w` in f64.
#[inline(always)]
pub(crate) fn atanh_tail<const FUSED: bool>(z: f64) -> f64 {
    let fma = mul_add_f64::<FUSED>;
    let [c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10] = ATANH_F64;
    // In parts that need not wait for each other.
    let (z2, low) = (z * z, [fma(z, c1, c0), fma(z, c3, c2)]);
    let middle = [fma(z, c5, c4), fma(z, c7, c6)];
    let high = fma(z2, c10, fma(z, c9, c8));
    let z4 = z2 * z2;
    let above = fma(z4, high, fma(z2, middle[1], middle[0]));
    z * fma(z4, above, fma(z2, low[1], low[0]))
}

/// `n·(s + (1 + s)·t)`, and what is to be added to it.
#[inline(always)]
fn curve_f32<const FUSED: bool>(n: f32, s: f32, more: f32) -> f32 {
    let z = s * s;
    let w = atanh_series_f32::<FUSED>(z);
    mul_add::<FUSED>(n, mul_add::<FUSED>(z, mul_add::<FUSED>(s, w, w), s), more)
}

#[inline(always)]
pub(crate) fn curve_f64<const FUSED: bool>(n: f64, s: f64, t: f64, more: f64) -> f64 {
    mul_add_f64::<FUSED>(n, mul_add_f64::<FUSED>(s, t, s + t), more)
}

/// `a·b + c`, rounded once or twice. All vector units that matter fuse the two; where there is no
/// instruction for it, a library would take a hundred times as long to do the same.
#[inline(always)]
pub(crate) fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
pub(crate) fn mul_add_f64<const FUSED: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The lesser of two numbers, the second if one is NaN: one instruction where [`f64::min`] is three.
#[inline(always)]
pub(crate) fn lesser(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

/// The greater of the two, likewise.
#[inline(always)]
pub(crate) fn greater(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// A difference, and what rounding takes from it, which is itself a number (Knuth 1969).
#[inline(always)]
pub(crate) fn difference_in_two(a: f64, b: f64) -> (f64, f64) {
    let apart = a - b;
    let seen = apart - a;
    (apart, (a - (apart - seen)) - (b + seen))
}

/// One bin of `p` against `q + residue`, where the residue is what rounding took from `q`.
#[inline(always)]
pub(crate) fn bin_with_residue<const FUSED: bool>(p: f64, q: f64, residue: f64) -> Bin<f64> {
    const ONE: u64 = 1023 << 52;
    const TWO_TO_MINUS_537: f64 = f64::from_bits((1023 - 537) << 52);
    let (pb, qb) = (unsigned_zero_f64(p), unsigned_zero_f64(q));
    let both = pb != 0 && qb != 0;
    let (p1, p_exponent) = lift_f64(if both { pb } else { ONE });
    let (q1, q_exponent) = lift_f64(if both { qb } else { ONE });

    let k = whole_octaves_f64(p1.wrapping_sub(q1) as i64) >> 52;
    let near = k == 0;
    let pv = f64::from_bits(p1);
    let qv = f64::from_bits(q1.wrapping_add((k << 52) as u64));
    let n = (pv - qv) - if near { residue } else { 0.0 };
    let s = n / (pv + qv);
    let t = atanh_tail::<FUSED>(s * s);

    let scale = if p_exponent == 0 { 1.0 } else { TWO_TO_MINUS_537 };
    let ln_2s = f64::from(k as i32 + p_exponent - q_exponent) * std::f64::consts::LN_2;
    let d = (p - q) - residue;
    let curve = curve_f64::<FUSED>(n, s, t, pv * ln_2s);
    let beyond = (q - qv * scale * scale) + if near { 0.0 } else { residue };
    let g = match p_exponent {
        0 => curve_f64::<FUSED>(n, s, t, mul_add_f64::<FUSED>(pv, ln_2s, beyond)),
        _ => curve * scale * scale + beyond,
    };
    let log = curve * scale * scale + n * scale * scale;
    let alone = if pb == 0 { q } else { f64::INFINITY };
    Bin {
        g: if both { g } else { alone },
        d,
        log: if both { log } else { alone - q },
        top: pb.max(qb),
    }
}

/// `eˣ` for x up to 709, with 0 from −708 down; relative error below 2e-16 for an exact `x`.
///
/// `x = k·ln 2 + r` with `|r| ≤ ln 2 / 2`.
#[inline(always)]
pub(crate) fn exp<const FUSED: bool>(x: f64) -> f64 {
    /// Has its unit in the last place at 1: what is added to it is rounded to an integer.
    const ROUND: f64 = 6755399441055744.0; // 1.5 · 2^52
    let fma = mul_add_f64::<FUSED>;
    let inside = x > -708.0;
    let x = if inside { x } else { 0.0 };
    let shifted = fma(x, std::f64::consts::LOG2_E, ROUND);
    let k = shifted - ROUND;
    let r = fma(-k, LN_2_LOW, fma(-k, LN_2_HIGH, x));
    let mantissa = 1.0 + fma(r * r, exp_series::<FUSED>(r), r);
    // The lowest bits of `shifted` are those of k.
    let scaled = mantissa.to_bits().wrapping_add(shifted.to_bits() << 52);
    if inside { f64::from_bits(scaled) } else { 0.0 }
}

/// How far [`exp_tail`] goes. Beyond it a difference from 1 or `1 + x` has all the digits but one bit or two.
pub(crate) const TAIL_REACH: f64 = 0.69;

/// `eˣ − 1 − x` for x up to [`TAIL_REACH`] on either side, without cancellation; relative error below 1e-15.
///
/// A series for half of x, and `φ(2z) = (eᶻ − 1)² + 2·φ(z)`.
#[inline(always)]
pub(crate) fn exp_tail<const FUSED: bool>(x: f64) -> f64 {
    let z = 0.5 * x;
    let tail = z * z * exp_series::<FUSED>(z);
    let expm1 = z + tail;
    mul_add_f64::<FUSED>(expm1, expm1, 2.0 * tail)
}

/// `(eʳ − 1 − r)/r²` for `|r| ≤ ln 2 / 2`.
#[inline(always)]
fn exp_series<const FUSED: bool>(r: f64) -> f64 {
    let fma = mul_add_f64::<FUSED>;
    let [c0, c1, c2, c3, c4, c5, c6, c7, c8, c9] = EXP_F64;
    // In parts that need not wait for each other.
    let (r2, low) = (r * r, [fma(r, c1, c0), fma(r, c3, c2)]);
    let high = [fma(r, c5, c4), fma(r, c7, c6), fma(r, c9, c8)];
    let r4 = r2 * r2;
    let high = fma(r4, high[2], fma(r2, high[1], high[0]));
    fma(r4, high, fma(r2, low[1], low[0]))
}

/// Chebyshev fit of that, beginning with ½, in 60-digit arithmetic, coefficients rounded to f64; relative error below
/// 4.4e-16, and of `eʳ` below 3.4e-17.
const EXP_F64: [f64; 10] = [
    0.5,
    0.16666666666666666,
    0.04166666666665131,
    0.008333333333332152,
    0.0013888888905922382,
    0.00019841269854370018,
    2.480153630713628e-05,
    2.755728000429909e-06,
    2.7613852100963253e-07,
    2.5095589467479502e-08,
];

/// The natural logarithm of a finite number above 0, and −inf for 0; error below 1e-16 and an ulp.
#[inline(always)]
pub(crate) fn ln<const FUSED: bool>(x: f64) -> f64 {
    const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    const TWO_TO_52: u64 = 0x4330_0000_0000_0000;
    // Subnormal numbers are brought into range first.
    let small = x < f64::MIN_POSITIVE;
    let (bits, lift) = if small { ((x * TWO_TO_54).to_bits(), 54.0) } else { (x.to_bits(), 0.0) };
    let above = bits.wrapping_sub(SQRT_HALF);
    // The exponent, an integer of few bits, as a number: its bits below those of 2^52.
    let biased = (above.wrapping_add(1024 << 52) >> 52) | TWO_TO_52;
    let k = f64::from_bits(biased) - (f64::from_bits(TWO_TO_52) + 1024.0) - lift;
    let m = f64::from_bits((above & ((1 << 52) - 1)).wrapping_add(SQRT_HALF));
    let s = (m - 1.0) / (m + 1.0);
    let twice = 2.0 * s;
    let ln_m = mul_add_f64::<FUSED>(twice, atanh_tail::<FUSED>(s * s), twice);
    let ln = mul_add_f64::<FUSED>(k, LN_2_HIGH, mul_add_f64::<FUSED>(k, LN_2_LOW, ln_m));
    if x > 0.0 { ln } else { f64::NEG_INFINITY }
}

const TWO_TO_54: f64 = 18014398509481984.0;
/// ln 2, rounded to 32 bits, so that its products with exponents are exact, and the rest.
const LN_2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN_2_LOW: f64 = 1.9082149292705877e-10;

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

/// The bit pattern of 2^-968, below which numbers are lifted.
const TINY_F64: u64 = 55 << 52;

/// Multiplies numbers below 2^-968 by 2^1074.
#[inline(always)]
fn lift_f64(bits: u64) -> (u64, i32) {
    let normal = bits.wrapping_add(1074 << 52);
    let subnormal = (bits as i64 as f64).to_bits();
    let lifted = if bits < 1 << 52 { subnormal } else { normal };
    let tiny = bits < TINY_F64;
    (if tiny { lifted } else { bits }, if tiny { -1074 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of a few octaves, spread evenly over their bit patterns.
    fn pairs(lowest: u64, highest: u64) -> impl Iterator<Item = (u64, u64)> {
        const STEPS: u64 = 300;
        let at = move |step: u64| lowest + (highest - lowest) / STEPS * step + step * step;
        (0..STEPS).flat_map(move |p| (0..STEPS).map(move |q| (at(p), at(q))))
    }

    /// Other bins of its block, or of rows beside it, make no difference to a bin.
    fn assert_alike<V: Term + PartialEq, const FUSED: bool>(p: V, q: V) {
        let (usual, any) = (V::usual_bin::<FUSED>(p, q), V::bin::<FUSED>(p, q));
        assert_eq!(usual, (any.g, any.d), "{p:e} against {q:e}");
    }

    #[test]
    fn a_usual_bin_is_the_same_among_others_that_are_not() {
        for (p, q) in pairs(0.02_f32.to_bits().into(), 1_f32.to_bits().into()) {
            let [p, q] = [p, q].map(|bits| f32::from_bits(bits as u32));
            assert_alike::<f32, true>(p, q);
            assert_alike::<f32, false>(p, q);
            let (wide_p, wide_q) = (f64::from(p), f64::from(q));
            let want = wide_p * (wide_p / wide_q).ln() - wide_p + wide_q;
            let got = f64::from(f32::bin::<true>(p, q).g);
            // Nearer to each other than that, f64 says nothing about them.
            let near = (wide_p - wide_q).abs() < 1e-3 * wide_p;
            assert!(near || (got - want).abs() <= 5e-7 * want, "{p:e} {q:e}: {got:e}, {want:e}");
        }
        for (p, q) in pairs(0.02_f64.to_bits(), 1_f64.to_bits()) {
            assert_alike::<f64, true>(f64::from_bits(p), f64::from_bits(q));
            assert_alike::<f64, false>(f64::from_bits(p), f64::from_bits(q));
        }
    }
}
