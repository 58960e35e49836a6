//! docs/reliability.md.

use kullback_faults::sweep::Judged;

use crate::options::Options;

pub fn save(_options: &Options, _runs: &[Judged]) -> Result<(), String> {
    Err("not there yet".into())
}
