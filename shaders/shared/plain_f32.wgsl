// The bins of a segment where both sides are logarithms as they are: no table, no temperature, and few
// questions to each bin.

// Trips whose sums are added one after the other: see segment_sums.wgsl.
const FAR_CHAIN: u32 = 8u;

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

// e^x of x next to 0 or below, by the device's power of two, and by what its argument lost to
// rounding; 0 far below 1.
fn exp_of_weight(x: vec4<f32>) -> vec4<f32> {
    let z = exact_product(x, LOG2_E);
    let lost = fma(x, vec4(LOG2_E), -z) + x * LOG2_E_REST;
    return exp2(z) * (1.0 + lost * LN_2);
}

// Whether a sample tells how large numbers are.
const BY_SAMPLE: bool = true;

// Whether so many bins may have such a mass if none is far above its unit.
fn is_moderate(mass: f32, bins: u32) -> bool {
    return bitcast<u32>(mass) < bitcast<u32>(1024.0 + f32(bins));
}

// Four bins of both sides; nothing where there are none.
fn bins_of(quads: Quads, quad: u32, end: u32) -> Quads {
    if (WHOLE) {
        return quads;
    }
    let inside = vec4(0u, 1u, 2u, 3u) < vec4(bins_in(quad, end));
    let none = vec4(NEGATIVE_INFINITE);
    return Quads(select(none, quads.p, inside), select(none, quads.q, inside));
}

fn logs_at(row: u32, quad: u32, end: u32) -> Logs {
    let stored = bins_of(quads_at(row, quad, end), quad, end);
    let p = bitcast<vec4<f32>>(stored.p);
    let q = bitcast<vec4<f32>>(stored.q);
    return Logs(
        Pair(select(p, vec4(NO_TOP), p < vec4(NOTHING)), vec4(0.0)),
        Pair(select(q, vec4(NO_TOP), q < vec4(NOTHING)), vec4(0.0)),
    );
}

// Of bins of which one is no number, or too large above, or of those that P has, where a side is below
// what this arithmetic takes, or nothing.
fn flags_of_unlikely(stored: Quads) -> u32 {
    let none = vec4(NEGATIVE_INFINITE);
    let least = vec4(bitcast<u32>(-MOST));
    let p_positive = stored.p < vec4(1u << 31u);
    let q_positive = stored.q < vec4(1u << 31u);
    let invalid = (stored.p > none) | (stored.q > none)
        | (p_positive & (stored.p >= vec4(INFINITE))) | (q_positive & (stored.q >= vec4(INFINITE)));
    let most = vec4(bitcast<u32>(MOST));
    let high = (p_positive & (stored.p > most)) | (q_positive & (stored.q > most));
    let some = stored.p != none;
    let nothing = vec4(bitcast<u32>(NOTHING));
    let p_masked = !p_positive & (stored.p > nothing) & some;
    let q_masked = !q_positive & (stored.q > nothing) & (stored.q != none);
    let p_low = !p_positive & (stored.p > least) & (stored.p <= nothing);
    let q_low = !q_positive & (stored.q > least) & (stored.q <= nothing);
    let low = some & (p_low | q_low | ((p_masked | q_masked) & (stored.p != stored.q)));
    let infinite = (stored.q == none) & some;
    return select(0u, SOME_INVALID, any(invalid))
        | select(0u, SOME_HUGE, any(high | low))
        | select(0u, SOME_MASKED, any(p_masked))
        | select(0u, SOME_INFINITE, any(infinite));
}

// Four bins of both sides as they are, of −inf as what is far below.
struct Numbers {
    p: vec4<f32>,
    q: vec4<f32>,
    flags: u32,
}

fn numbers_of(quads: Quads, quad: u32, end: u32) -> Numbers {
    let stored = bins_of(quads, quad, end);
    var p = bitcast<vec4<f32>>(stored.p);
    var q = bitcast<vec4<f32>>(stored.q);
    var flags = 0u;
    // As integers without a sign what is below −MOST, −inf and a NaN with a sign are the largest; as those with
    // one what is above MOST, +inf and the other NaN.
    let below = max(stored.p, stored.q);
    let above = max(bitcast<vec4<i32>>(stored.p), bitcast<vec4<i32>>(stored.q));
    let least = max(max(below.x, below.y), max(below.z, below.w));
    let most = max(max(above.x, above.y), max(above.z, above.w));
    if (least > bitcast<u32>(-MOST) || most > bitcast<i32>(MOST)) {
        flags = flags_of_unlikely(stored);
        p = max(p, vec4(LEAST));
        q = max(q, vec4(LEAST));
    }
    return Numbers(p, q, flags);
}

fn weighed(quads: Quads, quad: u32, end: u32, held: Held) -> Weighed {
    let bins = numbers_of(quads, quad, end);
    return Weighed(
        exp_of_weight((bins.p - held.p_unit.hi) - held.p_unit.lo),
        exp_of_weight((bins.q - held.q_unit.hi) - held.q_unit.lo),
        two_diff(bins.p, bins.q),
        vec4(true),
        bins.flags,
    );
}

// Bins of a far segment. Numbers next to the largest are exact beside them, and the errors of others have
// small weights.
fn far_at(quads: Quads, quad: u32, end: u32, tops: vec2<f32>) -> Excesses {
    let bins = numbers_of(quads, quad, end);
    let a = bins.p - tops.x;
    let b = bins.q - tops.y;
    let w = exp2(a * LOG2_E);
    let v = exp2(b * LOG2_E);
    let sums = vec4(total(w), total(v), total(w * (a - b)), total(v * (b - a)));
    return Excesses(sums, bins_in(quad, end), bins.flags);
}

// The loads of a trip are in flight together: there is little to do with each of them. Invocations that share a
// row have at most two: src/plan.rs.
fn far_sums(place: Place, lane: u32, lanes: u32, held: Held) -> Excesses {
    let end = place.end;
    var all = no_excesses();
    var quad = place.first + lane;
    var trips = 0u;
    loop {
        var some = no_excesses();
        loop {
            let next = quad + lanes;
            let a = quads_at(place.row, quad, end);
            let b = quads_at(place.row, next, end);
            var more = far_at(a, quad, end, held.tops);
            if (LOADS >= 2u) {
                more = together(more, far_at(b, next, end, held.tops));
            }
            some = together(some, more);
            trips += 1u;
            continuing {
                quad += LOADS * lanes;
                break if quad >= end || trips % FAR_CHAIN == 0u;
            }
        }
        all = together(all, some);
        continuing {
            break if quad >= end;
        }
    }
    return all;
}

// Sums of a far segment as those of others: held against the ratio of their masses, which leaves nothing of
// that.
fn settled(excesses: Excesses, held: Held) -> Readings {
    if (!held.far) {
        return Readings(excesses, held, is_held(excesses, held));
    }
    let s = excesses.sums;
    let masses = ln_ratio(s.x, s.y, 0i);
    let tops = two_diff(vec4(held.tops.x), vec4(held.tops.y));
    let ln = two_sum(tops.hi, masses.hi);
    let ln_masses = masses.hi.x + masses.lo.x;
    let apart = vec2(s.z / s.x - ln_masses, s.w / s.y + ln_masses);
    let sound = are_moderate(excesses, held) && min(apart.x, apart.y) >= FAR;
    let largest = exp_parts(vec4(held.tops, 0.0, 0.0), vec4(0.0));
    let exponents = vec4(held.p_exponent, held.q_exponent, 0i, 0i);
    let unit = largest.mantissa * pow2(largest.exponent - exponents);
    let w = s.x * unit.x;
    let v = s.y * unit.y;
    let g = (s.z - s.x * ln_masses) * unit.x;
    var to_masses = held;
    to_masses.to = Reference(ln.hi.x, ln.lo.x + (tops.lo.x + masses.lo.x), w / v);
    let sums = Excesses(vec4(w, v, g, 0.0), excesses.consumed, excesses.flags);
    return Readings(sums, to_masses, sound);
}
