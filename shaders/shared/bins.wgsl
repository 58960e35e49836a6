// Four bins of a row as those of two distributions: what the terms of every divergence are made of. With
// bins_f32.wgsl or bins_f64.wgsl, and with family_sums.wgsl or family_chain.wgsl. As in src/cpu/bins.rs,
// swapping P and Q changes the signs of n and l, and nothing else.

// What the terms look at. Many devices compute whatever they may choose from: a kernel is compiled for some.
override LOOK: u32 = 2u;

const AT_LOGARITHMS: u32 = 1u;  // and not at p, q and p − q alone
const AT_POWERS: u32 = 2u;      // of the ratios, too

// The masses of a row, between 1 and 2, in units of powers of two.
struct Masses {
    p: Real,
    q: Real,
    p_exponent: i32,
    q_exponent: i32,
}

struct Normalized {
    mass: Real,
    exponent: i32,
}

// What makes distributions of a row's bins.
struct Scale {
    p: Real,             // the masses, as above
    q: Real,
    p_exponent: i32,
    q_exponent: i32,
    p_ln: Pair,          // their logarithms
    q_ln: Pair,
    ratio: Pair,         // and that of their ratio, with what is unbalanced
    unbalanced: Real,    // the logarithm of the ratio of the masses that bins divided by these have
}

fn as_given() -> Scale {
    let none = Pair(vec4<Real>(0.0), vec4<Real>(0.0));
    return Scale(1.0, 1.0, 0i, 0i, none, none, none, 0.0);
}

fn scale_by(masses: Masses, unbalanced: Real) -> Scale {
    var ratio = ln_ratio(masses.p, masses.q, masses.p_exponent - masses.q_exponent);
    ratio.lo += unbalanced;
    return Scale(
        masses.p,
        masses.q,
        masses.p_exponent,
        masses.q_exponent,
        ln_ratio(masses.p, 1.0, masses.p_exponent),
        ln_ratio(masses.q, 1.0, masses.q_exponent),
        ratio,
        unbalanced,
    );
}

struct Bins {
    p: vec4<Real>,       // 1 where P has nothing
    q: vec4<Real>,
    n: vec4<Real>,       // p − q, with its digits; 0 unless both have something
    l: Pair,             // ln(p/q), likewise
    p_ln: Pair,          // ln p and ln q
    q_ln: Pair,
    both: vec4<bool>,
    p_on: vec4<bool>,
    q_on: vec4<bool>,
    only: vec2<Real>,    // what P has in bins that Q lacks, and the other way round
    flags: u32,
}

// n and l of bins that both sides have.
struct Apart {
    n: vec4<Real>,
    l: Pair,
}

// e^x: what is larger than 2^MOST_EXPONENT shows in the sum, and the host looks closer.
fn exp_of(x: Pair) -> vec4<Real> {
    let within = vec4<Real>(1e5);
    let lo = select(x.lo, vec4<Real>(0.0), abs(x.hi) >= within);
    let e = power_of(Pair(clamp(x.hi, -within, within), lo));
    let unit = pow2(clamp(e.exponent, vec4(LOWEST_EXPONENT), vec4(MOST_EXPONENT + 50i)));
    return select(vec4<Real>(0.0), e.mantissa * unit, e.exponent >= vec4(LOWEST_EXPONENT));
}

fn plus(a: Pair, b: Pair) -> Pair {
    let s = two_sum(a.hi, b.hi);
    return two_sum(s.hi, s.lo + (a.lo + b.lo));
}

// By a number in parts, as for `scaled`.
fn times(a: Pair, by: vec4<f32>) -> Pair {
    let parts = vec4<Real>(by);
    let product = scaled(a.hi, parts.x, parts.y, parts.z);
    return two_sum(product.hi, product.lo + a.lo * (parts.x + parts.y));
}

fn minus(a: Pair, b: Pair) -> Pair {
    let d = two_diff(a.hi, b.hi);
    return two_sum(d.hi, d.lo + (a.lo - b.lo));
}

fn kept(a: Pair, where_: vec4<bool>) -> Pair {
    return Pair(select(vec4<Real>(0.0), a.hi, where_), select(vec4<Real>(0.0), a.lo, where_));
}

fn total(x: vec4<Real>) -> Real {
    return (x.x + x.y) + (x.z + x.w);
}

fn bins_at(row: u32, quad: u32, end: u32, scale: Scale) -> Bins {
    let at = min(quad, end - 1u);
    let inside = vec4(0u, 1u, 2u, 3u) < vec4(bins_in(quad, end));
    let p_stored = p_quad(row, at, quad < end);
    let q_stored = q_quad(row, at, quad < end);
    let a = side_of(p_stored, p_kind(), inside);
    let b = side_of(q_stored, q_kind(), inside);
    let both = a.on & b.on;
    let x = in_units(p_stored, a, scale.p_exponent);
    let y = in_units(q_stored, b, scale.q_exponent);
    // Nothing of the divisions is to be fused with a sum of p and q: it would be with one of them.
    let p = exact(x / scale.p);
    let q = exact(y / scale.q);
    let between = apart(x, y, p, q, minus(minus(a.ln, b.ln), scale.ratio), scale);

    var bins: Bins;
    bins.both = both;
    bins.p_on = a.on;
    bins.q_on = b.on;
    bins.p = select(vec4<Real>(1.0), max(p, vec4<Real>(FLOOR)), a.on);
    bins.q = select(vec4<Real>(1.0), max(q, vec4<Real>(FLOOR)), b.on);
    bins.n = select(vec4<Real>(0.0), between.n, both);
    bins.l = kept(between.l, both);
    bins.p_ln = kept(minus(a.ln, scale.p_ln), a.on);
    bins.q_ln = kept(minus(b.ln, scale.q_ln), b.on);
    let p_only = a.on & !b.on;
    let q_only = b.on & !a.on;
    bins.only = vec2<Real>(
        total(select(vec4<Real>(0.0), bins.p, p_only)),
        total(select(vec4<Real>(0.0), bins.q, q_only)),
    );
    let huge = (a.on & is_beyond(a, x, scale.p_exponent))
        | (b.on & is_beyond(b, y, scale.q_exponent));
    bins.flags = a.flags | b.flags | flags_of_low(a, b)
        | select(0u, SOME_INFINITE, any(p_only))
        | select(0u, SOME_OF_Q_ALONE, any(q_only))
        | select(0u, SOME_OF_BOTH, any(both))
        | select(0u, SOME_HUGE, any(huge));
    return bins;
}

// The same with P and Q in each other's place.
fn swapped(bins: Bins) -> Bins {
    var other = bins;
    other.p = bins.q;
    other.q = bins.p;
    other.n = -bins.n;
    other.l = Pair(-bins.l.hi, -bins.l.lo);
    other.p_ln = bins.q_ln;
    other.q_ln = bins.p_ln;
    return other;
}
