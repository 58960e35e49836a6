//! What can go wrong: one error type, without a type of wgpu in it.

use std::fmt;

use crate::kind::Kind;

/// Everything that a call of this crate can fail with.
///
/// Each message names the value that was found and the rule that it breaks.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// P and Q cannot be paired row by row.
    #[error(
        "P is {} × {} and Q is {} × {} (rows × bins): both need the same bins, and the same rows \
         unless one of them has a single row",
        p.0, p.1, q.0, q.1
    )]
    Shape {
        /// Rows and bins of P.
        p: (usize, usize),
        /// Rows and bins of Q.
        q: (usize, usize),
    },
    /// Rows of P cannot be compared with rows of Q.
    #[error(
        "P is {} × {} and Q is {} × {} (rows × bins): both need the same bins",
        p.0, p.1, q.0, q.1
    )]
    Bins {
        /// Rows and bins of P.
        p: (usize, usize),
        /// Rows and bins of Q.
        q: (usize, usize),
    },
    /// There are rows, but no bins in them.
    #[error("the rows have 0 bins: a distribution needs at least one")]
    NoBins,
    /// A setting of a batch is outside its range.
    #[error("{name} is {value}: {rule}")]
    Setting {
        /// Which setting.
        name: &'static str,
        /// The value that was given.
        value: f64,
        /// What it has to satisfy.
        rule: &'static str,
    },
    /// A mass policy under which a measure has no agreed meaning.
    #[error(
        "divergence '{divergence}' takes masses of 1 for granted: mass policy '{mass}' does not \
         see to that, 'check' and 'normalize' do"
    )]
    Policy {
        /// The measure's name.
        divergence: &'static str,
        /// The name of the policy that was asked for.
        mass: &'static str,
    },
    /// Weights of bins or of rows that are none.
    #[error("{}", weights(of, *count, *given, *wrong))]
    Weights {
        /// What they are of: `bins` or `rows`.
        of: &'static str,
        /// How many there should be.
        count: usize,
        /// How many there are.
        given: usize,
        /// The first that is negative or no finite number, and where it stands.
        wrong: Option<(usize, f64)>,
    },
    /// A name that is none of the known ones.
    #[error("unknown {what} '{name}': expected one of {expected}")]
    Name {
        /// What was being named.
        what: &'static str,
        /// The name that was given.
        name: String,
        /// The names there are.
        expected: String,
    },
    /// A row that is not a distribution under the mass policy in force.
    #[error("{0}")]
    Invalid(InvalidRow),
    /// No usable GPU adapter.
    #[error("no GPU adapter can be used: {reasons}")]
    NoAdapter {
        /// Why each candidate was left out.
        reasons: String,
    },
    /// The device failed, and so did the attempts to open it anew. No result of the call was kept.
    /// A later call tries to open it again; with
    /// [`with_cpu_fallback`](crate::Engine::with_cpu_fallback) the CPU would have finished the rows.
    #[error("the GPU device '{adapter}' failed: {message}")]
    Device {
        /// The adapter's name.
        adapter: String,
        /// What kind of fault it was.
        cause: Cause,
        /// What it said.
        message: String,
    },
    /// The backend that was asked for cannot compute this.
    #[error("the {backend} backend cannot do this: {what}")]
    Unsupported {
        /// The backend that was asked for.
        backend: &'static str,
        /// What it lacks.
        what: String,
    },
    /// A row does not fit what the adapter can address.
    #[error("rows of {bins} bins are too long for this adapter: it takes at most {most}")]
    TooLong {
        /// Bins per row.
        bins: usize,
        /// The most that the adapter's limits allow.
        most: usize,
    },
    /// Not even one row of a [stream](crate::stream) fits the memory that it may take.
    #[error("a row takes {needed} bytes of memory, and the limit is {limit}")]
    Memory {
        /// The bytes that would do.
        needed: usize,
        /// The limit that was set.
        limit: usize,
    },
    /// The system has no memory for the results, or for the buffers of a [stream](crate::stream).
    #[error("there is no memory for {bytes} bytes")]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
    },
    /// The system starts no thread.
    #[error("no thread can be started: {message}")]
    Thread {
        /// What it said.
        message: String,
    },
    /// A part of a [stream](crate::stream) was made a batch of another shape.
    #[error("of a part of {} × {} a batch of {} × {} was made", part.0, part.1, batch.0, batch.1)]
    Part {
        /// Rows and bins of the part.
        part: (usize, usize),
        /// Rows and bins of the batch.
        batch: (usize, usize),
    },
    /// An outcome that is not one of the batch that it is held against.
    #[error("the outcome has {outcome} rows, and the batch {batch}")]
    Mismatch {
        /// Rows of the batch.
        batch: usize,
        /// Rows of the outcome.
        outcome: usize,
    },
    /// A gradient was to be written where it does not fit.
    #[error(
        "the gradient in {side} is {} × {}, and its place {} × {}",
        expected.0, expected.1, found.0, found.1
    )]
    Place {
        /// Which side's.
        side: Side,
        /// Rows and bins of that side.
        expected: (usize, usize),
        /// Rows and bins of the place.
        found: (usize, usize),
    },
    /// A weight that is none.
    #[error("the weight of row {row} is {value}: a weight is a finite number")]
    Weight {
        /// Which row's, counted from 0.
        row: usize,
        /// What it is.
        value: f64,
    },
    /// A backend and the reference disagree.
    #[error("{0}")]
    Disagreement(Disagreement),
}

fn weights(of: &str, count: usize, given: usize, wrong: Option<(usize, f64)>) -> String {
    match wrong {
        Some((at, weight)) => {
            format!(
                "the weight at {at} of the {of} is {weight}: a weight is a finite number, 0 or more"
            )
        }
        None => format!("there are {given} weights for {count} {of}"),
    }
}

/// What kind of fault a GPU device had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The driver lost the device.
    Lost,
    /// The device or its driver found no memory.
    OutOfMemory,
    /// It gave no answer before the [deadline](crate::Engine::with_deadline).
    TimedOut,
    /// wgpu or the driver panicked.
    Panicked,
    /// It computed something wrong, or not all of what it was to compute.
    Wrong,
    /// Anything else, such as an error in a kernel that the driver does not compile.
    Other,
}

/// The one of `all` that bears this name.
pub(crate) fn by_name<T: Copy>(
    what: &'static str,
    name: &str,
    all: &[T],
    name_of: fn(T) -> &'static str,
) -> Result<T, Error> {
    let known = all.iter().copied().find(|&one| name_of(one) == name);
    known.ok_or_else(|| Error::Name {
        what,
        name: name.to_owned(),
        expected: all.iter().map(|&one| name_of(one)).collect::<Vec<_>>().join(", "),
    })
}

/// Which side of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The first argument, which the divergence averages over.
    P,
    /// The second argument.
    Q,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::P => "P",
            Side::Q => "Q",
        })
    }
}

/// The rule that an invalid row breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// A number is NaN.
    NotANumber,
    /// A probability is below 0. (−0 counts as 0.)
    Negative,
    /// A number is +inf.
    Infinite,
    /// Under [`Mass::Check`](crate::Mass::Check): the mass is further from 1 than the tolerance.
    Mass,
    /// The policy divides by the mass, and the mass is 0.
    NoMass,
    /// The value is finite, but larger than the result type can hold.
    Overflow,
    /// An index of an entry is beyond the bins.
    Index,
    /// Two entries are of the same bin.
    Repeated,
    /// The entries of a row have more mass than a distribution.
    Excess,
}

impl Rule {
    /// The rule as a sentence about numbers of a kind, for messages.
    pub fn sentence(self, kind: Kind) -> &'static str {
        match self {
            Rule::NotANumber | Rule::Negative | Rule::Infinite => match kind {
                Kind::Probs => "a probability is a finite number, 0 or more",
                Kind::LogProbs => "a log-probability is a number or -inf",
                Kind::Logits => "a logit is a number or -inf",
            },
            Rule::Mass => {
                "under mass policy 'check' a row sums to 1 within the tolerance; \
                 policy 'normalize' divides each row by its sum"
            }
            Rule::NoMass => "a distribution needs at least one probability above 0",
            Rule::Overflow => "it exceeds the largest finite value of the result type",
            Rule::Index => "an index is less than the number of bins",
            Rule::Repeated => "no bin has more than one entry",
            Rule::Excess => "the largest entries of a distribution sum to at most 1",
        }
    }
}

/// A row that is not a distribution: where, which value, and which rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InvalidRow {
    /// Which side it is on.
    pub side: Side,
    /// What the numbers of that side are.
    pub kind: Kind,
    /// The row of that side, counted from 0.
    pub row: usize,
    /// The first offending bin, or `None` where the row as a whole offends.
    pub bin: Option<usize>,
    /// The offending number; without a bin, the mass of the row or its divergence.
    pub value: f64,
    /// The rule it breaks.
    pub rule: Rule,
}

impl InvalidRow {
    /// The message without the side, for those who know the two sides by other names.
    pub fn without_side(&self) -> impl fmt::Display {
        let place = match self.bin {
            Some(bin) if self.rule == Rule::Index => {
                format!("row {}, entry {bin}: the index is {}", self.row, self.value)
            }
            None if self.rule == Rule::Repeated => {
                format!("row {}: the index {} comes twice", self.row, self.value)
            }
            Some(bin) => format!("row {}, bin {bin}: the value is {}", self.row, self.value),
            None if self.rule == Rule::Overflow => {
                format!("row {}: the divergence is {:e}", self.row, self.value)
            }
            None => format!("row {}: the mass is {}", self.row, self.value),
        };
        format!("{place}; {}", self.rule.sentence(self.kind))
    }
}

impl fmt::Display for InvalidRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.side, self.without_side())
    }
}

/// A row on which a backend and the f64 reference disagree: the worst of those compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disagreement {
    /// The row, counted from 0.
    pub row: usize,
    /// What the backend returned.
    pub got: f64,
    /// What the reference returned.
    pub want: f64,
    /// The difference that would have been accepted.
    pub allowed: f64,
    /// How many of the compared rows disagree.
    pub rows: usize,
    /// How many rows were compared.
    pub compared: usize,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cross-check failed in {} of {} rows; worst is row {}: got {:e}, the reference says \
             {:e}, and {:e} is the most they may differ",
            self.rows, self.compared, self.row, self.got, self.want, self.allowed
        )
    }
}
