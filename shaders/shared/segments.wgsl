// Units that are segments of rows.

fn record_of(unit: u32, lane: u32, lanes: u32) -> Record {
    var row = unit;
    var segment = 0u;
    if (SPLIT) {
        row = unit / params.segments;
        segment = unit % params.segments;
    }
    return segment_sum(row, segment, lane, lanes);
}
