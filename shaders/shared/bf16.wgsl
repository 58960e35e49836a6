// The two sides in bf16, two bins to a word: a bf16 is the upper half of an f32.

alias Quad = vec4<u32>;

@group(0) @binding(1) var<storage, read> p: array<vec2<u32>>;   // [rows][p_stride]
@group(0) @binding(2) var<storage, read> q: array<vec2<u32>>;   // [rows][q_stride]

fn widened(words: vec2<u32>) -> vec4<u32> {
    return vec4(words.x << 16u, words.x, words.y << 16u, words.y) & vec4(0xffff0000u);
}

// The bits of four bins as f32; zeros where they are outside.
fn p_quad(row: u32, quad: u32, inside: bool) -> vec4<u32> {
    return select(vec4(0u), widened(p[row * params.p_stride + quad]), inside);
}

fn q_quad(row: u32, quad: u32, inside: bool) -> vec4<u32> {
    return select(vec4(0u), widened(q[row * params.q_stride + quad]), inside);
}
