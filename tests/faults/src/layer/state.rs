//! The script of this process, and the file that it is written to as it goes.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{env, process};

use super::{RULES, TRACE};
use crate::function::Function;
use crate::rule::{Act, rules};
use crate::script::{Key, Script};

pub(super) struct State {
    script: Mutex<Script>,
    trace: Option<File>,
}

pub(super) fn state() -> &'static State {
    static STATE: OnceLock<State> = OnceLock::new();
    STATE.get_or_init(|| {
        let read = || {
            let rules = rules(&env::var(RULES).unwrap_or_default())?;
            let open = |path| File::options().create(true).append(true).open(path);
            let trace = env::var_os(TRACE).map(open).transpose();
            let trace = trace.map_err(|error| format!("{TRACE}: {error}"))?;
            Ok::<_, String>(State { script: Mutex::new(Script::new(rules)), trace })
        };
        // A run without the faults that were asked for must not pass for one that survived them.
        read().unwrap_or_else(|error| {
            eprintln!("{}: {error}", super::NAME);
            process::exit(3);
        })
    })
}

impl State {
    /// What this call does instead of its work, if anything.
    pub(super) fn next(&self, function: Function, device: Key) -> Option<Act> {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        let (act, rule) = script.next(function, device);
        if let Some(mut trace) = self.trace.as_ref() {
            let mut line = format!("{}\n", function.name());
            if let Some(rule) = rule {
                line += &format!("! {rule}\n");
            }
            // One write, so that no other comes between. A trace that ends early is seen by its reader.
            let _ = trace.write_all(line.as_bytes());
        }
        act
    }

    pub(super) fn forget(&self, device: Key) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).forget(device);
    }
}
