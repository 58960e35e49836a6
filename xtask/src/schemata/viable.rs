//! Which mutants of a list compile beside what they replace.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::place::{self, Mutant, Placed};
use super::{ROOT, TESTS, hash, tests};
use crate::command::Failure;
use crate::mutants::{copy_tree_to, failed, write};

/// Puts the mutants into the copy of the tree, and takes those away that do not compile.
pub(super) fn find(folder: &Path, mutants: &[Mutant]) -> Result<Vec<Placed>, Failure> {
    let tree = folder.join("tree");
    let mut by_file: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, mutant) in mutants.iter().enumerate() {
        by_file.entry(&mutant.file).or_default().push(at);
    }
    // What is written below keeps its time, and what is built of it, as long as it stays the same.
    let is_changed = |name: &str| name == ROOT || by_file.contains_key(name);
    copy_tree_to(&tree, |name, text| (!is_changed(name)).then(|| text.into()))?;
    let root = read(Path::new(ROOT))?;
    write(&tree.join(ROOT), (root + place::CHOOSER).as_bytes())?;

    let known = folder.join("placed.json");
    let mut placed = Known::read(&known, mutants);
    loop {
        let mut texts = BTreeMap::new();
        for (file, here) in &by_file {
            let here: Vec<_> =
                here.iter().copied().filter(|at| placed[*at] == Placed::Viable).collect();
            let original = read(Path::new(file))?;
            let (text, lost) =
                place::schemata(&original, mutants, &here).map_err(|error| failed(file, error))?;
            write(&tree.join(file), text.as_bytes())?;
            texts.insert(*file, text);
            lost.into_iter().for_each(|at| placed[at] = Placed::Nowhere);
        }
        let refused = refused(&tree, &texts)?;
        if refused.is_empty() {
            Known::write(&known, mutants, &placed)?;
            return Ok(placed);
        }
        println!("{} mutants do not compile here", refused.len());
        refused.into_iter().for_each(|(at, fate)| placed[at] = fate);
    }
}

/// What became of the mutants of a list before they could run, in a file.
struct Known;

impl Known {
    fn list(mutants: &[Mutant]) -> u64 {
        hash(&mutants.iter().map(|mutant| mutant.diff.as_str()).collect::<String>())
    }

    /// What the file says of this list, or that all are still to be tried.
    fn read(path: &Path, mutants: &[Mutant]) -> Vec<Placed> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let known: Value = serde_json::from_str(&text).unwrap_or_default();
        match known["list"].as_u64() == Some(Self::list(mutants)) {
            true => known["placed"].as_array().into_iter().flatten().map(Placed::of).collect(),
            false => mutants.iter().map(Mutant::before_running).collect(),
        }
    }

    fn write(path: &Path, mutants: &[Mutant], placed: &[Placed]) -> Result<(), Failure> {
        let placed: Vec<_> = placed.iter().map(|placed| placed.word()).collect();
        let known = serde_json::json!({ "list": Self::list(mutants), "placed": placed });
        write(path, known.to_string().as_bytes())
    }
}

/// Those that the compiler has something to say of.
fn refused(
    tree: &Path,
    texts: &BTreeMap<&str, String>,
) -> Result<BTreeMap<usize, Placed>, Failure> {
    let messages = tests::compile(tree, &format!("check --tests {TESTS}"))?;
    let (mut refused, mut others) = (BTreeMap::new(), String::new());
    for message in messages.iter().map(|message| &message["message"]) {
        if message["level"] != "error" || message["spans"].as_array().is_none_or(Vec::is_empty) {
            continue;
        }
        let (fate, of): (_, Finder) = match message["code"]["code"].as_str() {
            // What is not const is called where only a constant can be.
            Some("E0015") => (Placed::Constant, |text, [at, _]| place::choice_at(text, at)),
            // Without an arm not all is covered.
            Some("E0004") => (Placed::NoCompile, |text, [_, end]| place::arms_after(text, end)),
            _ => (Placed::NoCompile, |text, [at, _]| place::mutant_at(text, at)),
        };
        let found = of_message(message, texts, of);
        if found.is_empty() {
            others += message["rendered"].as_str().unwrap_or_default();
        }
        found.into_iter().for_each(|at| _ = refused.insert(at, fate));
    }
    match refused.is_empty() && !others.is_empty() {
        true => Err(Failure::new(others)),
        false => Ok(refused),
    }
}

/// The mutants of a text that a message is about, which points at those bytes of it.
type Finder = fn(&str, [usize; 2]) -> Vec<usize>;

/// The mutants that are found at the first place that a message points at and has some.
fn of_message(message: &Value, texts: &BTreeMap<&str, String>, of: Finder) -> Vec<usize> {
    let mut spans: Vec<_> = message["spans"].as_array().into_iter().flatten().collect();
    spans.sort_by_key(|span| span["is_primary"] != true);
    let text = |span: &Value| texts.get(span["file_name"].as_str()?);
    let mut found = spans.into_iter().map(|mut span| {
        // Of what a macro made, the place where it was called.
        while text(span).is_none() && !span["expansion"].is_null() {
            span = &span["expansion"]["span"];
        }
        let byte = |key: &str| span[key].as_u64().unwrap_or_default() as usize;
        text(span).map(|text| of(text, [byte("byte_start"), byte("byte_end")])).unwrap_or_default()
    });
    found.find(|found| !found.is_empty()).unwrap_or_default()
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| failed(&path.display().to_string(), error))
}
