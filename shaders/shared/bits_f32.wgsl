// Floating-point numbers as bit patterns, and back into a range where arithmetic is safe.
//
// Whatever decides a case (zero, subnormal, invalid) is decided on bit patterns: a compiler may
// assume that there are no NaN and no infinities, and the hardware may flush subnormals.

alias Real = f32;

const ONE: u32 = 127u << 23u;
const INFINITE: u32 = 0x7f800000u;
const TINY: u32 = 25u << 23u;           // 2^-102
const LOWEST_NORMAL: u32 = 1u << 23u;   // 2^-126
const LN_2: f32 = 0.6931471805599453;
const OCTAVES: i32 = -(1i << 23u);            // the exponent's bits, for numbers of either sign
const LN_2_PER_OCTAVE: f32 = LN_2 * 0x1p-23f; // of a difference of bit patterns
// atanh(s) = s·(1 + s²·(c₀ + c₁s² + …)) for |s| ≤ 1/3, as in src/term.rs.
const ATANH_0: f32 = 0.33333334;
const ATANH_1: f32 = 0.19999853;
const ATANH_2: f32 = 0.14296179;
const ATANH_3: f32 = 0.108532876;
const ATANH_4: f32 = 0.116121650;

// The bit patterns, with −0 counted as 0: every other sign bit then marks an invalid value.
fn unsigned_zero(bits: vec4<u32>) -> vec4<u32> {
    return select(bits, vec4(0u), bits == vec4(1u << 31u));
}

// Multiplies numbers below 2^-102 by 2^149, in integers.
fn lift(bits: vec4<u32>) -> vec4<u32> {
    let subnormal = bitcast<vec4<u32>>(vec4<f32>(bits));
    let lifted = select(bits + vec4(149u << 23u), subnormal, bits < vec4(LOWEST_NORMAL));
    return select(bits, lifted, bits < vec4(TINY));
}

// What `lift` has to give back.
fn lifted_by(bits: vec4<u32>) -> vec4<i32> {
    return select(vec4(0i), vec4(149i), bits < vec4(TINY));
}
