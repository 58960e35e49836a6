// Records of relative entropy by its chain rule, which src/chain.rs tells: the node above some bins
// of a row, for rows of which a side is logarithms.

struct Record {
    w: Real,          // the mass under P, in units of 2^p_exponent
    v: Real,          // the mass under Q, in units of 2^q_exponent
    p_exponent: i32,
    q_exponent: i32,
    high: Real,       // ln(P/Q) in two parts; 0 where one of the masses is
    low: Real,
    g: Real,          // the mass under P times the divergence of the conditional distributions
    unused: u32,
    consumed: u32,    // bins below this node
    flags: u32,       // SOME_…
    ticket: u32,      // which submission wrote this
}

fn nothing(ticket: u32) -> Record {
    return Record(0.0, 0.0, NO_MASS, NO_MASS, 0.0, 0.0, 0.0, 0u, 0u, 0u, ticket);
}

// x·2^by for by ≤ 0; 0 where that is far below the numbers beside it.
fn scaled_down(x: vec4<Real>, by: vec4<i32>) -> vec4<Real> {
    let inside = by >= vec4(LOWEST_EXPONENT);
    return select(vec4<Real>(0.0), x * pow2(max(by, vec4(LOWEST_EXPONENT))), inside);
}

// What the ratios of the children's masses are held against, near the ratio of their sums.
struct Reference {
    high: Real,   // its logarithm, in two parts
    low: Real,
    to_p: Real,   // what brings a mass under Q into the unit of P
}

fn reference(w: Real, v: Real, exponents: i32) -> Reference {
    if (!(w > 0.0 && v > 0.0)) {
        return Reference(0.0, 0.0, 0.0);
    }
    let ln = ln_ratio(w, v, exponents);
    return Reference(ln.hi.x, ln.lo.x, w / v);
}

// What the chain rule adds for four children.
struct Excess {
    g: vec4<Real>,   // w·y − w + v′
    u: vec4<Real>,   // v′ − w
}

// `w` and `v` are the children's masses in the node's units, `d` the logarithms of their ratios, and
// `both` says which have both.
fn excess(w: vec4<Real>, v: vec4<Real>, d: Pair, both: vec4<bool>, c: Reference) -> Excess {
    let y = select(vec4<Real>(0.0), exact_diff(d.hi, vec4<Real>(c.high)) + (d.lo - vec4<Real>(c.low)), both);
    let near = both & (abs(y) <= vec4<Real>(2.0));
    let tail = phi(-y);
    let far_u = v * c.to_p - w;
    return Excess(
        select(far_u + w * y, w * tail, near),
        select(far_u, w * (tail - y), near),
    );
}

// The node with these masses, once its children's excesses are summed.
fn node(w: Real, v: Real, p_exponent: i32, q_exponent: i32, c: Reference, g: Real, u_sum: Real) -> Record {
    var record = nothing(0u);
    record.w = w;
    record.v = v;
    record.p_exponent = p_exponent;
    record.q_exponent = q_exponent;
    if (w > 0.0 && v > 0.0) {
        let u = u_sum / w;
        let of_masses = of_ratio(u, v * c.to_p / w);
        let ln = less(c.high, c.low, of_masses.ln);
        record.high = ln.x;
        record.low = ln.y;
        record.g = max(g - w * of_masses.eta, 0.0);
    }
    return record;
}

fn added(a: Record, b: Record) -> Record {
    var record: Record;
    if (a.consumed == 0u) {
        record = b;
    } else if (b.consumed == 0u) {
        record = a;
    } else {
        let p_exponent = max(a.p_exponent, b.p_exponent);
        let q_exponent = max(a.q_exponent, b.q_exponent);
        let w_stored = vec4<Real>(a.w, b.w, 0.0, 0.0);
        let v_stored = vec4<Real>(a.v, b.v, 0.0, 0.0);
        let p_by = vec4(a.p_exponent, b.p_exponent, p_exponent, p_exponent) - vec4(p_exponent);
        let q_by = vec4(a.q_exponent, b.q_exponent, q_exponent, q_exponent) - vec4(q_exponent);
        let w = scaled_down(w_stored, p_by);
        let v = scaled_down(v_stored, q_by);
        let both = (w_stored > vec4<Real>(0.0)) & (v_stored > vec4<Real>(0.0));
        let d = Pair(vec4<Real>(a.high, b.high, 0.0, 0.0), vec4<Real>(a.low, b.low, 0.0, 0.0));
        let c = reference(w.x + w.y, v.x + v.y, p_exponent - q_exponent);
        let more = excess(w, v, d, both, c);
        let g = more.g.x + more.g.y;
        record = node(w.x + w.y, v.x + v.y, p_exponent, q_exponent, c, g, more.u.x + more.u.y);
        let within = scaled_down(vec4<Real>(a.g, b.g, 0.0, 0.0), p_by);
        record.g += within.x + within.y;
    }
    record.consumed = a.consumed + b.consumed;
    record.flags = a.flags | b.flags;
    record.ticket = a.ticket;
    return record;
}
