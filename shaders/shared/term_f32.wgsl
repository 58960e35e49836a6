// One bin of the Kullback-Leibler sum in the form that cannot be negative, four bins at a time.
// The formula is told in src/term.rs. Here a p below the normal numbers counts as the lowest of these, a
// p of 0 too, which is off by less than 2^-118, and so does such a q, unless it has to be lifted: the host
// looks closer at rows whose G is so small that it matters, and at those with a −0.

const LN_2_PER_LIFT: f32 = 149.0 * LN_2;      // of a subnormal number's bits, taken as an integer

// The bits of what counts as a number, the lowest normal one for those below it.
fn raised(stored: vec4<u32>) -> vec4<i32> {
    return max(bitcast<vec4<i32>>(stored), vec4(i32(LOWEST_NORMAL)));
}

fn kl_bins(p_stored: vec4<u32>, q_stored: vec4<u32>) -> Bins {
    let p = bitcast<vec4<f32>>(p_stored);
    let q = bitcast<vec4<f32>>(q_stored);
    return Bins(
        g_of(raised(p_stored), raised(q_stored), q, vec4(0.0)),
        p,
        q,
        p - q,
        smallest(select(q_stored, vec4(INFINITE), p_stored == vec4(0u))),
        largest(max(p_stored, q_stored)),
    );
}

// Whether a lane has bins whose q has to be lifted, since its logarithm counts.
fn has_small(least: u32) -> bool {
    return least < LOWEST_NORMAL && least != 0u;
}

// The terms of such bins, and of those beside them.
fn lifted_g(p_stored: vec4<u32>, q_stored: vec4<u32>) -> vec4<f32> {
    let small = (p_stored >= vec4(LOWEST_NORMAL)) & (q_stored < vec4(LOWEST_NORMAL));
    let lifted = bitcast<vec4<i32>>(vec4<f32>(q_stored));
    let log = select(vec4(0.0), vec4(LN_2_PER_LIFT), small);
    let q_work = select(raised(q_stored), lifted, small);
    return g_of(raised(p_stored), q_work, bitcast<vec4<f32>>(q_stored), log);
}

// p·ln(p/q) − p + q of numbers by their bits. `q` is as it was stored, and `log_of_lift` what lifting it
// took from the logarithm.
fn g_of(p_work: vec4<i32>, q_work: vec4<i32>, q: vec4<f32>, log_of_lift: vec4<f32>) -> vec4<f32> {
    // As many whole octaves as p and q lie apart, rounded towards 0.
    let apart = p_work - q_work;
    let below_0 = bitcast<vec4<u32>>(apart >> vec4(31u));
    let octaves = (apart + bitcast<vec4<i32>>(below_0 >> vec4(9u))) & vec4(OCTAVES);
    let log = vec4<f32>(octaves) * LN_2_PER_OCTAVE + log_of_lift;
    let pv = bitcast<vec4<f32>>(p_work);
    let qv = bitcast<vec4<f32>>(q_work + octaves);
    let n = pv - qv;
    // Not a quotient, which many devices make with several questions to each bin.
    let s = n * (1.0 / (pv + qv));
    // 0 within an octave, and said to be: a compiler that may reassociate must not get at q by
    // itself, next to which the product drowns.
    let far = pv * log + select(q - qv, vec4(0.0), log == vec4(0.0));
    // n·(s + (1 + s)·t), in an order that has few steps one after the other.
    let z = s * s;
    let zz = z * z;
    let t_per_z = (ATANH_0 + ATANH_1 * z) + zz * ((ATANH_2 + ATANH_3 * z) + zz * ATANH_4);
    let ns = n * s;
    return (n + ns) * z * t_per_z + (ns + far);
}
