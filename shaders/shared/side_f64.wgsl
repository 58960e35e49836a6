// What a side's bins are as logarithms, in f64.

const NEGATIVE_INFINITE: u32 = 0xfff00000u;    // the high word of −inf
const MOST: f64 = 65536.0; // logarithms larger than this are left to the host

// x/T in two parts. The halves of a quotient have 24 and 29 bits, the parts of T 24 each, so that
// their products are exact.
fn cooled(x: vec4<f64>) -> Pair {
    let t = vec4<f64>(params.temperature);
    let quotient = exact(x / (t.x + t.y + t.z));
    let upper = upper_half(quotient);
    let lower = exact(quotient - upper);
    let rest = exact(exact(exact(x - upper * t.x) - upper * t.y) - lower * t.x);
    return Pair(quotient, (rest - (lower * t.y + quotient * t.z)) / (t.x + t.y + t.z));
}

fn side_of(stored: Stored, kind: u32, inside: vec4<bool>) -> Side {
    var side: Side;
    var invalid: vec4<bool>;
    var huge = vec4(false);
    if (kind == PROBS) {
        let bins = load(stored);
        invalid = bins.top >= vec4(INFINITE);
        side.on = inside & !invalid & !bins.zero;
        huge = bins.faint | (!invalid & (bins.top > vec4((1023u + 1000u) << 20u)));
        let usable = side.on & !huge;
        let value = select(vec4<f64>(1.0), bins.value, usable);
        side.ln = Pair(ln(value, select(vec4(ONE), bins.high, usable)), vec4<f64>(0.0));
    } else {
        let magnitude = stored.high & vec4(0x7fffffffu);
        let infinite = (magnitude == vec4(INFINITE)) & (stored.low == vec4(0u));
        let negative = infinite & (stored.high == vec4(NEGATIVE_INFINITE));
        invalid = (magnitude >= vec4(INFINITE)) & !negative;
        side.on = inside & !invalid & !negative;
        let x = select(vec4<f64>(0.0), stored.value, side.on);
        side.ln = Pair(x, vec4<f64>(0.0));
        side.low = x / f64(select(1.0, params.temperature.x, kind == LOGITS));
        let low = side.low < vec4<f64>(f64(NOTHING));
        side.low = select(vec4<f64>(0.0), side.low, low);
        side.on &= !low;
        huge = side.on & (magnitude > vec4((1023u + 100u) << 20u));
        if (kind == LOGITS && any(params.temperature != vec4(1.0, 0.0, 0.0, 0.0))) {
            side.ln = cooled(select(x, vec4<f64>(0.0), huge));
        }
        huge |= side.on & (abs(side.ln.hi) > vec4(MOST));
        side.ln.hi = select(vec4<f64>(0.0), side.ln.hi, side.on);
        side.ln.lo = select(vec4<f64>(0.0), side.ln.lo, side.on);
        side.ln.hi = select(side.ln.hi, vec4<f64>(0.0), huge);
        side.ln.lo = select(side.ln.lo, vec4<f64>(0.0), huge);
    }
    side.weight = power_of(side.ln);
    side.weight.exponent = select(vec4(NO_MASS), side.weight.exponent, side.on);
    side.flags = select(0u, SOME_INVALID, any(inside & invalid))
        | select(0u, SOME_HUGE, any(inside & huge));
    return side;
}
