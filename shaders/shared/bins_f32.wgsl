// What bins.wgsl and the terms of divergences are made of, in f32.

// What a probability counts as where both sides have one and it is smaller: 2^-100.
const FLOOR: f32 = 0x1p-100f;
// Beyond these exponents no sum of theirs has a place in f32.
const MOST_EXPONENT: i32 = 64i;
// Differences next to which a logarithm by the table has fewer digits than one by the series.
const NEARBY: f32 = 0.0625;

// A mass of no use, 0 among them, becomes 1: the host does without the row's sums.
fn normalized(mass: f32, exponent: i32) -> Normalized {
    let bits = bitcast<u32>(mass);
    if (bits < LOWEST_NORMAL || bits >= INFINITE) {
        return Normalized(1.0, 0i);
    }
    let octave = i32(bits >> 23u) - 127i;
    return Normalized(bitcast<f32>((bits & 0x7fffffu) | ONE), exponent + octave);
}

// Numbers as they are stored.
fn number_of(stored: Quad) -> vec4<f32> {
    return bitcast<vec4<f32>>(stored);
}

// t of atanh(s) = s·(1 + t), from s².
fn atanh_tail(z: vec4<f32>) -> vec4<f32> {
    let zz = z * z;
    return z * ((ATANH_0 + ATANH_1 * z) + zz * ((ATANH_2 + ATANH_3 * z) + zz * ATANH_4));
}

// A number m that was brought within an octave of another, x.
struct Near {
    m: vec4<f32>,
    n: vec4<f32>,    // x − m
    ln: vec4<f32>,   // the logarithm of what it was multiplied by
}

// Of normal numbers with n = x − m, which has its digits where they are within an octave as they are.
fn within_octave(x: vec4<f32>, m: vec4<f32>, n: vec4<f32>) -> Near {
    let m_bits = bitcast<vec4<i32>>(m);
    let between = bitcast<vec4<i32>>(x) - m_bits;
    // As many whole octaves as they lie apart, rounded towards 0.
    let octaves = (between + ((between >> vec4(31u)) & vec4(~OCTAVES))) & vec4(OCTAVES);
    let near = bitcast<vec4<f32>>(m_bits + octaves);
    return Near(near, select(x - near, n, octaves == vec4(0i)), vec4<f32>(octaves) * LN_2_PER_OCTAVE);
}
