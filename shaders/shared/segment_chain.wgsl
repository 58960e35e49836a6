// A segment of bins of which a side is logarithms, as one node.

// Four bins.
struct Leaves {
    p: Power,
    q: Power,
    d: Pair,            // ln(p/q)
    both: vec4<bool>,
    flags: u32,
}

fn leaves_at(row: u32, quad: u32, end: u32) -> Leaves {
    let at = min(quad, end - 1u);
    let inside = vec4(0u, 1u, 2u, 3u) < vec4(bins_in(quad, end));
    let a = side_of(p_quad(row, at, quad < end), params.p_kind, inside);
    let b = side_of(q_quad(row, at, quad < end), params.q_kind, inside);
    var d = two_diff(a.ln.hi, b.ln.hi);
    d.lo += a.ln.lo - b.ln.lo;
    let infinite = any(a.on & !b.on);
    let flags = a.flags | b.flags | select(0u, SOME_INFINITE, infinite);
    return Leaves(a.weight, b.weight, d, a.on & b.on, flags);
}

fn largest(a: vec4<i32>, b: vec4<i32>, c: vec4<i32>, e: vec4<i32>) -> i32 {
    let top = max(max(a, b), max(c, e));
    return max(max(top.x, top.y), max(top.z, top.w));
}

fn total(a: vec4<Real>, b: vec4<Real>, c: vec4<Real>, e: vec4<Real>) -> Real {
    let sum = (a + b) + (c + e);
    return (sum.x + sum.y) + (sum.z + sum.w);
}

fn weights(power: Power, exponent: i32) -> vec4<Real> {
    return scaled_down(power.mantissa, power.exponent - vec4(exponent));
}

// The node above the bins of one trip.
fn block(a: Leaves, b: Leaves, c: Leaves, e: Leaves) -> Record {
    let p_exponent = largest(a.p.exponent, b.p.exponent, c.p.exponent, e.p.exponent);
    let q_exponent = largest(a.q.exponent, b.q.exponent, c.q.exponent, e.q.exponent);
    let wa = weights(a.p, p_exponent);
    let wb = weights(b.p, p_exponent);
    let wc = weights(c.p, p_exponent);
    let we = weights(e.p, p_exponent);
    let va = weights(a.q, q_exponent);
    let vb = weights(b.q, q_exponent);
    let vc = weights(c.q, q_exponent);
    let ve = weights(e.q, q_exponent);
    // Without a mass the exponents are those of nothing, and so the weights 1.
    let w = select(Real(0.0), total(wa, wb, wc, we), p_exponent > NO_MASS);
    let v = select(Real(0.0), total(va, vb, vc, ve), q_exponent > NO_MASS);
    let ref_ = reference(w, v, p_exponent - q_exponent);
    let xa = excess(wa, va, a.d, a.both, ref_);
    let xb = excess(wb, vb, b.d, b.both, ref_);
    let xc = excess(wc, vc, c.d, c.both, ref_);
    let xe = excess(we, ve, e.d, e.both, ref_);
    let g = total(xa.g, xb.g, xc.g, xe.g);
    let u = total(xa.u, xb.u, xc.u, xe.u);
    var record = node(w, v, p_exponent, q_exponent, ref_, g, u);
    record.flags = a.flags | b.flags | c.flags | e.flags;
    return record;
}

// What a trip has in place of loads that it does without.
fn no_leaves() -> Leaves {
    let nothing = Power(vec4<Real>(1.0), vec4(NO_MASS));
    return Leaves(nothing, nothing, Pair(vec4<Real>(0.0), vec4<Real>(0.0)), vec4(false), 0u);
}

// The loop tests at its end: see segment_sums.wgsl.
fn segment_sum(row: u32, segment: u32, lane: u32, lanes: u32) -> Record {
    let first = segment * params.segment_quads;
    let end = min(first + params.segment_quads, (params.bins + 3u) / 4u);
    var record = nothing(params.ticket);
    var quad = first + lane;
    loop {
        let quads = vec4(quad) + lanes * vec4(0u, 1u, 2u, 3u);
        let a = leaves_at(row, quads.x, end);
        var b = no_leaves();
        var c = no_leaves();
        var e = no_leaves();
        var bins = bins_in(quads.x, end);
        if (LOADS >= 2u) {
            b = leaves_at(row, quads.y, end);
            bins += bins_in(quads.y, end);
        }
        if (LOADS >= 4u) {
            c = leaves_at(row, quads.z, end);
            e = leaves_at(row, quads.w, end);
            bins += bins_in(quads.z, end) + bins_in(quads.w, end);
        }
        var more = block(a, b, c, e);
        more.consumed = bins;
        record = added(record, more);
        continuing {
            quad += LOADS * lanes;
            break if quad >= end;
        }
    }
    return record;
}
