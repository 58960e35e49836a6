// The two sides in f32: a vector load is four bins.

alias Quad = vec4<u32>;

@group(0) @binding(1) var<storage, read> p: array<vec4<u32>>;   // [rows][p_stride]
@group(0) @binding(2) var<storage, read> q: array<vec4<u32>>;   // [rows][q_stride]

// The bits of four bins as f32; zeros where they are outside.
fn p_quad(row: u32, quad: u32, inside: bool) -> vec4<u32> {
    return select(vec4(0u), p[row * params.p_stride + quad], inside);
}

fn q_quad(row: u32, quad: u32, inside: bool) -> vec4<u32> {
    return select(vec4(0u), q[row * params.q_stride + quad], inside);
}
