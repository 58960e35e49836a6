// The two sides in f64: two vector loads are four bins.

alias Quad = Stored;

@group(0) @binding(1) var<storage, read> p: array<vec2<f64>>;         // [rows][2·p_stride]
@group(0) @binding(2) var<storage, read> q: array<vec2<f64>>;         // [rows][2·q_stride]
@group(0) @binding(5) var<storage, read> p_words: array<vec4<u32>>;   // the same bytes as p
@group(0) @binding(6) var<storage, read> q_words: array<vec4<u32>>;   // the same bytes as q

// Four stored numbers: their values, and their words.
struct Stored {
    value: vec4<f64>,
    high: vec4<u32>,
    low: vec4<u32>,
}

fn stored(first: vec2<f64>, second: vec2<f64>, words: vec4<u32>, more: vec4<u32>) -> Stored {
    return Stored(vec4<f64>(first, second), vec4<u32>(words.yw, more.yw), vec4<u32>(words.xz, more.xz));
}

// Four bins; zeros where they are outside.
fn p_quad(row: u32, quad: u32, inside: bool) -> Stored {
    let at = row * params.p_stride + quad;
    let bins = stored(p[2u * at], p[2u * at + 1u], p_words[2u * at], p_words[2u * at + 1u]);
    return Stored(
        bins.value,
        select(vec4(0u), bins.high, inside),
        select(vec4(0u), bins.low, inside),
    );
}

fn q_quad(row: u32, quad: u32, inside: bool) -> Stored {
    let at = row * params.q_stride + quad;
    let bins = stored(q[2u * at], q[2u * at + 1u], q_words[2u * at], q_words[2u * at + 1u]);
    return Stored(
        bins.value,
        select(vec4(0u), bins.high, inside),
        select(vec4(0u), bins.low, inside),
    );
}

// What the words of probabilities say of them.
struct Loaded {
    value: vec4<f64>,     // 0 where the number is −0, 1 where it is unusable
    high: vec4<u32>,      // the high word of the value
    top: vec4<u32>,       // as stored, 0 for −0: at least INFINITE where NaN, infinite or negative
    zero: vec4<bool>,
    faint: vec4<bool>,    // not 0, but below 2^-900: left to the host
}

fn load(bins: Stored) -> Loaded {
    let zero = ((bins.high << vec4(1u)) | bins.low) == vec4(0u);
    let top = select(bins.high, vec4(0u), zero);
    let faint = !zero & (top < vec4(FAINT));
    let usable = !zero & !faint & (top < vec4(INFINITE));
    let value = select(vec4<f64>(1.0), bins.value, usable);
    let high = select(vec4(ONE), top, usable);
    return Loaded(select(value, vec4<f64>(0.0), zero), select(high, vec4(0u), zero), top, zero, faint);
}
