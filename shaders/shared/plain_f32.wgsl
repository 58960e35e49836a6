// The bins of a segment where both sides are logarithms as they are: no table, no temperature, and few
// questions to each bin.

// What counts as the logarithm of no probability: far below all that are not left to the host.
const LEAST: f32 = -70000.0;

// What probabilities are counted in, a power of two, by its logarithm in two parts.
struct MassUnit {
    hi: f32,
    lo: f32,
}

fn mass_unit(exponent: i32) -> MassUnit {
    let ln = ln_octaves(select(exponent, 0i, exponent == NO_MASS));
    return MassUnit(ln.hi.x, ln.lo.x);
}

// e^x of x ≤ 2, by the device's power of two, and by what its argument lost to rounding; 0 far below 1.
fn exp_of_weight(x: vec4<f32>) -> vec4<f32> {
    let z = exact(x * LOG2_E);
    let lost = fma(x, vec4(LOG2_E), -z) + x * LOG2_E_REST;
    return exp2(z) * (1.0 + lost * LN_2);
}

struct Stored {
    p: vec4<u32>,
    q: vec4<u32>,
}

fn stored_at(row: u32, quad: u32, end: u32) -> Stored {
    let at = min(quad, end - 1u);
    let inside = vec4(0u, 1u, 2u, 3u) < vec4(bins_in(quad, end));
    return Stored(
        select(vec4(NEGATIVE_INFINITE), p_quad(row, at, true), inside),
        select(vec4(NEGATIVE_INFINITE), q_quad(row, at, true), inside),
    );
}

fn logs_at(row: u32, quad: u32, end: u32) -> Logs {
    let stored = stored_at(row, quad, end);
    let p = max(bitcast<vec4<f32>>(stored.p), vec4(NO_TOP));
    let q = max(bitcast<vec4<f32>>(stored.q), vec4(NO_TOP));
    return Logs(Pair(p, vec4(0.0)), Pair(q, vec4(0.0)));
}

// Of what is too large above, or of a side that has nothing but what is too large below: beside that,
// what counts as no probability would be one.
fn flags_of_tops(heaps: Heaps) -> u32 {
    let top = max(heaps.p.top, heaps.q.top);
    let invalid = bitcast<u32>(top) == INFINITE;
    let huge = top > MOST || is_low(heaps.p.top) || is_low(heaps.q.top);
    return select(0u, SOME_HUGE, huge) | select(0u, SOME_INVALID, invalid);
}

fn is_low(top: f32) -> bool {
    return top > NO_TOP && top < -MOST;
}

// Of bins that P has, where a side is below what this arithmetic takes, or nothing.
fn flags_of_unlikely(stored: Stored) -> u32 {
    let none = vec4(NEGATIVE_INFINITE);
    let least = vec4(bitcast<u32>(-MOST));
    let huge = ((stored.p != none) & (stored.p > least)) | ((stored.q != none) & (stored.q > least));
    let infinite = (stored.q == none) & (stored.p != none);
    return select(0u, SOME_HUGE, any(huge)) | select(0u, SOME_INFINITE, any(infinite));
}

fn weighed_at(row: u32, quad: u32, end: u32, held: Held) -> Weighed {
    let stored = stored_at(row, quad, end);
    let p = max(bitcast<vec4<f32>>(stored.p), vec4(LEAST));
    let q = max(bitcast<vec4<f32>>(stored.q), vec4(LEAST));
    // What is too large shows in the first reading.
    let both = max(stored.p & vec4(0x7fffffffu), stored.q & vec4(0x7fffffffu));
    let largest = max(max(both.x, both.y), max(both.z, both.w));
    var flags = select(0u, SOME_INVALID, largest > INFINITE);
    let unlikely = (p == vec4(LEAST)) | (q == vec4(LEAST));
    if (any(unlikely & (stored.p != vec4(NEGATIVE_INFINITE)))) {
        flags |= flags_of_unlikely(stored);
    }
    return Weighed(
        exp_of_weight((p - held.p_unit.hi) - held.p_unit.lo),
        exp_of_weight((q - held.q_unit.hi) - held.q_unit.lo),
        two_diff(p, q),
        vec4(true),
        flags,
    );
}
