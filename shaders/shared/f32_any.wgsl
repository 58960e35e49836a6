// The two sides in f32, rows of any length one after the other: where a row is no whole number of
// vector loads, it does not begin where one may.

alias Quad = vec4<u32>;

@group(0) @binding(1) var<storage, read> p: array<u32>;   // [rows][p_stride]
@group(0) @binding(2) var<storage, read> q: array<u32>;   // [rows][q_stride]

// The bits of four bins as f32; zeros where they are outside, or past the end of the row.
fn p_quad(row: u32, quad: u32, inside: bool) -> vec4<u32> {
    let bins = 4u * quad + vec4(0u, 1u, 2u, 3u);
    let at = row * params.p_stride + min(bins, vec4(params.bins - 1u));
    let here = vec4(inside) & (bins < vec4(params.bins));
    return select(vec4(0u), vec4(p[at.x], p[at.y], p[at.z], p[at.w]), here);
}

fn q_quad(row: u32, quad: u32, inside: bool) -> vec4<u32> {
    let bins = 4u * quad + vec4(0u, 1u, 2u, 3u);
    let at = row * params.q_stride + min(bins, vec4(params.bins - 1u));
    let here = vec4(inside) & (bins < vec4(params.bins));
    return select(vec4(0u), vec4(q[at.x], q[at.y], q[at.z], q[at.w]), here);
}
