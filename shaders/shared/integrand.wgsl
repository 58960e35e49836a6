// What a bin adds to the sums that divergences are made of, four bins at a time: the formulas of
// src/integrand.rs. With integrand_f32.wgsl or integrand_f64.wgsl. A term is never negative, and has its
// digits where p and q are nearly equal.

const NO_SUM: u32 = 0u;
const DIFFERENCE: u32 = 1u;        // p − q
const REVERSE_KL: u32 = 2u;
const JEFFREYS: u32 = 3u;
const JENSEN_SHANNON: u32 = 4u;    // its weight, 1 less that, and what the former lacks in f32
const ROOTS: u32 = 5u;             // POWER for the order 1/2
// The four of powers have the numbers from POWER to OVERLAP, overlaps the last two.
const POWER: u32 = 6u;             // an order above 1/2, less 1, in three parts; the order in f32
const SWAPPED_POWER: u32 = 7u;     // the same with P and Q in each other's place
const ROOT_OVERLAP: u32 = 8u;      // OVERLAP for the order 1/2
const OVERLAP: u32 = 9u;           // the order less 1 in three parts
const LARGEST: u32 = 10u;          // no sum: Record.largest
const VARIATION: u32 = 11u;
const CROSS_ENTROPY: u32 = 12u;
const ENTROPY: u32 = 13u;

// q·ln(q/p) − q + p, with the signs of n and l those of P before Q.
fn reverse_kl(bins: Bins, l: vec4<Real>) -> vec4<Real> {
    let s = -bins.n / (bins.p + bins.q);
    let t = atanh_tail(s * s);
    let near = -bins.n * (s + (1.0 + s) * t);
    return select(bins.n - bins.q * l, near, abs(s) <= vec4<Real>(0.33333334));
}

// Products that a compiler must not fuse with one of the two sums, since it would not with the other.
fn jensen_shannon(bins: Bins, parameters: vec4<f32>) -> vec4<Real> {
    let w = weights_of(parameters).x;
    let v = weights_of(parameters).y;
    let m = exact(w * bins.p) + exact(v * bins.q);
    let of_p = exact(w * bregman(bins.p, m, v * bins.n));
    return of_p + exact(v * bregman(bins.q, m, -(w * bins.n)));
}

// (√p − √q)² without a difference of roots, twice.
fn roots(bins: Bins) -> vec4<Real> {
    let s = bins.n / (sqrt(bins.p) + sqrt(bins.q));
    return 2.0 * s * s;
}

// (a·p + (1−a)·q − pᵃ·q¹⁻ᵃ) / (a·(1−a)), of pᵃ·q¹⁻ᵃ.
fn power(bins: Bins, raised: vec4<Real>, i: u32) -> vec4<Real> {
    let l = bins.l.hi + bins.l.lo;
    let parameters = params.parameters[i];
    let order = order_of(parameters).itself;
    let delta = order_of(parameters).less_1;
    let near = abs(l) * max(order, 1.0) <= vec4<Real>(REACH);
    let by_series = bins.q * (l * l) * series(i, order, l);
    // p·(e^z − 1)/δ, which is p·l in the limit.
    let z = delta * l;
    let small = abs(z) <= vec4<Real>(1.0);
    let some = small & (abs(z) >= vec4<Real>(0x1p-60));
    let z_some = select(vec4<Real>(1.0), z, some);
    let rise = 1.0 + select(vec4<Real>(0.0), phi(z_some) / z_some, some);
    let of_p = select((raised - bins.p) / delta, bins.p * l * rise, small);
    return select(max((of_p - bins.n) / order, vec4<Real>(0.0)), by_series, near);
}

// What four bins add to the i-th sum.
fn term(i: u32, bins: Bins) -> vec4<Real> {
    let code = params.codes[i];
    var term = of_numbers(code, params.parameters[i], bins);
    var where_ = bins.both;
    if (LOOK >= AT_LOGARITHMS) {
        term += of_logarithms(code, bins);
        where_ = select(where_, bins.p_on, vec4(code == ENTROPY));
    }
    if (LOOK >= AT_POWERS) {
        term += of_powers(code, i, bins);
    }
    return select(vec4<Real>(0.0), term, where_);
}

fn of_numbers(code: u32, parameters: vec4<f32>, bins: Bins) -> vec4<Real> {
    switch code {
        case DIFFERENCE: { return bins.n; }
        case JENSEN_SHANNON: { return jensen_shannon(bins, parameters); }
        case ROOTS: { return roots(bins); }
        case VARIATION: { return 0.5 * abs(bins.n); }
        default: { return vec4<Real>(0.0); }
    }
}

fn of_logarithms(code: u32, bins: Bins) -> vec4<Real> {
    let l = bins.l.hi + bins.l.lo;
    switch code {
        case REVERSE_KL: { return reverse_kl(bins, l); }
        case JEFFREYS: { return bins.n * l; }
        case CROSS_ENTROPY: { return -bins.p * (bins.q_ln.hi + bins.q_ln.lo); }
        case ENTROPY: { return -bins.p * (bins.p_ln.hi + bins.p_ln.lo); }
        default: { return vec4<Real>(0.0); }
    }
}

fn of_powers(code: u32, i: u32, bins: Bins) -> vec4<Real> {
    if (code < POWER || code > OVERLAP) {
        return vec4<Real>(0.0);
    }
    var ordered = bins;
    if (code == SWAPPED_POWER) {
        ordered = swapped(bins);
    }
    var ln = plus(ordered.p_ln, times(ordered.l, params.parameters[i]));
    if (code == ROOT_OVERLAP) {
        let sum = plus(bins.p_ln, bins.q_ln);
        ln = Pair(0.5 * sum.hi, 0.5 * sum.lo);
    }
    let raised = exp_of(ln);
    if (code >= ROOT_OVERLAP) {
        return raised;
    }
    return power(ordered, raised, i);
}
