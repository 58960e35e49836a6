//! Any words as the command's arguments: refused with a message, or options that say the same when
//! they are written out and parsed again.

#![no_main]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::Parser;
use kullback_fuzz::args::{Backend, Base, Cli, Command, Fallback, Invalid, Rows};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|words: &[u8]| {
    let words = words.split(|&byte| byte == 0).map(OsStr::from_bytes);
    let words = std::iter::once(OsStr::new("kullback")).chain(words);
    match Cli::try_parse_from(words) {
        Ok(Cli { command: Command::Rows(options) }) => check(&options),
        Ok(Cli { command: Command::Matrix(_) | Command::Devices(_) }) => {}
        Err(error) => {
            assert!(!error.to_string().is_empty());
            // Help and version are no mistake.
            assert_eq!(error.exit_code() == 2, error.use_stderr());
        }
    }
});

fn check(options: &Rows) {
    let again = Cli::try_parse_from(written(options)).map(|cli| cli.command);
    let Ok(Command::Rows(again)) = again else { panic!("{again:?} of {options:?}") };
    assert_eq!(format!("{again:?}"), format!("{options:?}"));
}

/// The options, each said in full.
fn written(rows: &Rows) -> Vec<OsString> {
    let options = &rows.shared;
    let mut words: Vec<OsString> = vec!["kullback".into(), "rows".into()];
    let mut say = |name: &str, value: &OsStr| {
        let mut word = OsString::from(format!("--{name}="));
        word.push(value);
        words.push(word);
    };
    let path = |path: &Path| path.as_os_str().to_owned();
    say("divergence", options.divergence.to_string().as_ref());
    say("input", options.input.name().as_ref());
    // What both sides are is also what each is.
    for (name, own) in [("p-input", options.p_input), ("q-input", options.q_input)] {
        own.into_iter().for_each(|kind| say(name, kind.name().as_ref()));
    }
    say("temperature", options.temperature.to_string().as_ref());
    say("mass", options.mass.name().as_ref());
    let numbers = [
        ("mass-tolerance", options.mass_tolerance.map(|tolerance| tolerance.to_string())),
        ("memory-limit", options.memory_limit.map(|limit| limit.to_string())),
        ("cross-check", Some(rows.cross_check.to_string())),
    ];
    for (name, number) in numbers {
        number.into_iter().for_each(|number| say(name, number.as_ref()));
    }
    say(
        "base",
        OsStr::new(match options.base {
            Base::E => "e",
            Base::Two => "2",
            Base::Ten => "10",
        }),
    );
    say(
        "invalid",
        OsStr::new(match options.invalid {
            Invalid::Error => "error",
            Invalid::Nan => "nan",
        }),
    );
    say(
        "backend",
        OsStr::new(match options.backend {
            Backend::Auto => "auto",
            Backend::Gpu => "gpu",
            Backend::Cpu => "cpu",
        }),
    );
    options.fallback.iter().for_each(|Fallback::Cpu| say("fallback", OsStr::new("cpu")));
    options.output.iter().for_each(|output| say("output", &path(output)));
    let flags = [("--json", options.json), ("--quiet", options.quiet)];
    words.extend(flags.into_iter().filter(|flag| flag.1).map(|flag| flag.0.into()));
    words.extend(["--".into(), path(&options.p), path(&options.q)]);
    words
}
