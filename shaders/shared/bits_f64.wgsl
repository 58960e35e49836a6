// f64 through words, and powers of two.
//
// naga has no bitcast of f64 and no ln or exp of it that works. A buffer of f64 is therefore bound
// twice: as array<vec2<f64>> for the values, and as array<vec4<u32>> for the words of two values
// each, low words in x and z, high words in y and w. Cases are decided on the words. The kernel's
// `params.zero` holds 0.

alias Real = f64;

const INFINITE: u32 = 0x7ff00000u;             // the high word of +inf
const ONE: u32 = 1023u << 20u;                 // of 1
const HUGE: u32 = (1023u + 900u) << 20u;       // of 2^900: the host looks closer at what is larger
const FAINT: u32 = (1023u - 900u) << 20u;      // of 2^-900
const ONE_OCTAVE: i32 = 1i << 20u;
const LN_2: f64 = 0.6931471805599453;

// The same numbers, but a compiler cannot know that: see logs_f32.wgsl. Without a bitcast it takes
// a choice that only the uniform decides. A constant as the other choice would not do: what is
// done to the result may be done to both choices instead, and then it is exposed again. Measured:
// 0 of 262,144 differences with their rounding errors wrong; without it, 56 % of them. Of four numbers that a
// compiler knows to be alike it hides nothing.
fn exact(x: vec4<f64>) -> vec4<f64> {
    return select(x, x.yzwx, vec4(params.zero != 0u));
}

// 2^k, exact (measured: all of them) for −1008 ≤ k ≤ 1023. An eighth of k is within reach of f32, whose bits can be set.
fn pow2(k: vec4<i32>) -> vec4<f64> {
    let eighth = bitcast<vec4<f32>>(((k >> vec4(3u)) + vec4(127i)) << vec4(23u));
    let to_1 = vec4<f64>(eighth);
    let to_2 = to_1 * to_1;
    let to_4 = to_2 * to_2;
    return to_4 * to_4 * vec4<f64>(vec4(1i) << bitcast<vec4<u32>>(k & vec4(7i)));
}

// x·2^k for |k| ≤ 2000, exact if neither x nor the product is outside 2^±980.
fn scale(x: vec4<f64>, k: vec4<i32>) -> vec4<f64> {
    let half = k >> vec4(1u);
    // Never 2^k by itself, which may be out of range.
    return exact(x * pow2(half)) * pow2(k - half);
}
