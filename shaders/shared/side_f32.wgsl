// What a side's bins are as logarithms, in f32.

const NEGATIVE_INFINITE: u32 = 0xff800000u;
const MOST: f32 = 65536.0; // logarithms larger than this are left to the host

fn side_of(stored: vec4<u32>, kind: u32, inside: vec4<bool>) -> Side {
    var side: Side;
    var invalid: vec4<bool>;
    var huge = vec4(false);
    if (kind == PROBS) {
        let bits = unsigned_zero(stored);
        invalid = bits >= vec4(INFINITE);
        side.on = inside & !invalid & (bits != vec4(0u));
        let work = select(vec4(ONE), bits, side.on);
        side.ln = ln(lift(work));
        let lifts = vec4<f32>(lifted_by(work));
        // Exact, and a multiple of 2^-16 like the rest of it.
        side.ln.hi -= lifts * LN_2_TOP;
        side.ln.lo -= lifts * LN_2_BELOW;
    } else {
        let magnitude = stored & vec4(0x7fffffffu);
        invalid = (magnitude > vec4(INFINITE)) | (stored == vec4(INFINITE));
        side.on = inside & !invalid & (stored != vec4(NEGATIVE_INFINITE));
        let x = bitcast<vec4<f32>>(select(vec4(0u), stored, side.on));
        side.ln = Pair(x, vec4(0.0));
        if (kind == LOGITS && any(params.temperature != vec4(1.0, 0.0, 0.0, 0.0))) {
            let t = params.per_temperature;
            side.ln = scaled(x, t.x, t.y, t.z);
            side.low = x * t.x;
        } else {
            side.low = x;
        }
        let low = side.low < vec4(NOTHING);
        side.low = select(vec4(0.0), side.low, low);
        side.on &= !low;
        // What is low is beyond MOST too.
        let beyond = (abs(x) > vec4(MOST)) | (abs(side.ln.hi) > vec4(MOST));
        side.ln.hi = select(side.ln.hi, vec4(0.0), beyond);
        side.ln.lo = select(side.ln.lo, vec4(0.0), beyond);
        huge = beyond & !low;
    }
    side.weight = power_of(side.ln);
    side.weight.exponent = select(vec4(NO_MASS), side.weight.exponent, side.on);
    side.flags = select(0u, SOME_INVALID, any(inside & invalid))
        | select(0u, SOME_HUGE, any(inside & huge));
    return side;
}
