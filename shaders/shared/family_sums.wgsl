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

// What a driver is told need not be computed for other kinds as well.
fn p_kind() -> u32 {
    return PROBS;
}

fn q_kind() -> u32 {
    return PROBS;
}

// The numbers themselves, and not the exponentials of their logarithms.
fn in_units(stored: Quad, side: Side, exponent: i32) -> vec4<Real> {
    return number_of(stored) * pow2(vec4(clamp(-exponent, -126i, 127i)));
}

// Whether they are beyond what the sums take, in these units.
fn is_beyond(side: Side, x: vec4<Real>, exponent: i32) -> vec4<bool> {
    return x >= vec4<Real>(0x1p65);
}

// p·Q − q·P in two parts, of which nothing is lost where p and q are nearly equal.
fn apart(x: vec4<Real>, y: vec4<Real>, p: vec4<Real>, q: vec4<Real>, far: Pair, scale: Scale) -> Apart {
    let upper = upper_half(vec4<Real>(scale.p, scale.q, 0.0, 0.0));
    let xq = scaled(x, upper.y, scale.q - upper.y, 0.0);
    let yp = scaled(y, upper.x, scale.p - upper.x, 0.0);
    let difference = two_diff(xq.hi, yp.hi);
    let given = (difference.hi + (difference.lo + (xq.lo - yp.lo))) / (scale.p * scale.q);
    let n = given - 0.5 * scale.unbalanced * (p + q);
    let s = n / max(p + q, vec4<Real>(FLOOR));
    let near = (abs(s) <= vec4<Real>(NEARBY)) & (p + q > vec4<Real>(FLOOR));
    let l = 2.0 * (s + s * atanh_tail(s * s));
    return Apart(n, Pair(select(far.hi, l, near), select(far.lo, vec4<Real>(0.0), near)));
}
