// Who works on what.

override WORKGROUP_SIZE: u32 = 64u;
override SHARED: bool = true;   // several invocations may share a unit; else there is no barrier
override SPLIT: bool = true;    // rows may have several segments; else a unit is a row
override LOADS: u32 = 4u;       // vector loads of a side in one trip of the loop: 1, 2 or 4
override WHOLE: bool = false;   // each trip's loads are inside the segment, and each is of four bins

const SOME_INFINITE: u32 = 1u; // a bin has p > 0 = q
const SOME_STALE: u32 = 2u;    // a merged record was not written by this submission
const SOME_INVALID: u32 = 4u;  // a bin holds nothing of its side's kind
const SOME_HUGE: u32 = 8u;     // a bin is beyond what this arithmetic takes
const SOME_OF_Q_ALONE: u32 = 16u; // a bin has q > 0 = p
const SOME_OF_BOTH: u32 = 32u; // a bin has p > 0 and q > 0
const SOME_MASKED: u32 = 64u;  // a bin has no weight on either side, if there are others that have

// The number of the unit that an invocation works on, in a grid whose lines hold `line` groups.
fn unit_of(group: vec3<u32>, line: u32, local: u32, lanes: u32) -> u32 {
    let shift = countTrailingZeros(lanes);
    return (group.y * line + group.x) * (WORKGROUP_SIZE >> shift) + (local >> shift);
}
