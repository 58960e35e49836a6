// What bins.wgsl and the terms of divergences are made of, in f64.

// What a probability counts as where both sides have one and it is smaller: 2^-900.
const FLOOR: f64 = 0x1p-900;
// The host takes no sums that are larger.
const MOST_EXPONENT: i32 = 64i;
// Differences next to which the series of the logarithm of a ratio holds.
const NEARBY: f64 = THIRD;

// A mass of no use, or beyond the range of f32, which tells the exponent, becomes 1: the host does without
// the row's sums.
fn normalized(mass: f64, exponent: i32) -> Normalized {
    let bits = bitcast<u32>(f32(mass));
    if (bits < 1u << 23u || bits >= 255u << 23u) {
        return Normalized(1.0, 0i);
    }
    let octave = i32(bits >> 23u) - 127i;
    return Normalized(mass * pow2(vec4(-octave)).x, exponent + octave);
}

// Numbers as they are stored; 1 for those that the host has no use for.
fn number_of(stored: Quad) -> vec4<f64> {
    return load(stored).value;
}
