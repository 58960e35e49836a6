// One bin of the Kullback-Leibler sum in f64, four bins at a time. The formula is told in
// src/term.rs.

// atanh(s) = s·(1 + s²·(c₀ + c₁s² + …)) for |s| ≤ 1/3, as in src/term.rs.
const ATANH_0: f64 = 0.3333333333333333;
const ATANH_1: f64 = 0.19999999999999762;
const ATANH_2: f64 = 0.1428571428580005;
const ATANH_3: f64 = 0.11111111099118386;
const ATANH_4: f64 = 0.09090909948981357;
const ATANH_5: f64 = 0.07692271982430275;
const ATANH_6: f64 = 0.06667589315724629;
const ATANH_7: f64 = 0.05867139530651599;
const ATANH_8: f64 = 0.05422589197440007;
const ATANH_9: f64 = 0.03746071897775383;
const ATANH_10: f64 = 0.07815288900461426;

fn atanh_tail(z: vec4<f64>) -> vec4<f64> {
    let a = ((ATANH_10 * z + ATANH_9) * z + ATANH_8) * z + ATANH_7;
    let b = (((a * z + ATANH_6) * z + ATANH_5) * z + ATANH_4) * z + ATANH_3;
    return z * (((b * z + ATANH_2) * z + ATANH_1) * z + ATANH_0);
}

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
        select(vec4(INFINITE), vec4(0u), q.zero & !p.zero),
        max(max(p.top, q.top), select(vec4(0u), vec4(HUGE), p.faint | q.faint)),
    );
}

// The host looks closer at whatever is that small.
fn has_small(least: vec4<u32>) -> bool {
    return false;
}

fn lifted_g(p_stored: Stored, q_stored: Stored) -> vec4<f64> {
    return vec4<f64>();
}
