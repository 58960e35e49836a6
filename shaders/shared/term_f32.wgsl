// One bin of the Kullback-Leibler sum in the form that cannot be negative, four bins at a time.
// The formula is told in src/term.rs. Here a p below the normal numbers counts as 0, which is off by
// less than 2^-118, and a q there is brought into range in integers, since its logarithm counts: the
// host looks closer at rows whose G is so small that it matters, and at those with a −0.

const LN_2_PER_LIFT: f32 = 149.0 * LN_2;      // of a subnormal number's bits, taken as an integer

fn kl_bins(p_stored: vec4<u32>, q_stored: vec4<u32>) -> Bins {
    let p_bits = bitcast<vec4<i32>>(p_stored);
    let q_bits = bitcast<vec4<i32>>(q_stored);
    let p = bitcast<vec4<f32>>(p_stored);
    let q = bitcast<vec4<f32>>(q_stored);

    let lowest = vec4(i32(LOWEST_NORMAL));
    let p_work = max(p_bits, lowest);
    let q_low = q_bits < lowest;
    let q_work = select(q_bits, bitcast<vec4<i32>>(vec4<f32>(q_bits)), q_low);

    // As many whole octaves as p and q lie apart, rounded towards 0.
    let apart = p_work - q_work;
    let octaves = (apart + ((apart >> vec4(31u)) & vec4(~OCTAVES))) & vec4(OCTAVES);
    let log = vec4<f32>(octaves) * LN_2_PER_OCTAVE + select(vec4(0.0), vec4(LN_2_PER_LIFT), q_low);
    let pv = bitcast<vec4<f32>>(p_work);
    let qv = bitcast<vec4<f32>>(q_work + octaves);
    let n = pv - qv;
    let s = n / (pv + qv);
    // 0 within an octave, and said to be: a compiler that may reassociate must not get at q by
    // itself, next to which the product drowns.
    let far = pv * log + select(q - qv, vec4(0.0), log == vec4(0.0));
    // n·(s + (1 + s)·t), in an order that has few steps one after the other.
    let z = s * s;
    let zz = z * z;
    let t_per_z = (ATANH_0 + ATANH_1 * z) + zz * ((ATANH_2 + ATANH_3 * z) + zz * ATANH_4);
    let g = (n + n * s) * z * t_per_z + (n * s + far);
    return Bins(
        select(g, q, p_bits < lowest), // p = 0 contributes q
        p,
        q,
        p - q,
        select(vec4(0u), p_stored, q_stored == vec4(0u)),
        max(p_stored, q_stored),
    );
}
