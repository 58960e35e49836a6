// Logarithms, exponentials and exact sums in f64, four numbers at a time. With two_parts.wgsl. The errors
// were measured on lavapipe against multi-precision values.

fn exact_diff(a: vec4<f64>, b: vec4<f64>) -> vec4<f64> {
    return exact(a - b);
}

fn exact_sum(a: vec4<f64>, b: vec4<f64>) -> vec4<f64> {
    return exact(a + b);
}

// The upper 24 of its 53 bits, as long as f32 has such numbers: of smaller ones it is 0.
fn upper_half(x: vec4<f64>) -> vec4<f64> {
    return vec4<f64>(vec4<f32>(x));
}

// a − b without any error: hi is the rounded difference, lo what rounding took from it.
fn two_diff(a: vec4<f64>, b: vec4<f64>) -> Pair {
    let d = exact(a - b);
    let minus_b = exact(d - a);
    let lo = exact(a - exact(d - minus_b)) - exact(b + minus_b);
    return Pair(d, exact(lo));
}

// x = mantissa·2^exponent.
struct Split {
    mantissa: vec4<f64>,
    exponent: vec4<i32>,
}

// Normal numbers below 2^1008, given with their high words, as mantissas in [√½, √2) up to a
// relative 3e-7, exact. Measured: 0 of 262,144 wrong.
fn split(x: vec4<f64>, high: vec4<u32>) -> Split {
    // What takes the high word of √2 to that of 2.
    let carry = vec4(0x40000000u - 0x3ff6a09eu);
    let k = bitcast<vec4<i32>>((high + carry) >> vec4(20u)) - vec4(1023i);
    return Split(x * pow2(-k), k);
}

// ln 2 in a piece of 32 bits, whose products with 21-bit integers are exact, and the rest.
const LN_2_HI: f64 = 0x1.62e42feep-1;
const LN_2_LO: f64 = 1.9082149292705877e-10;

// 2·atanh(s) = 2s + s·z·(c₀ + c₁z + …) with z = s²: minimax over √½ ≤ (1 + s)/(1 − s) ≤ √2,
// error of the product 1.3e-18.
const LOG_0: f64 = 0.6666666666666734;
const LOG_1: f64 = 0.39999999999416747;
const LOG_2: f64 = 0.28571428741986016;
const LOG_3: f64 = 0.22222198610453667;
const LOG_4: f64 = 0.18183562546626605;
const LOG_5: f64 = 0.1531409277699714;
const LOG_6: f64 = 0.14795555028320129;

// ln x of positive normal numbers below 2^1008, given with their high words. Measured: relative
// error 1.5e-16, 0.8 ulp, also next to 1.
fn ln(x: vec4<f64>, high: vec4<u32>) -> vec4<f64> {
    let parts = split(x, high);
    let k = vec4<f64>(parts.exponent);
    let f = parts.mantissa - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let upper = (LOG_6 * z + LOG_5) * z + LOG_4;
    let tail = z * ((((upper * z + LOG_3) * z + LOG_2) * z + LOG_1) * z + LOG_0);
    // 2s + s·tail, with f itself as the leading part, which is exact: 2s = f − s·f.
    let half = 0.5 * f * f;
    let curve = exact(half - (s * (half + tail) + k * LN_2_LO));
    return k * LN_2_HI + exact(f - curve);
}

// e^x as mantissa·2^exponent.
struct Power {
    mantissa: vec4<f64>,
    exponent: vec4<i32>,
}

const LOG2_E: f64 = 1.4426950408889634;
// e^r = 1 + r + r²·(c₀ + c₁r + …): minimax over |r| ≤ ½·ln 2, relative error 3.8e-18.
const EXP_0: f64 = 0.5000000000000011;
const EXP_1: f64 = 0.1666666666666645;
const EXP_2: f64 = 0.041666666666526977;
const EXP_3: f64 = 0.0083333333334726645;
const EXP_4: f64 = 0.0013888888944344764;
const EXP_5: f64 = 0.00019841269551267439;
const EXP_6: f64 = 2.4801492439152384e-5;
const EXP_7: f64 = 2.75575480690231e-6;
const EXP_8: f64 = 2.7630463739546443e-7;
const EXP_9: f64 = 2.5011805398639817e-8;

// e^x for |x| ≤ 1e5. Measured: relative error 2.2e-16, 1.1 ulp; mantissas in [√½, √2]. (`round` of
// f64 is no choice: on lavapipe −1.5 becomes −1.)
fn exp_parts(x: vec4<f64>) -> Power {
    let k = floor(x * LOG2_E + 0.5);
    let hi = exact(x - k * LN_2_HI);
    let lo = k * LN_2_LO;
    let r = hi - lo;
    let upper = ((((EXP_9 * r + EXP_8) * r + EXP_7) * r + EXP_6) * r + EXP_5) * r + EXP_4;
    let tail = (((upper * r + EXP_3) * r + EXP_2) * r + EXP_1) * r + EXP_0;
    return Power(1.0 + exact(hi + (r * r * tail - lo)), vec4<i32>(k));
}

fn power_of(x: Pair) -> Power {
    let power = exp_parts(x.hi);
    return Power(power.mantissa * (1.0 + x.lo), power.exponent);
}

// e^x − 1 − x = x²/2 + x³·(c₀ + c₁x + …): minimax over |x| ≤ 2, relative error 2.5e-18.
const PHI_0: f64 = 0.16666666666666666;
const PHI_1: f64 = 0.041666666666666664;
const PHI_2: f64 = 0.0083333333333334321;
const PHI_3: f64 = 0.0013888888888889449;
const PHI_4: f64 = 0.00019841269841238467;
const PHI_5: f64 = 2.4801587301343675e-5;
const PHI_6: f64 = 2.7557319228558392e-6;
const PHI_7: f64 = 2.7557319266226421e-7;
const PHI_8: f64 = 2.5052108029302294e-8;
const PHI_9: f64 = 2.087675328147252e-9;
const PHI_10: f64 = 1.6059059433795842e-10;
const PHI_11: f64 = 1.1470925936400131e-11;
const PHI_12: f64 = 7.646789323324436e-13;
const PHI_13: f64 = 4.7745455489250388e-14;
const PHI_14: f64 = 2.8156212924938599e-15;
const PHI_15: f64 = 1.6327441055019151e-16;
const PHI_16: f64 = 8.1769051395063354e-18;

// e^x − 1 − x for |x| ≤ 2. Measured: relative error 3.7e-16.
fn phi(x: vec4<f64>) -> vec4<f64> {
    let a = (((PHI_16 * x + PHI_15) * x + PHI_14) * x + PHI_13) * x + PHI_12;
    let b = (((a * x + PHI_11) * x + PHI_10) * x + PHI_9) * x + PHI_8;
    let c = (((b * x + PHI_7) * x + PHI_6) * x + PHI_5) * x + PHI_4;
    let tail = (((c * x + PHI_3) * x + PHI_2) * x + PHI_1) * x + PHI_0;
    let square = x * x;
    return 0.5 * square + square * (x * tail);
}

// e^x − 1 for |x| ≤ 2. Measured: relative error 2.9e-16.
fn expm1(x: vec4<f64>) -> vec4<f64> {
    return x + phi(x);
}

// The exponent of a mass of 0: below all others, and still far from the end of the integers.
const NO_MASS: i32 = -(1i << 28u);
// Exponents below which a weight beside 1 is taken as 0.
const LOWEST_EXPONENT: i32 = -1000i;

// ln x of numbers within the range of f32, which tells their exponents.
fn ln_of(x: vec4<f64>) -> vec4<f64> {
    // An f32 has its exponent 3 bits further down than the high word of an f64, and another bias.
    let high = (bitcast<vec4<u32>>(vec4<f32>(x)) >> vec4(3u)) + vec4((1023u - 127u) << 20u);
    return ln(x, high);
}

// ln(w/v) + exponents·ln 2 in two parts.
fn ln_ratio(w: f64, v: f64, exponents: i32) -> Pair {
    let logs = ln_of(vec4<f64>(w, v, 1.0, 1.0));
    // With others in the other lanes: of four numbers that are all alike `exact` hides nothing.
    let k = vec4<f64>(f64(exponents), w, v, 1.0);
    let rounded = two_sum(k * LN_2_HI, logs - logs.y);
    let ratio = two_sum(rounded.hi, rounded.lo + k * LN_2_LO);
    return Pair(vec4<f64>(ratio.hi.x), vec4<f64>(ratio.lo.x));
}

// What the ratio 1 + u of two masses adds to a sum of excesses.
struct OfRatio {
    ln: f64,    // ln(1 + u)
    eta: f64,   // u − ln(1 + u)
}

const THIRD: f64 = 1.0 / 3.0;

// By series: what the masses are held against is next to their ratio here.
fn of_ratio(u: f64, ratio: f64) -> OfRatio {
    return OfRatio(u * (1.0 - u * (0.5 - u * THIRD)), u * u * (0.5 - u * (THIRD - 0.25 * u)));
}

// A number in two parts less one that is far below it.
fn less(high: f64, low: f64, by: f64) -> vec2<f64> {
    return vec2(high, low - by);
}
