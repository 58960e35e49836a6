//! The options of the sweep.

use std::collections::VecDeque;

use kullback_faults::child::Program;

pub struct Options {
    /// Of each kind of faults, so many.
    pub sample: usize,
    /// Of signals that never come, so many: each may take as long as the library's patience.
    pub nevers: usize,
    pub doubles: usize,
    pub seed: u64,
    pub jobs: usize,
    pub programs: Vec<Program>,
    pub save: bool,
}

impl Options {
    pub fn read(words: &[&str]) -> Result<Options, String> {
        let mut options = Options {
            sample: usize::MAX,
            nevers: usize::MAX,
            doubles: 1000,
            seed: 1,
            jobs: 2,
            programs: Program::SWEPT.into(),
            save: false,
        };
        let mut words: VecDeque<&str> = words.iter().copied().collect();
        while let Some(name) = words.pop_front() {
            if name == "--save" {
                options.save = true;
                continue;
            }
            let value = words.pop_front().ok_or_else(|| format!("{name} needs a value"))?;
            let number =
                || value.parse::<usize>().map_err(|_| format!("{name}: '{value}' is no number"));
            match name {
                "--sample" => options.sample = number()?,
                "--nevers" => options.nevers = number()?,
                "--doubles" => options.doubles = number()?,
                "--seed" => options.seed = number()? as u64,
                "--jobs" => options.jobs = number()?.max(1),
                "--only" => {
                    let program = Program::by_name(value);
                    options.programs =
                        vec![program.ok_or_else(|| format!("no program '{value}'"))?];
                }
                _ => return Err(format!("no option '{name}'")),
            }
        }
        Ok(options)
    }
}
