//! `cargo xtask mutants`: whether the tests see what is wrong with a shader.
//!
//! `mutants.txt` lists small faults by hand: no tool makes them of WGSL. Each is put into a copy of
//! the tree, and the tests must fail there. A fault that does not compile, or makes a shader that
//! is not valid, is a fault of the list.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use serde_json::Value;

use crate::command::{Failure, capture};

const LIST: &str = include_str!("../mutants.txt");

/// Where the copy is, and what is built of it.
const TREE: &str = "target/mutants/tree";
const BUILT: &str = "target/mutants/target";

/// The test that has to pass all the same.
const VALID: &str = "shaders::shaders_pass_validation_without_any_extension_but_f64";
/// Where most is seen in a short time.
const QUICK: &str = "shaders plan golden rows::one_row rows::views rows::every_number_of_rows \
                     special_values::every_load special_values::invalid_bins";
const SUITE: &str = "--test suite";
const UNIT: &str = "--lib";
/// How long the tests may take. What hangs is not caught.
const PATIENCE: Duration = Duration::from_secs(600);

/// A fault.
#[derive(Debug, Default, PartialEq)]
struct Mutant {
    file: String,
    /// What stands in the file, once.
    from: String,
    /// What takes its place.
    to: String,
    /// What that breaks.
    why: String,
    /// The tests of the suite that are likely to see it, if they are not the quick ones.
    seen_by: String,
}

/// What became of a fault.
enum Fate {
    Caught(String),
    Missed,
    Hung(String),
    Wrong(String),
}

/// Tries all whose file or text contains `part`. Of a part of them the tests are taken to pass
/// without.
pub(crate) fn run_all(part: &str) -> Result<(), Failure> {
    let all = read(LIST).map_err(|error| Failure::new(format!("mutants.txt: {error}")))?;
    let chosen = |mutant: &&Mutant| mutant.file.contains(part) || mutant.from.contains(part);
    let chosen: Vec<_> = all.iter().filter(chosen).collect();
    copy_tree_to(Path::new(TREE), at_run_time)?;
    if part.is_empty() {
        println!("the tests pass as long as nothing is wrong: {}", baseline()?);
    }

    let (start, mut caught) = (Instant::now(), 0);
    for (at, mutant) in chosen.iter().enumerate() {
        let begun = Instant::now();
        let fate = fate(mutant)?;
        let (outcome, seconds) = (fate.to_string(), begun.elapsed().as_secs_f64());
        caught += usize::from(matches!(fate, Fate::Caught(_)));
        let (file, why, all) = (&mutant.file, &mutant.why, chosen.len());
        println!("{}/{all} {outcome}, {seconds:.0} s: {file}: {why}", at + 1);
    }
    let (all, seconds) = (chosen.len(), start.elapsed().as_secs_f64());
    println!("{caught} of {all} mutants caught in {seconds:.0} s");
    match caught == all {
        true => Ok(()),
        false => Err(Failure::new(format!("{} mutants were not caught", all - caught))),
    }
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fate::Caught(by) => write!(f, "caught by {by}"),
            Fate::Missed => f.write_str("MISSED"),
            Fate::Hung(by) => write!(f, "HUNG in {by}"),
            Fate::Wrong(why) => write!(f, "NO MUTANT ({why})"),
        }
    }
}

/// Reads the list: blocks with blank lines between them, whose lines begin with what they are.
fn read(list: &str) -> Result<Vec<Mutant>, String> {
    let (mut mutants, mut file) = (Vec::new(), String::new());
    for block in list.split("\n\n") {
        let mut mutant = Mutant::default();
        for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, text) = line.split_once(' ').unwrap_or((line, ""));
            let field = match key {
                "file" => {
                    file = text.into();
                    continue;
                }
                "-" => &mut mutant.from,
                "+" => &mut mutant.to,
                "!" => &mut mutant.why,
                "?" => &mut mutant.seen_by,
                _ => return Err(format!("'{line}' is nothing")),
            };
            if !field.is_empty() {
                field.push('\n');
            }
            field.push_str(text);
        }
        if mutant != Mutant::default() {
            if mutant.from.is_empty() || mutant.why.is_empty() || file.is_empty() {
                return Err(format!("'{block}' lacks something"));
            }
            mutants.push(Mutant { file: file.clone(), ..mutant });
        }
    }
    Ok(mutants)
}

/// Makes the copy like the tree, and leaves alone what is: cargo goes by the times. Texts are as
/// `change` makes them; without one, what is in the copy stays.
pub(crate) fn copy_tree_to(
    tree: &Path,
    change: impl Fn(&str, &str) -> Option<String>,
) -> Result<(), Failure> {
    let listed = capture("git ls-files")?;
    let names = || listed.lines().filter(|name| Path::new(name).is_file());
    let kept: BTreeSet<PathBuf> = names().map(|name| tree.join(name)).collect();
    prune(tree, &kept).map_err(|error| failed(&tree.display().to_string(), error))?;
    for name in names() {
        let contents = fs::read(name).map_err(|error| failed(name, error))?;
        let contents = match str::from_utf8(&contents) {
            Ok(text) => change(name, text).map(Into::into),
            _ => Some(contents),
        };
        if let Some(contents) = contents {
            write(&tree.join(name), &contents)?;
        }
    }
    Ok(())
}

/// Removes what an earlier copy had, and cargo would take for a part of this one.
fn prune(folder: &Path, kept: &BTreeSet<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            prune(&path, kept)?;
        } else if !kept.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Has the copy read its shaders when it runs, so that a fault in one of them costs no build.
fn at_run_time(name: &str, text: &str) -> Option<String> {
    let has_shader = text.contains("include_str!(\"../../shaders/");
    if !name.starts_with("src/") || !(has_shader || name == "src/lib.rs") {
        return Some(text.into());
    }
    let text = text.replace("include_str!(\"../../shaders/", "crate::shader(\"shaders/");
    let text = text.replace(" concat!(", " crate::joined!(");
    Some(match name {
        "src/lib.rs" => text + READ_SHADER,
        _ => text,
    })
}

/// What the copy reads them with.
const READ_SHADER: &str = r#"
#[cfg(feature = "gpu")]
fn shader(path: &str) -> &'static str {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(path).expect("a shader").leak()
}

#[cfg(feature = "gpu")]
macro_rules! joined {
    ($($part:expr),* $(,)?) => { [$($part),*].concat().leak() as &'static str };
}
#[cfg(feature = "gpu")]
pub(crate) use joined;
"#;

pub(crate) fn write(path: &Path, contents: &[u8]) -> Result<(), Failure> {
    if fs::read(path).is_ok_and(|there| there == contents) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(path, contents));
    written.map_err(|error| failed(&path.display().to_string(), error))
}

pub(crate) fn failed(name: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{name}: {error}"))
}

/// How long all tests take, if they pass.
fn baseline() -> Result<String, Failure> {
    let start = Instant::now();
    for target in [SUITE, UNIT] {
        let tests = build(target)?.map_err(Failure::new)?;
        if run(&tests, "")? != Ran::Passed {
            return Err(Failure::new(format!("cargo test {target}: fails without a mutant")));
        }
    }
    Ok(format!("{:.0} s", start.elapsed().as_secs_f64()))
}

fn fate(mutant: &Mutant) -> Result<Fate, Failure> {
    let path = Path::new(TREE).join(&mutant.file);
    let text = fs::read_to_string(&path).map_err(|error| failed(&mutant.file, error))?;
    let times = text.matches(&mutant.from).count();
    if times != 1 || mutant.from == mutant.to {
        return Ok(Fate::Wrong(format!("its text is there {times} times")));
    }
    write(&path, text.replace(&mutant.from, &mutant.to).as_bytes())?;
    let fate = judge(mutant);
    write(&path, text.as_bytes())?;
    fate
}

fn judge(mutant: &Mutant) -> Result<Fate, Failure> {
    let likely = if mutant.seen_by.is_empty() { QUICK } else { &mutant.seen_by };
    let likely = likely.split_whitespace().map(|filter| (SUITE, filter));
    let first = [(SUITE, VALID)].into_iter().chain(likely);
    let mut is_valid = false;
    // All of the tests, but first those that are quick.
    for (target, filter) in first.chain([(UNIT, "gpu::"), (SUITE, ""), (UNIT, "")]) {
        let tests = match build(target)? {
            Ok(tests) => tests,
            Err(error) => return Ok(Fate::Wrong(error)),
        };
        let by = format!("{target} {filter}").trim_end().to_owned();
        match run(&tests, filter)? {
            Ran::Passed => is_valid = true,
            Ran::Failed if !is_valid => return Ok(Fate::Wrong("a shader is not valid".into())),
            Ran::Failed => return Ok(Fate::Caught(by)),
            Ran::Hung => return Ok(Fate::Hung(by)),
        }
    }
    Ok(Fate::Missed)
}

/// Builds the tests of a target; the path of their program, or why there is none.
fn build(target: &str) -> Result<Result<PathBuf, String>, Failure> {
    let built = Path::new(BUILT);
    fs::create_dir_all(built).map_err(|error| failed(BUILT, error))?;
    let built = built.canonicalize().map_err(|error| failed(BUILT, error))?;
    let output = Command::new("cargo")
        .args("test --quiet --locked --no-run --message-format json".split(' '))
        .args(target.split(' '))
        .env("CARGO_TARGET_DIR", built)
        .current_dir(TREE)
        .output()
        .map_err(|error| failed("cargo", error))?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs =
        messages.filter_map(|message| message["executable"].as_str().map(Into::into));
    match programs.next() {
        Some(program) if output.status.success() => Ok(Ok(program)),
        _ => Ok(Err("it does not compile".into())),
    }
}

#[derive(PartialEq)]
enum Ran {
    Passed,
    Failed,
    Hung,
}

/// Runs those tests whose names contain the filter.
fn run(tests: &Path, filter: &str) -> Result<Ran, Failure> {
    let fail = |error| failed(&tests.display().to_string(), error);
    let mut child = Command::new(tests)
        .arg(filter)
        // To find the names for one takes longer than most tests.
        .env("RUST_BACKTRACE", "0")
        .current_dir(TREE)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(fail)?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().map_err(fail)? {
            return Ok(if status.success() { Ran::Passed } else { Ran::Failed });
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().and_then(|()| child.wait()).map_err(fail)?;
    Ok(Ran::Hung)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_mutants() {
        let list =
            "# a remark\n\nfile a.wgsl\n\n- x\n+ y\n! breaks z\n? golden\n\n- u\n-   v\n! w\n";
        let mutants = read(list).unwrap();
        let text = |mutant: &Mutant| [&mutant.from, &mutant.to, &mutant.seen_by].map(String::clone);
        assert_eq!(mutants.len(), 2);
        assert_eq!(text(&mutants[0]), ["x", "y", "golden"]);
        assert_eq!(text(&mutants[1]), ["u\n  v", "", ""]);
        assert!(mutants.iter().all(|mutant| mutant.file == "a.wgsl"));
        assert!(read("- x\n! y").unwrap_err().contains("lacks"));
        assert!(read("file a\n\nx y").unwrap_err().contains("nothing"));
    }

    #[test]
    fn each_mutant_changes_one_place_of_the_tree() {
        let mutants = read(LIST).unwrap();
        assert!(mutants.len() >= 60, "{}", mutants.len());
        for Mutant { file, from, to, .. } in &mutants {
            let text = fs::read_to_string(Path::new("..").join(file)).unwrap();
            assert_eq!(text.matches(from.as_str()).count(), 1, "{file}: {from}");
            assert_ne!(from, to, "{file}");
        }
    }
}
