//! Ctrl-C and its like.
//!
//! They end the command at once, whatever it waits for: a thread of their own removes the file that
//! is not whole yet, and then ends the process.

use std::io::{self, IsTerminal};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::failure::{self, Failure};
use crate::files::whole::Unfinished;

/// How long the last words may take where nobody reads them.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Listens from now on.
#[cfg(unix)]
pub fn listen(unfinished: &Unfinished) -> Result<(), Failure> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::iterator::Signals;

    let ignored = ignored();
    let is_ignored = |signal: i32| ignored >> (signal - 1) & 1 == 1;
    let ends = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal));
    // Whoever has a limit on the size of files is to get the error, and not the signal.
    let signals = ends.chain([SIGXFSZ]);
    let mut signals = Signals::new(signals).map_err(Failure::other)?;
    let unfinished = unfinished.clone();
    let listen = move || {
        let Some(signal) = signals.forever().find(|&signal| signal != SIGXFSZ) else { return };
        let _held = unfinished.remove();
        say(match signal {
            SIGINT => "interrupted",
            SIGTERM => "terminated",
            _ => "hung up",
        });
        // What is registered to run at the end of a process could wait for a device.
        signal_hook::low_level::exit(128 + signal)
    };
    let thread = thread::Builder::new().name("kullback-signals".into());
    thread.spawn(listen).map_err(Failure::other)?;
    Ok(())
}

/// One bit for each signal that the command is not to listen to, as under nohup, where the system
/// says so. Where it does not, that is left to the terminal that hangs up.
#[cfg(unix)]
fn ignored() -> u64 {
    let hang_up = 1 << (signal_hook::consts::SIGHUP - 1);
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return hang_up };
    let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(hang_up)
}

/// Listens from now on.
#[cfg(not(unix))]
pub fn listen(unfinished: &Unfinished) -> Result<(), Failure> {
    let unfinished = unfinished.clone();
    let listening = ctrlc::set_handler(move || {
        let _held = unfinished.remove();
        say("interrupted");
        std::process::exit(130);
    });
    listening.map_err(Failure::other)
}

/// Says why, in the place of a progress bar that is there.
fn say(message: &'static str) {
    let (said, done) = mpsc::channel::<()>();
    thread::spawn(move || {
        let erase = if io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
        failure::say(erase, message);
        drop(said);
    });
    let _ = done.recv_timeout(LAST_WORDS);
}
