// A segment of probabilities, summed.

// The bins of one vector load; past the end of the segment, zeros on both sides, which add nothing.
fn bins_at(row: u32, quad: u32, end: u32) -> Bins {
    let inside = quad < end;
    let at = select(end - 1u, quad, inside);
    let p_bins = p_quad(row * params.p_stride + at, inside);
    let q_bins = q_quad(row * params.q_stride + at, inside);
    return kl_bins(p_bins, q_bins);
}

// The loads of a trip are added as a tree and are in flight together; the chain of those sums is short.
fn segment_sum(row: u32, segment: u32, lane: u32) -> Record {
    let first = segment * params.segment_quads;
    let end = min(first + params.segment_quads, (params.bins + 3u) / 4u);
    var g = vec4<Real>(0.0);
    var p_sum = vec4<Real>(0.0);
    var q_sum = vec4<Real>(0.0);
    var d = vec4<Real>(0.0);
    var record = nothing(params.ticket);
    for (var quad = first + lane; quad < end; quad += QUADS_PER_TRIP * params.lanes) {
        let quads = vec4(quad) + params.lanes * vec4(0u, 1u, 2u, 3u);
        let a = bins_at(row, quads.x, end);
        let b = bins_at(row, quads.y, end);
        let c = bins_at(row, quads.z, end);
        let e = bins_at(row, quads.w, end);
        g += (a.g + b.g) + (c.g + e.g);
        p_sum += (a.p + b.p) + (c.p + e.p);
        q_sum += (a.q + b.q) + (c.q + e.q);
        d += ((a.p - a.q) + (b.p - b.q)) + ((c.p - c.q) + (e.p - e.q));
        record.consumed += (bins_in(quads.x, end) + bins_in(quads.y, end))
            + (bins_in(quads.z, end) + bins_in(quads.w, end));
        record.flags |= (a.flags | b.flags) | (c.flags | e.flags);
        record.top = max(record.top, max(max(a.top, b.top), max(c.top, e.top)));
    }
    record.g = (g.x + g.y) + (g.z + g.w);
    record.p = (p_sum.x + p_sum.y) + (p_sum.z + p_sum.w);
    record.q = (q_sum.x + q_sum.y) + (q_sum.z + q_sum.w);
    record.d = (d.x + d.y) + (d.z + d.w);
    return record;
}
