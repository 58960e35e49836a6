// The two sides in f16, two bins to a word. Widened in integers, since hardware may flush the
// subnormal ones; the same steps as in src/element.rs.

alias Quad = vec4<u32>;

@group(0) @binding(1) var<storage, read> p: array<vec2<u32>>;   // [rows][p_stride]
@group(0) @binding(2) var<storage, read> q: array<vec2<u32>>;   // [rows][q_stride]

fn widened(words: vec2<u32>) -> vec4<u32> {
    let halves = vec4(words.x, words.x >> 16u, words.y, words.y >> 16u);
    let magnitude = halves & vec4(0x7fffu);
    let subnormal = bitcast<vec4<u32>>(vec4<f32>(magnitude) * 0x1p-24f);
    let normal = (magnitude << vec4(13u)) + vec4(112u << 23u);
    let finite = select(normal, subnormal, magnitude < vec4(0x0400u));
    let above = (magnitude << vec4(13u)) | vec4(0x7f800000u); // infinite or NaN
    let sign = (halves & vec4(0x8000u)) << vec4(16u);
    return select(above, finite, magnitude < vec4(0x7c00u)) | sign;
}

// The bits of four bins as f32; zeros where they are outside.
fn p_quad(row: u32, quad: u32, inside: bool) -> vec4<u32> {
    return select(vec4(0u), widened(p[row * params.p_stride + quad]), inside);
}

fn q_quad(row: u32, quad: u32, inside: bool) -> vec4<u32> {
    return select(vec4(0u), widened(q[row * params.q_stride + quad]), inside);
}
