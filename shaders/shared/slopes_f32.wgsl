// How fast a divergence grows with the probabilities of a bin, four bins at a time: the formulas of
// src/slope.rs, as far as f32 goes.

const KL_SLOPE: u32 = 1u;
const REVERSE_KL_SLOPE: u32 = 2u;
const JEFFREYS_SLOPE: u32 = 3u;
const JENSEN_SHANNON_SLOPE: u32 = 4u;   // the weight, and 1 less that, in by_u and by_v
const POWER_SLOPE: u32 = 5u;            // the order less 1 and the order, each in three parts
const HELLINGER_SLOPE: u32 = 6u;
const VARIATION_SLOPE: u32 = 7u;
const CHI_SQUARED_SLOPE: u32 = 8u;
const CROSS_ENTROPY_SLOPE: u32 = 9u;
const ENTROPY_SLOPE: u32 = 10u;

// Differences of bins beside their sum next to which rounding may choose the sign.
const DOUBTFUL: f32 = 1e-7;

struct Slopes {
    of_p: vec4<f32>,     // p·u where both sides have mass, of a u less what its mean is near
    of_q: vec4<f32>,     // q·v likewise
    p_end: vec4<f32>,    // u itself where one of them has none
    q_end: vec4<f32>,    // v
    flags: u32,
}

// ln(x/m) of normal numbers with n = x − m.
fn ln_between(x: vec4<f32>, m: vec4<f32>, n: vec4<f32>) -> vec4<f32> {
    let near = within_octave(x, m, n);
    let s = near.n / (x + near.m);
    return near.ln + 2.0 * (s + s * atanh_tail(s * s));
}

// p·(eˣ − 1) with g = p·eˣ, which it is the difference from where that is far off.
fn times_expm1(p: vec4<f32>, x: vec4<f32>, g: vec4<f32>) -> vec4<f32> {
    let near = abs(x) <= vec4(1.0);
    return select(g - p, p * expm1(select(vec4(0.0), x, near)), near);
}

// Of what is not 0.
fn half_sign(n: vec4<f32>) -> vec4<f32> {
    return select(vec4(-0.5), vec4(0.5), n > vec4(0.0));
}

fn slopes_of(bins: Bins, line: Line, about: vec2<f32>) -> Slopes {
    let p = bins.p;
    let q = bins.q;
    let n = bins.n;
    // Towards P alone where P has mass, towards Q alone where Q has. Where neither has, one of them
    // grows from 0.
    let q_alone = bins.q_on & !bins.p_on;
    var slopes: Slopes;
    slopes.p_end = select(vec4(line.p_end_of_p), vec4(line.p_end_of_q), q_alone);
    slopes.q_end = select(vec4(line.q_end_of_q), vec4(line.q_end_of_p), bins.p_on);
    // What has more digits is held against them before it is rounded.
    let l_p = (bins.l.hi - about.x) + bins.l.lo;
    let l_q = (bins.l.hi + about.y) + bins.l.lo;
    var rest = about;
    if (LOOK == AT_POWERS) {
        let less = Pair(vec4(-line.ln_overlap), vec4(-line.ln_overlap_rest));
        let from_p = plus(times(bins.l, params.less_1), less);
        let from_q = plus(times(bins.l, params.order), less);
        let g = exp_of(plus(bins.p_ln, from_p));
        slopes.of_p = params.by_u * times_expm1(p, from_p.hi, g);
        slopes.of_q = -params.by_v * times_expm1(q, from_q.hi, g);
    } else if (LOOK == AT_LOGARITHMS) {
        rest = vec2(0.0);
        switch params.slope {
            case KL_SLOPE: {
                slopes.of_p = p * l_p;
                slopes.of_q = -n;
            }
            case REVERSE_KL_SLOPE: {
                slopes.of_p = n;
                slopes.of_q = -(q * l_q);
            }
            case JEFFREYS_SLOPE: {
                slopes.of_p = p * l_p + n;
                slopes.of_q = -(q * l_q + n);
            }
            case CROSS_ENTROPY_SLOPE: {
                let u = -((bins.q_ln.hi + about.x) + bins.q_ln.lo);
                slopes.of_p = p * u;
                slopes.of_q = -n;
                slopes.p_end = select(slopes.p_end, u + about.x, bins.q_on);
            }
            case ENTROPY_SLOPE: {
                let u = -((bins.p_ln.hi + about.x) + bins.p_ln.lo);
                slopes.of_p = p * u;
                slopes.p_end = select(slopes.p_end, u + about.x, bins.p_on);
            }
            default: {}
        }
    } else {
        switch params.slope {
            case JENSEN_SHANNON_SLOPE: {
                let m = params.by_u * p + params.by_v * q;
                slopes.of_p = params.by_u * p * ln_between(p, m, params.by_v * n);
                slopes.of_q = params.by_v * q * ln_between(q, m, -(params.by_u * n));
            }
            case HELLINGER_SLOPE: {
                let apart = n / (sqrt(p) + sqrt(q));
                slopes.of_p = sqrt(p) * apart;
                slopes.of_q = -(sqrt(q) * apart);
            }
            case VARIATION_SLOPE: {
                slopes.of_p = p * half_sign(n);
                slopes.of_q = -(q * half_sign(n));
                let doubtful = bins.both & (abs(n) <= DOUBTFUL * (p + q));
                slopes.flags = select(0u, SOME_HUGE, any(doubtful));
            }
            case CHI_SQUARED_SLOPE: {
                let by_q = n / q;
                slopes.of_p = 2.0 * p * by_q;
                slopes.of_q = -((p + q) * by_q);
                let floored = bins.both & (q <= vec4(FLOOR));
                slopes.flags = select(0u, SOME_HUGE, any(floored));
            }
            default: {}
        }
    }
    slopes.of_p -= p * rest.x;
    slopes.of_q -= q * rest.y;
    return slopes;
}
