// Records of relative entropy by its chain rule, which src/chain.rs tells: the node above some bins
// of a row, for rows of which a side is logarithms.

struct Record {
    w: f32,           // the mass under P, in units of 2^p_exponent
    v: f32,           // the mass under Q, in units of 2^q_exponent
    p_exponent: i32,
    q_exponent: i32,
    high: f32,        // ln(P/Q) in two parts; 0 where one of the masses is
    low: f32,
    g: f32,           // the mass under P times the divergence of the conditional distributions
    unused_0: u32,
    unused_1: u32,
    consumed: u32,    // bins below this node
    flags: u32,       // SOME_…
    ticket: u32,      // which submission wrote this
}

// The exponent of a mass of 0: below all others, and still far from the end of the integers.
const NO_MASS: i32 = -(1i << 28u);

fn nothing(ticket: u32) -> Record {
    return Record(0.0, 0.0, NO_MASS, NO_MASS, 0.0, 0.0, 0.0, 0u, 0u, 0u, 0u, ticket);
}

// x·2^by for by ≤ 0; 0 where that is no normal number.
fn scaled_down(x: vec4<f32>, by: vec4<i32>) -> vec4<f32> {
    let power = bitcast<vec4<f32>>(bitcast<vec4<u32>>(max(by, vec4(-126i)) + vec4(127i)) << vec4(23u));
    return select(vec4(0.0), x * power, by >= vec4(-125i));
}

// What the ratios of the children's masses are held against, near the ratio of their sums.
struct Reference {
    high: f32,   // its logarithm, in two parts
    low: f32,
    to_p: f32,   // what brings a mass under Q into the unit of P
}

fn reference(w: f32, v: f32, exponents: i32) -> Reference {
    if (!(w > 0.0 && v > 0.0)) {
        return Reference(0.0, 0.0, 0.0);
    }
    let logs = ln(bitcast<vec4<u32>>(vec4(w, v, 1.0, 1.0)));
    let k = vec4(f32(exponents));
    let octaves = exact(k * LN_2);
    let lost = (exact(k * LN_2_A - octaves) + k * LN_2_B) + (k * LN_2_C + k * LN_2_D);
    let ratio = (logs.hi.x - logs.hi.y) + (logs.lo.x - logs.lo.y);
    let sum = two_sum(octaves, lost + vec4(ratio));
    return Reference(sum.hi.x, sum.lo.x, w / v);
}

// What the chain rule adds for four children.
struct Excess {
    g: vec4<f32>,   // w·y − w + v′
    u: vec4<f32>,   // v′ − w
}

// `w` and `v` are the children's masses in the node's units, `d` the logarithms of their ratios, and
// `both` says which have both.
fn excess(w: vec4<f32>, v: vec4<f32>, d: Pair, both: vec4<bool>, c: Reference) -> Excess {
    let y = select(vec4(0.0), exact(d.hi - vec4(c.high)) + (d.lo - vec4(c.low)), both);
    let near = both & (abs(y) <= vec4(2.0));
    let tail = phi(select(vec4(0.0), -y, near));
    let far_u = v * c.to_p - w;
    return Excess(
        select(far_u + w * y, w * tail, near),
        select(far_u, w * (tail - y), near),
    );
}

// The node with these masses, once its children's excesses are summed.
fn node(w: f32, v: f32, p_exponent: i32, q_exponent: i32, c: Reference, g: f32, u_sum: f32) -> Record {
    var record = nothing(0u);
    record.w = w;
    record.v = v;
    record.p_exponent = p_exponent;
    record.q_exponent = q_exponent;
    if (w > 0.0 && v > 0.0) {
        // The reference was next to the ratio of the masses, so that u is small: series for
        // ln(1 + u), and for what is left of u.
        let u = u_sum / w;
        record.high = c.high;
        record.low = c.low - u * (1.0 - u * (0.5 - u * 0.33333333));
        record.g = max(g - w * u * u * (0.5 - u * 0.33333333), 0.0);
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
        let w_stored = vec4(a.w, b.w, 0.0, 0.0);
        let v_stored = vec4(a.v, b.v, 0.0, 0.0);
        let p_by = vec4(a.p_exponent, b.p_exponent, p_exponent, p_exponent) - vec4(p_exponent);
        let q_by = vec4(a.q_exponent, b.q_exponent, q_exponent, q_exponent) - vec4(q_exponent);
        let w = scaled_down(w_stored, p_by);
        let v = scaled_down(v_stored, q_by);
        let both = (w_stored > vec4(0.0)) & (v_stored > vec4(0.0));
        let d = Pair(vec4(a.high, b.high, 0.0, 0.0), vec4(a.low, b.low, 0.0, 0.0));
        let c = reference(w.x + w.y, v.x + v.y, p_exponent - q_exponent);
        let more = excess(w, v, d, both, c);
        let g = more.g.x + more.g.y;
        record = node(w.x + w.y, v.x + v.y, p_exponent, q_exponent, c, g, more.u.x + more.u.y);
        let within = scaled_down(vec4(a.g, b.g, 0.0, 0.0), p_by);
        record.g += within.x + within.y;
    }
    record.consumed = a.consumed + b.consumed;
    record.flags = a.flags | b.flags;
    record.ticket = a.ticket;
    return record;
}
