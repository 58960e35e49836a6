// Logarithms, exponentials and exact sums in f32, four numbers at a time. With two_parts.wgsl. The errors
// were measured on lavapipe against multi-precision values. The kernel's `params.zero` holds 0.

@group(0) @binding(4) var<storage, read> ln_table: array<vec4<f32>>;   // src/gpu/ln_table.rs

// The same number, but a compiler cannot know that: it may reassociate sums and products, and
// nothing that went through here can be cancelled against what it was made of.
fn exact(x: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) ^ vec4(params.zero));
}

// 1, but a compiler cannot know that.
fn one() -> vec4<f32> {
    return vec4(bitcast<f32>(ONE ^ params.zero));
}

// exact(a * b), exact(a - b) and exact(a + b), each in one step.
fn exact_product(a: vec4<f32>, b: f32) -> vec4<f32> {
    return fma(a, vec4(b), vec4(bitcast<f32>(params.zero)));
}

fn exact_diff(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return fma(a, one(), -b);
}

fn exact_sum(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return fma(a, one(), b);
}

// a − b without any error: hi is the rounded difference, lo what rounding took from it. Holds for
// all numbers whose difference neither overflows nor has a lo below the normal numbers.
// Measured: 0 of 4.2 million wrong; without `exact`, 65 % of them.
fn two_diff(a: vec4<f32>, b: vec4<f32>) -> Pair {
    let d = exact_diff(a, b);
    let minus_b = exact_diff(d, a);
    let a_lost = exact_diff(a, exact_diff(d, minus_b));
    // A device may take a fused sum apart, and find minus_b in both.
    return Pair(d, a_lost - exact(exact_sum(b, minus_b)));
}

// The upper 12 of its 24 bits.
fn upper_half(x: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) & vec4(0xfffff000u));
}

// e^x as mantissa·2^exponent.
struct Power {
    mantissa: vec4<f32>,
    exponent: vec4<i32>,
}

const LOG2_E: f32 = 1.4426950408889634;
const LOG2_E_REST: f32 = 1.925963033500e-8;
// ln 2 in pieces of at most 6 bits, whose products with 18-bit integers are exact, and the rest.
const LN_2_A: f32 = 0.6875;
const LN_2_B: f32 = 0.005615234375;
const LN_2_C: f32 = 3.147125244140625e-05;
const LN_2_D: f32 = 4.74932503903e-7;
// e^r = 1 + r + r²·(c₀ + c₁r + …): minimax over |r| ≤ 0.365, relative error 4.4e-9.
const EXP_0: f32 = 0.499999911;
const EXP_1: f32 = 0.166664869;
const EXP_2: f32 = 0.0416687801;
const EXP_3: f32 = 0.00837259367;
const EXP_4: f32 = 0.0013806842;

// e^(hi + lo) for |hi| ≤ 1.3e5 and |lo| no larger than a unit in the last place of hi. Measured:
// relative error 7.7e-8; mantissas in [0.706, 1.416] for |hi| < 8192, else in [0.696, 1.436].
fn exp_parts(hi: vec4<f32>, lo: vec4<f32>) -> Power {
    let k = round(hi * LOG2_E);
    // Only what hi leaves after the first three pieces may be rounded: it is below 1.
    let after_a = exact(hi - k * LN_2_A);
    let after_b = exact(after_a - k * LN_2_B);
    let after_c = exact(after_b - k * LN_2_C);
    let rest = lo - k * LN_2_D;
    let r = after_c + rest;
    let tail = (((EXP_4 * r + EXP_3) * r + EXP_2) * r + EXP_1) * r + EXP_0;
    // Not 1 + after_c first: that would round twice near 1.
    return Power(1.0 + exact(after_c + (rest + r * r * tail)), vec4<i32>(k));
}

fn power_of(x: Pair) -> Power {
    return exp_parts(x.hi, x.lo);
}

// e^x − 1 − x = x²/2 + x³·(c₀ + c₁x + …): minimax over |x| ≤ 2, relative error 9.6e-9.
const PHI_0: f32 = 0.166666657;
const PHI_1: f32 = 0.0416666344;
const PHI_2: f32 = 0.00833336543;
const PHI_3: f32 = 0.00138897391;
const PHI_4: f32 = 0.000198387017;
const PHI_5: f32 = 2.47343396e-5;
const PHI_6: f32 = 2.76158858e-6;
const PHI_7: f32 = 2.96088217e-7;
const PHI_8: f32 = 2.53774228e-8;

// e^x − 1 − x for |x| ≤ 2. Measured: relative error 2.1e-7.
fn phi(x: vec4<f32>) -> vec4<f32> {
    let upper = (((PHI_8 * x + PHI_7) * x + PHI_6) * x + PHI_5) * x + PHI_4;
    let tail = (((upper * x + PHI_3) * x + PHI_2) * x + PHI_1) * x + PHI_0;
    let square = x * x;
    return 0.5 * square + square * (x * tail);
}

// e^x − 1 for |x| ≤ 2. Measured: relative error 1.8e-7.
fn expm1(x: vec4<f32>) -> vec4<f32> {
    return x + phi(x);
}

// ln 2 = 45426·2^-16 + 98173·2^-36 + LN_2_REST.
const LN_2_REST: f32 = 1.64659495829e-12;
const LN_2_TOP: f32 = 0.693145751953125; // the first of these,
const LN_2_BELOW: f32 = 1.4286068203094172e-06; // and the other two

// ln p of positive normal numbers, given by their bits: hi is a multiple of 2^-16, |lo| ≤ 4e-5.
//
// With p = m·2^k and the table's r near 1/m, ln p = k·ln 2 − ln r + ln(1 + z), z = m·r − 1. All
// that needs more digits than a float has is done in integers, in units of 2^-36, which no
// compiler may round: m·2^24 times r·2^12, less the 2^36 that drops out of 32 bits, is z exactly.
// Measured: absolute error 2.4e-12; relative error 6e-8 next to 1.
fn ln(bits: vec4<u32>) -> Pair {
    // The table goes by the mantissa rounded to 7 bits. Just below a power of two that carries
    // into the exponent, and m lies just below 1.
    let rounded = bits + vec4(1u << 15u);
    let carried = ((rounded ^ bits) >> vec4(23u)) & vec4(1u);
    let k = bitcast<vec4<i32>>(rounded >> vec4(23u)) - vec4(127i);
    let j = (rounded >> vec4(16u)) & vec4(127u);
    let entry = transpose(mat4x4<f32>(ln_table[j.x], ln_table[j.y], ln_table[j.z], ln_table[j.w]));
    let m = ((bits & vec4(0x7fffffu)) | vec4(0x800000u)) << (vec4(1u) - carried);
    let z_units = bitcast<vec4<i32>>(m * vec4<u32>(entry[0]));
    let units = z_units + k * 98173i;
    let top = (units + vec4(1i << 19u)) >> vec4(20u);
    let hi = vec4<f32>(k * 45426i + vec4<i32>(entry[1]) + top) * 0x1p-16f;

    let z = vec4<f32>(z_units) * 0x1p-36f;
    let curve = z * z * (0.5 - z * (0.33333333 - z * 0.25));
    let rest = vec4<f32>(units - (top << vec4(20u))) * 0x1p-36f;
    return Pair(hi, rest + (entry[2] + vec4<f32>(k) * LN_2_REST - curve));
}

// 2^by for −126 ≤ by ≤ 127.
fn pow2(by: vec4<i32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(by + vec4(127i)) << vec4(23u));
}

// The exponent of a mass of 0: below all others, and still far from the end of the integers.
const NO_MASS: i32 = -(1i << 28u);
// Exponents below which a weight beside 1 is taken as 0.
const LOWEST_EXPONENT: i32 = -125i;

// exponents·ln 2 in two parts.
fn ln_octaves(exponents: i32) -> Pair {
    let k = vec4(f32(exponents));
    let octaves = exact(k * LN_2);
    return Pair(octaves, (exact(k * LN_2_A - octaves) + k * LN_2_B) + (k * LN_2_C + k * LN_2_D));
}

// ln(w/v) + exponents·ln 2 in two parts.
fn ln_ratio(w: f32, v: f32, exponents: i32) -> Pair {
    let logs = ln(bitcast<vec4<u32>>(vec4(w, v, 1.0, 1.0)));
    let octaves = ln_octaves(exponents);
    let ratio = two_sum(octaves.hi, vec4(logs.hi.x - logs.hi.y));
    return two_sum(ratio.hi, ratio.lo + (octaves.lo + vec4(logs.lo.x - logs.lo.y)));
}

// What the ratio 1 + u of two masses adds to a sum of excesses.
struct OfRatio {
    ln: f32,    // ln(1 + u)
    eta: f32,   // u − ln(1 + u)
}

fn of_ratio(u: f32, ratio: f32) -> OfRatio {
    if (u < -0.5 || u > 1.0) {
        let one_and_u = select(1.0 + u, max(ratio, 0x1p-126f), u < 0.0);
        let logs = ln(bitcast<vec4<u32>>(vec4(one_and_u)));
        let log = logs.hi.x + logs.lo.x;
        return OfRatio(log, u - log);
    }
    let s = u / (2.0 + u);
    let z = s * s;
    let t = z * ((((ATANH_4 * z + ATANH_3) * z + ATANH_2) * z + ATANH_1) * z + ATANH_0);
    return OfRatio(2.0 * (s + s * t), s * (u - 2.0 * t));
}

// A number in two parts less another one.
fn less(high: f32, low: f32, by: f32) -> vec2<f32> {
    let difference = two_diff(vec4(high), vec4(by));
    return vec2(difference.hi.x, low + difference.lo.x);
}
