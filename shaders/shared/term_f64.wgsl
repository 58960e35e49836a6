// One bin of the Kullback-Leibler sum in f64, four bins at a time. The formula is told in
// src/term.rs. With atanh_f64.wgsl.

fn kl_bins(p_stored: Stored, q_stored: Stored) -> Bins {
    let p = load(p_stored);
    let q = load(q_stored);
    let both = !(p.zero | q.zero);
    let pv = select(vec4<f64>(1.0), p.value, both);
    let q_own = select(vec4<f64>(1.0), q.value, both);
    // As many whole octaves as p and q lie apart, rounded towards 0.
    let apart = select(vec4(0i), bitcast<vec4<i32>>(p.high) - bitcast<vec4<i32>>(q.high), both);
    let k = (apart + ((apart >> vec4(31u)) & vec4(ONE_OCTAVE - 1i))) >> vec4(20u);
    let qv = scale(q_own, k);
    let n = pv - qv;
    let s = n / (pv + qv);
    let t = atanh_tail(s * s);
    // Said to be 0 where it is: a compiler that may reassociate must not get at q by itself, next to
    // which the product drowns.
    let far = pv * (vec4<f64>(k) * LN_2) + select(q_own - qv, vec4<f64>(0.0), k == vec4(0i));
    let g = n * (s + (1.0 + s) * t) + far;
    return Bins(
        select(q.value, g, both), // p = 0 contributes q
        p.value,
        q.value,
        p.value - q.value,
        select(INFINITE, 0u, any(q.zero & !p.zero)),
        largest(max(max(p.top, q.top), select(vec4(0u), vec4(HUGE), p.faint | q.faint))),
    );
}

// The host looks closer at whatever is that small.
fn has_small(least: u32) -> bool {
    return false;
}

fn lifted_g(p_stored: Stored, q_stored: Stored) -> vec4<f64> {
    return vec4<f64>();
}
