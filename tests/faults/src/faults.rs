//! Which faults there are to try.

use std::collections::BTreeMap;

use crate::function::Function;
use crate::rule::{Act, LOST, Lasting, Rule};

/// The codes that calls fail with: out of host memory, out of device memory, device lost, unknown.
const CODES: [i32; 4] = [-1, -2, LOST, -13];

/// What is done to a program: faults of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One call fails, once or from then on.
    Single,
    /// A signal never comes, or a call never returns.
    Never,
    /// Two of these at random.
    Double,
    /// The adapter lies, always in the same way.
    Broken,
    /// The adapter lies once.
    Slip,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::Single, Kind::Never, Kind::Double, Kind::Broken, Kind::Slip];

    /// How it is called in tables.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Single => "a call fails",
            Kind::Never => "a signal never comes",
            Kind::Double => "two faults",
            Kind::Broken => "the adapter always lies",
            Kind::Slip => "the adapter lies once",
        }
    }
}

/// The faults of a kind, for a program that calls each function so often without any.
pub fn all(
    kind: Kind,
    counts: &BTreeMap<Function, usize>,
    doubles: usize,
    seed: u64,
) -> Vec<Vec<Rule>> {
    let alone = |rules: Vec<Rule>| rules.into_iter().map(|rule| vec![rule]).collect();
    match kind {
        Kind::Single => alone(singles(counts)),
        Kind::Never => alone(nevers(counts)),
        Kind::Double => pairs(counts, doubles, seed),
        Kind::Broken => BROKEN.iter().map(|text| vec![known(text)]).collect(),
        Kind::Slip => alone(slips(counts)),
    }
}

/// Each call of each function that can fail, with each code.
fn singles(counts: &BTreeMap<Function, usize>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (function, call) in calls(counts).filter(|(function, _)| function.can_fail()) {
        for act in CODES.map(Act::Code) {
            for lasting in [Lasting::Once, Lasting::Sticky] {
                rules.push(Rule { function, call, act, lasting });
            }
        }
        if function.tells_of_loss() {
            let act = Act::Code(LOST);
            rules.push(Rule { function, call, act, lasting: Lasting::Device });
        }
    }
    rules
}

/// Each call that waits, or that makes memory ready, and each submission.
fn nevers(counts: &BTreeMap<Function, usize>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (function, call) in calls(counts) {
        let lastings: &[Lasting] = match function {
            _ if function.submits() => &[Lasting::Device],
            _ if function.allocates() => &[Lasting::Once],
            _ if function.waits() || function.idles() => &[Lasting::Once, Lasting::Sticky],
            _ => &[],
        };
        let rule = |&lasting| Rule { function, call, act: Act::Never, lasting };
        rules.extend(lastings.iter().map(rule));
    }
    rules
}

/// Random pairs. What is done about the first makes more calls than there are without.
fn pairs(counts: &BTreeMap<Function, usize>, doubles: usize, seed: u64) -> Vec<Vec<Rule>> {
    let more: BTreeMap<_, _> =
        counts.iter().map(|(&function, count)| (function, 2 * count)).collect();
    let (first, second) =
        ([singles(counts), nevers(counts)].concat(), [singles(&more), nevers(&more)].concat());
    let mut random = Random(seed);
    let mut pair = || vec![*random.of(&first), *random.of(&second)];
    (0..doubles).map(|_| pair()).collect()
}

/// Adapters that are broken for good.
const BROKEN: [&str; 17] = [
    "CmdDispatch:1:skip:sticky",
    "CmdDispatch:1:half:sticky",
    "CmdDispatch:1:tail:sticky",
    "CmdCopyBuffer:1:skip:sticky",
    "CmdCopyBuffer:1:zeros:sticky",
    "CmdCopyBuffer:1:nan:sticky",
    "CmdCopyBuffer:1:shift:sticky",
    "CmdCopyBuffer:1:swap:sticky",
    "CmdCopyBuffer:1:byte:sticky",
    "CmdFillBuffer:1:skip:sticky",
    "CmdPipelineBarrier:1:skip:sticky",
    "QueueSubmit:1:empty:sticky",
    "CreateShaderModule:1:minus:sticky",
    "CreateShaderModule:1:flip:sticky",
    // Those that are right at first.
    "CmdDispatch:2:skip:sticky",
    "CmdDispatch:3:half:sticky",
    "QueueSubmit:2:empty:sticky",
];

/// Work that is dropped, once, and shaders that are miscompiled. Of a number that is changed on its way no
/// adapter can be convicted.
fn slips(counts: &BTreeMap<Function, usize>) -> Vec<Rule> {
    let kinds = [
        (Function::CmdDispatch, "skip"),
        (Function::CmdDispatch, "half"),
        (Function::CmdDispatch, "tail"),
        (Function::CmdCopyBuffer, "skip"),
        (Function::CmdFillBuffer, "skip"),
        (Function::CmdPipelineBarrier, "skip"),
        (Function::QueueSubmit, "empty"),
        (Function::CreateShaderModule, "minus"),
        (Function::CreateShaderModule, "flip"),
    ];
    let of = |(function, lie): (Function, &str)| {
        let calls = 1..=counts.get(&function).copied().unwrap_or_default();
        calls.map(|call| known(&format!("{}:{call}:{lie}", function.name()))).collect::<Vec<_>>()
    };
    kinds.into_iter().flat_map(of).collect()
}

fn known(text: &str) -> Rule {
    text.parse().expect("the rules here are well formed")
}

fn calls(counts: &BTreeMap<Function, usize>) -> impl Iterator<Item = (Function, usize)> {
    counts.iter().flat_map(|(&function, &count)| (1..=count).map(move |call| (function, call)))
}

/// Of a list so many, spread evenly.
pub fn sample<T: Clone>(all: &[T], most: usize) -> Vec<T> {
    let most = most.min(all.len());
    (0..most).map(|index| all[index * all.len() / most].clone()).collect()
}

/// Numbers that look random and are the same for the same seed.
struct Random(u64);

impl Random {
    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        &all[((mixed ^ mixed >> 31) % all.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_tried_and_pairs_are_the_same_for_a_seed() {
        let counts = BTreeMap::from([(Function::CreateBuffer, 2), (Function::QueueSubmit, 1)]);
        // Four codes, once and from then on; and a device that is lost.
        assert_eq!(all(Kind::Single, &counts, 0, 0).len(), 3 * 8 + 1);
        let nevers = ["CreateBuffer:1:never", "CreateBuffer:2:never", "QueueSubmit:1:never:device"];
        assert_eq!(all(Kind::Never, &counts, 0, 0), nevers.map(|text| [known(text)]));
        assert_eq!(all(Kind::Double, &counts, 50, 7), all(Kind::Double, &counts, 50, 7));
        assert_ne!(all(Kind::Double, &counts, 50, 7), all(Kind::Double, &counts, 50, 8));
        assert_eq!(all(Kind::Broken, &counts, 0, 0).len(), BROKEN.len());
    }

    #[test]
    fn samples_are_spread_evenly() {
        let all: Vec<usize> = (0..10).collect();
        assert_eq!(sample(&all, 3), [0, 3, 6]);
        assert_eq!(sample(&all, 20), all);
        assert_eq!(sample(&all, 0), [0; 0]);
    }
}
