// The bins of a row of which a side is logarithms as those of two distributions.

// What the first pass left of a row, as in chain.wgsl.
struct Head {
    w: Real,
    v: Real,
    p_exponent: i32,
    q_exponent: i32,
    high: Real,
    low: Real,
    g: Real,
    unused: u32,
    consumed: u32,
    flags: u32,
    ticket: u32,
}

fn masses_of(head: Head) -> Masses {
    let p = normalized(head.w, head.p_exponent);
    let q = normalized(head.v, head.q_exponent);
    return Masses(p.mass, q.mass, p.exponent, q.exponent);
}

fn in_units(stored: Quad, side: Side, exponent: i32) -> vec4<Real> {
    let by = side.weight.exponent - vec4(exponent);
    let inside = by >= vec4(LOWEST_EXPONENT);
    let unit = pow2(clamp(by, vec4(LOWEST_EXPONENT), vec4(MOST_EXPONENT)));
    return select(vec4<Real>(0.0), side.weight.mantissa * unit, inside);
}

fn is_beyond(side: Side, x: vec4<Real>, exponent: i32) -> vec4<bool> {
    return side.weight.exponent - vec4(exponent) > vec4(MOST_EXPONENT);
}

// (p + q)·tanh(l/2), where that is better than p − q.
fn apart(x: vec4<Real>, y: vec4<Real>, p: vec4<Real>, q: vec4<Real>, far: Pair, scale: Scale) -> Apart {
    let l = far.hi + far.lo;
    let near = abs(l) <= vec4<Real>(1.0);
    // Of the magnitude, so that swapping P and Q changes the sign and nothing else.
    let more = expm1(select(vec4<Real>(0.0), abs(l), near));
    let n = (p + q) * (more / (more + 2.0));
    return Apart(select(p - q, select(n, -n, l < vec4<Real>(0.0)), near), far);
}
