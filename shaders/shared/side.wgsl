// A side of four bins as logarithms. With side_f32.wgsl or side_f64.wgsl.

const PROBS: u32 = 0u;
const LOG_PROBS: u32 = 1u;
const LOGITS: u32 = 2u;

// The logarithms of four probabilities of a side, and those as powers of two.
struct Side {
    ln: Pair,
    weight: Power,      // the exponent is NO_MASS for a probability of 0
    on: vec4<bool>,     // the probability is above 0, and it is not low
    low: vec4<Real>,    // its logarithm, roughly, where that is a number below NOTHING, else 0
    flags: u32,
}

// What has no weight beside the logarithms that the arithmetic takes: numbers below it mask bins.
const NOTHING: f32 = -66600.0;

// A bin is masked by the same number on both sides. Others are left to the host: where the ratio of the two
// is beyond all numbers it may count whatever their weights are.
fn flags_of_low(p: Side, q: Side) -> u32 {
    let masked = any(p.low != vec4<Real>(0.0));
    return select(0u, SOME_MASKED, masked) | select(0u, SOME_HUGE, any(p.low != q.low));
}

// How many bins of the row one vector load holds.
fn bins_in(quad: u32, end: u32) -> u32 {
    if (WHOLE) {
        return 4u;
    }
    return select(0u, min(params.bins - 4u * quad, 4u), quad < end);
}
