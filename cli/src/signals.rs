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

    let mut listened = vec![SIGINT, SIGTERM, SIGHUP];
    listened.retain(|&signal| !ignores(signal));
    // Whoever has a limit on the size of files is to get the error, and not the signal.
    listened.push(SIGXFSZ);
    let failed = |error| Failure::other(format!("cannot listen for signals: {error}"));
    let mut signals = Signals::new(listened).map_err(failed)?;
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
    thread.spawn(listen).map_err(failed)?;
    Ok(())
}

/// Whether the command was started so as to ignore a signal: to outlive its terminal under nohup, or the
/// Ctrl-C of a script that runs it in the background. Where the system does not say so, of signals that are
/// not listened to the one for that terminal does what it was told to do.
#[cfg(unix)]
fn ignores(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let bits = bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    match bits {
        Some(bits) => bits >> (signal - 1) & 1 == 1,
        None => signal == signal_hook::consts::SIGHUP,
    }
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
    let saying = thread::Builder::new().spawn(move || {
        let erase = if io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
        failure::say(erase, message);
        drop(said);
    });
    // Without a thread there are no words, and nothing to wait for.
    if saying.is_ok() {
        let _ = done.recv_timeout(LAST_WORDS);
    }
}
