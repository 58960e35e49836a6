// A unit leaves its record.

@group(0) @binding(3) var<storage, read_write> made: array<Record>;       // [units]

fn put(unit: u32, record: Record) {
    made[unit] = record;
}
