// One bin of the Kullback-Leibler sum in the form that cannot be negative, four bins at a time.
// The formula is told in src/term.rs; the steps here are the same.

const ONE_OCTAVE: i32 = 1i << 23u;
const ATANH_0: f32 = 0.33333334;
const ATANH_1: f32 = 0.19999853;
const ATANH_2: f32 = 0.14296179;
const ATANH_3: f32 = 0.108532876;
const ATANH_4: f32 = 0.116121650;

struct Bins {
    g: vec4<f32>,     // p·ln(p/q) − p + q
    p: vec4<f32>,     // the probabilities, 0 where invalid
    q: vec4<f32>,
    flags: u32,       // SOME_…
    top: u32,         // the largest bit pattern; at least INFINITE exactly if a bin is invalid
}

fn kl_bins(p_stored: vec4<u32>, q_stored: vec4<u32>) -> Bins {
    let p_all = unsigned_zero(p_stored);
    let q_all = unsigned_zero(q_stored);
    let valid = (p_all < vec4(INFINITE)) & (q_all < vec4(INFINITE));
    let p_bits = select(vec4(0u), p_all, valid);
    let q_bits = select(vec4(0u), q_all, valid);
    let p = bitcast<vec4<f32>>(p_bits);
    let q = bitcast<vec4<f32>>(q_bits);
    let p_zero = p_bits == vec4(0u);
    let q_zero = q_bits == vec4(0u);

    let both = !(p_zero | q_zero);
    let p_work = select(vec4(ONE), p_bits, both);
    let q_work = select(vec4(ONE), q_bits, both);
    let p_lifted = lift(p_work);
    let q_lifted = lift(q_work);

    let octaves = bitcast<vec4<i32>>(p_lifted) - bitcast<vec4<i32>>(q_lifted);
    let near = abs(octaves) < vec4(ONE_OCTAVE);
    let k = select((octaves + vec4(ONE_OCTAVE / 2i)) >> vec4(23u), vec4(0i), near);
    let pv = bitcast<vec4<f32>>(p_lifted);
    let qv = bitcast<vec4<f32>>(q_lifted + bitcast<vec4<u32>>(k << vec4(23u)));
    let n = pv - qv;
    let s = n / (pv + qv);
    let z = s * s;
    let t = z * ((((ATANH_4 * z + ATANH_3) * z + ATANH_2) * z + ATANH_1) * z + ATANH_0);

    let lifts = lifted_by(p_work) - lifted_by(q_work);
    let log2 = vec4<f32>(k - lifts);
    let curve = n * (s + (1.0 + s) * t) + pv * (log2 * LN_2);
    // A lifted p is brought back in two steps, since 2^-149 itself is subnormal.
    let small = p_work < vec4(TINY);
    let scale = select(vec4(1.0), vec4(bitcast<f32>((127u - 75u) << 23u)), small);
    let rest = select(vec4(1.0), vec4(bitcast<f32>((127u - 74u) << 23u)), small);
    // The last summand is 0 for k = 0, and said to be: a compiler that may reassociate must not get
    // at n by itself, next to which the product drowns.
    let same_octave = near & (lifts == vec4(0i));
    let g = curve * scale * rest + select(n * scale * rest - (p - q), vec4(0.0), same_octave);

    let tops = max(p_all, q_all);
    return Bins(
        select(q, g, both), // p = 0 contributes q; p > 0 = q makes the row infinite anyway
        p,
        q,
        select(0u, SOME_INFINITE, any(q_zero & !p_zero)),
        max(max(tops.x, tops.y), max(tops.z, tops.w)),
    );
}
