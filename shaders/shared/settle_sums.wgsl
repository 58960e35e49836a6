// A row's value from its sums: what src/sums.rs does in f64, as far as f32 goes.

const HUGE: u32 = (127u + 64u) << 23u;   // of 2^64
const SQRT_HALF: i32 = 0x3f3504f3i;
const FAINT: f32 = 0x1p-60f;

// ln x of a positive normal number, relative to the larger of its summands.
fn ln(x: f32) -> f32 {
    let above = bitcast<i32>(x) - SQRT_HALF;
    let k = above >> 23u;
    let m = bitcast<f32>(bitcast<i32>(x) - (k << 23u));
    let s = (m - 1.0) / (m + 1.0);
    return f32(k) * LN_2 + 2.0 * s * (1.0 + atanh_tail(s));
}

// t of atanh(s) = s·(1 + t).
fn atanh_tail(s: f32) -> f32 {
    let z = s * s;
    return z * ((((ATANH_4 * z + ATANH_3) * z + ATANH_2) * z + ATANH_1) * z + ATANH_0);
}

// v − ln(1 + v), which is never negative.
fn eta(v: f32, ratio: f32) -> f32 {
    if (abs(v) > 0.25) {
        return v - ln(ratio);
    }
    let s = v / (2.0 + v);
    return s * (v - 2.0 * atanh_tail(s));
}

fn result_of(record: Record) -> Result {
    if (record.top >= INFINITE) {
        return Result(NAN, INVALID_BIN);
    }
    let g = record.g_and_p.x;
    let p = record.g_and_p.y;
    let q = record.q_and_d.x;
    let d = record.q_and_d.y;
    if (record.top >= HUGE) {
        return Result(NAN, LACKS_DIGITS);
    }
    let p_mass = of_mass(p, policy.p_weighed);
    let q_mass = of_mass(q, policy.q_weighed);
    if (p_mass == WRONG_MASS || p_mass == NO_MASS_AT_ALL) {
        return Result(NAN, p_mass);
    }
    if (q_mass == WRONG_MASS || q_mass == NO_MASS_AT_ALL) {
        return Result(NAN, q_mass);
    }
    var lacks = p_mass == LACKS_DIGITS || q_mass == LACKS_DIGITS;
    if ((record.flags & SOME_INFINITE) != 0u) {
        return Result(INFINITE, select(INFINITE_VALUE, LACKS_DIGITS, lacks));
    }
    lacks |= p < FAINT || q < FAINT || (g > 0.0 && g < FAINT * max(p, 1.0));
    var value = g;
    if (policy.mass == AS_GIVEN) {
        value = g + d;
        // Rounding leaves in D a few units of Σ|p − q|, which G bounds as in Pinsker's inequality.
        let bound = 2.0 / 3.0 * g * (p + 2.0 * q);
        lacks |= g > 0.0 && value * value < 0.25 * bound;
    } else if (policy.mass != GENERALIZED && p > 0.0 && q > 0.0) {
        let per_mass = 1.0 / p;
        let per_p = g * per_mass;
        let mass_term = eta(-d * per_mass, q * per_mass);
        value = max(per_p - mass_term, 0.0);
        lacks |= mass_term > per_p / 8.0;
    }
    return Result(bitcast<u32>(value), select(OK, LACKS_DIGITS, lacks));
}
