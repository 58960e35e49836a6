// Records of sums, and the tree in which the invocations of a unit add theirs up.

override WORKGROUP_SIZE: u32 = 64u;

const SOME_INFINITE: u32 = 1u; // a bin has p > 0 = q
const SOME_STALE: u32 = 2u;    // a merged record was not written by this submission

struct Record {
    g: f32,         // Σ p·ln(p/q) − p + q
    p: f32,         // Σ p
    q: f32,         // Σ q
    d: f32,         // Σ (p − q)
    consumed: u32,  // bins that went into the sums
    flags: u32,     // SOME_INFINITE, SOME_STALE
    top: u32,       // the largest bit pattern of a bin
    ticket: u32,    // which submission wrote this
}

var<workgroup> records: array<Record, WORKGROUP_SIZE>;

fn added(a: Record, b: Record) -> Record {
    return Record(
        a.g + b.g,
        a.p + b.p,
        a.q + b.q,
        a.d + b.d,
        a.consumed + b.consumed,
        a.flags | b.flags,
        max(a.top, b.top),
        a.ticket,
    );
}

// Adds up the records of the `lanes` invocations that share a unit, into the one of lane 0.
// `lanes` is a power of two and the same in the whole workgroup.
fn tree_sum(local: u32, lanes: u32) -> Record {
    let lane = local & (lanes - 1u);
    for (var width = lanes / 2u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if (lane < width) {
            records[local] = added(records[local], records[local + width]);
        }
    }
    return records[local];
}

// The number of the unit that an invocation works on, in a grid whose lines hold `line` groups.
fn unit_of(group: vec3<u32>, line: u32, local: u32, lanes: u32) -> u32 {
    return (group.y * line + group.x) * (WORKGROUP_SIZE / lanes) + local / lanes;
}
