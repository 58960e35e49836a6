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
    let y = max(x, vec4(-200.0));
    let z = exact(y * LOG2_E);
    let lost = fma(y, vec4(LOG2_E), -z) + y * LOG2_E_REST;
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

// The largest magnitude, as bits; that of −inf does not count.
fn magnitude(stored: vec4<u32>) -> u32 {
    let counted = select(stored & vec4(0x7fffffffu), vec4(0u), stored == vec4(NEGATIVE_INFINITE));
    return max(max(counted.x, counted.y), max(counted.z, counted.w));
}

fn weighed_at(row: u32, quad: u32, end: u32, held: Held) -> Weighed {
    let stored = stored_at(row, quad, end);
    let p = max(bitcast<vec4<f32>>(stored.p), vec4(LEAST));
    let q = max(bitcast<vec4<f32>>(stored.q), vec4(LEAST));
    let largest = max(magnitude(stored.p), magnitude(stored.q));
    let none = vec4(NEGATIVE_INFINITE);
    let infinite = any((stored.q == none) & (stored.p != none));
    return Weighed(
        exp_of_weight((p - held.p_unit.hi) - held.p_unit.lo),
        exp_of_weight((q - held.q_unit.hi) - held.q_unit.lo),
        two_diff(p, q),
        vec4(true),
        select(0u, SOME_INVALID, largest >= INFINITE)
            | select(0u, SOME_HUGE, largest > bitcast<u32>(MOST))
            | select(0u, SOME_INFINITE, infinite),
    );
}
