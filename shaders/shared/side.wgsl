// A side of four bins as logarithms. With side_f32.wgsl or side_f64.wgsl.

const PROBS: u32 = 0u;
const LOG_PROBS: u32 = 1u;
const LOGITS: u32 = 2u;

// The logarithms of four probabilities of a side, and those as powers of two.
struct Side {
    ln: Pair,
    weight: Power,      // the exponent is NO_MASS for a probability of 0
    on: vec4<bool>,     // the probability is above 0
    flags: u32,
}

// How many bins of the row one vector load holds.
fn bins_in(quad: u32, end: u32) -> u32 {
    if (WHOLE) {
        return 4u;
    }
    return select(0u, min(params.bins - 4u * quad, 4u), quad < end);
}
