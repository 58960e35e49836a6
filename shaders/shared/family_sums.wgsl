// The bins of a row of probabilities as those of two distributions.

// What the first pass left of a row, as in sums.wgsl.
struct Head {
    g_and_p: vec2<Real>,
    q_and_d: vec2<Real>,
    top: u32,
    consumed: u32,
    flags: u32,
    ticket: u32,
}

fn masses_of(head: Head) -> Masses {
    let p = normalized(head.g_and_p.y, 0i);
    let q = normalized(head.q_and_d.x, 0i);
    return Masses(p.mass, q.mass, p.exponent, q.exponent);
}

// The numbers themselves, and not the exponentials of their logarithms.
fn in_units(stored: vec4<u32>, side: Side, exponent: i32) -> vec4<f32> {
    return bitcast<vec4<f32>>(stored) * pow2(vec4(clamp(-exponent, -126i, 127i)));
}

// Differences next to which a logarithm by the table has fewer digits than one by the series.
const NEARBY: f32 = 0.0625;

// p·Q − q·P in two parts, of which nothing is lost where p and q are nearly equal: the masses have
// two halves of 12 bits.
fn apart(x: vec4<f32>, y: vec4<f32>, p: vec4<f32>, q: vec4<f32>, far: Pair, scale: Scale) -> Apart {
    let p_upper = bitcast<f32>(bitcast<u32>(scale.p) & 0xfffff000u);
    let q_upper = bitcast<f32>(bitcast<u32>(scale.q) & 0xfffff000u);
    let xq = scaled(x, q_upper, scale.q - q_upper, 0.0);
    let yp = scaled(y, p_upper, scale.p - p_upper, 0.0);
    let difference = two_diff(xq.hi, yp.hi);
    let given = (difference.hi + (difference.lo + (xq.lo - yp.lo))) / (scale.p * scale.q);
    let n = given - 0.5 * scale.unbalanced * (p + q);
    let s = n / max(p + q, vec4(FLOOR));
    let near = (abs(s) <= vec4(NEARBY)) & (p + q > vec4(FLOOR));
    let l = 2.0 * (s + s * atanh_tail(s * s));
    return Apart(n, Pair(select(far.hi, l, near), select(far.lo, vec4(0.0), near)));
}
