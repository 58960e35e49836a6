// Units that are segments of rows.

struct Place {
    row: u32,
    first: u32,     // the segment's first vector load in the row
    end: u32,       // the one behind its last
}

fn place_of(unit: u32) -> Place {
    let quads = (params.bins + 3u) / 4u;
    if (SPLIT) {
        let first = unit % params.segments * params.segment_quads;
        return Place(unit / params.segments, first, min(first + params.segment_quads, quads));
    }
    return Place(unit, 0u, quads);
}
