//! Where the mutants of a list go in the text of a file, and what stands there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Arm, Block, Expr, ExprBinary, ExprStruct, ExprUnary, Pat};

use crate::command::Failure;

/// A mutant of cargo-mutants' list.
#[derive(Debug)]
pub(super) struct Mutant {
    pub(super) name: String,
    pub(super) file: String,
    /// What it changes, with the lines around.
    pub(super) diff: String,
    genre: String,
    replacement: String,
    /// The line and the column where it begins, from 1.
    start: [usize; 2],
    /// Whether its function returns a type that only what it does has a name for.
    is_opaque: bool,
}

/// What became of a mutant before it could run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Placed {
    Viable,
    /// It would stand where only a constant can.
    Constant,
    NoCompile,
    /// Nothing of its kind begins where it should.
    Nowhere,
}

impl Placed {
    const ALL: [(Placed, &str); 4] = [
        (Placed::Viable, "viable"),
        (Placed::Constant, "constant"),
        (Placed::NoCompile, "does not compile"),
        (Placed::Nowhere, "nowhere"),
    ];

    pub(super) fn word(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    pub(super) fn of(word: &Value) -> Placed {
        let there = Self::ALL.into_iter().find(|(_, there)| word == there);
        there.map_or(Placed::Nowhere, |(placed, _)| placed)
    }
}

/// What stands in the place of a part of the text: the first of the mutants that is active, or what
/// was there.
#[derive(Debug, Default)]
struct Choice {
    mutants: Vec<(usize, String)>,
}

impl Mutant {
    /// Another type cannot be returned beside the one that is.
    pub(super) fn before_running(&self) -> Placed {
        match self.is_opaque && self.genre == "FnValue" {
            true => Placed::Constant,
            false => Placed::Viable,
        }
    }
}

pub(super) fn read(list: &str) -> Result<Vec<Mutant>, Failure> {
    let list: Vec<Value> = serde_json::from_str(list)
        .map_err(|error| Failure::new(format!("cargo-mutants' list: {error}")))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or_default() as usize;
    let mutant = |value: &Value| {
        let start = ["line", "column"].map(|key| number(&value["span"]["start"][key]));
        let is_opaque = text(&value["function"]["return_type"]).contains("impl ");
        let [name, file, diff, genre, replacement] =
            ["name", "file", "diff", "genre", "replacement"].map(|key| text(&value[key]));
        Mutant { name, file, diff, genre, replacement, start, is_opaque }
    };
    Ok(list.iter().map(mutant).collect())
}

/// The text of a file with all those mutants in it, and those that have no place in it. A mutant's
/// number there is its place in `all`, from 1.
pub(super) fn schemata(
    text: &str,
    all: &[Mutant],
    here: &[usize],
) -> Result<(String, Vec<usize>), String> {
    let file = syn::parse_file(text).map_err(|error| error.to_string())?;
    let starts: Vec<usize> =
        [0].into_iter().chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let byte = |line: usize, column: usize| {
        let start = starts[line - 1];
        let chars = text[start..].char_indices().map(|(at, _)| start + at);
        chars.chain([text.len()]).nth(column - 1).unwrap_or(text.len())
    };
    let mut wanted: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &at in here {
        let [line, column] = all[at].start;
        wanted.entry(byte(line, column)).or_default().push(at);
    }
    let mut placer =
        Placer { text, all, wanted, choices: BTreeMap::new(), placed: BTreeSet::new() };
    placer.visit_file(&file);
    let lost = here.iter().copied().filter(|at| !placer.placed.contains(at)).collect();
    let choices: Vec<_> = placer.choices.into_iter().collect();
    Ok((render(text, 0..text.len(), &choices), lost))
}

struct Placer<'a> {
    text: &'a str,
    all: &'a [Mutant],
    /// By the byte where they begin.
    wanted: BTreeMap<usize, Vec<usize>>,
    /// By start, and then the longest first.
    choices: BTreeMap<(usize, std::cmp::Reverse<usize>), Choice>,
    placed: BTreeSet<usize>,
}

impl Placer<'_> {
    /// Those of a genre whose part of the text begins where this one does.
    fn at(&self, part: &impl Spanned, genre: &str) -> Vec<usize> {
        let start = part.span().byte_range().start;
        let wanted = self.wanted.get(&start).into_iter().flatten().copied();
        wanted.filter(|at| self.all[*at].genre == genre).collect()
    }

    fn choose(&mut self, span: Range<usize>, at: usize, text: String) {
        let key = (span.start, std::cmp::Reverse(span.end));
        self.choices.entry(key).or_default().mutants.push((at, text));
        self.placed.insert(at);
    }

    fn text_of(&self, part: &impl Spanned) -> &str {
        &self.text[part.span().byte_range()]
    }

    fn function(&mut self, body: &Block) {
        let Some(first) = body.stmts.first() else { return };
        let start = body.span().byte_range().start + 1;
        for at in self.at(first, "FnValue") {
            let text = format!("return {};", self.all[at].replacement);
            // Nothing is taken away: what is returned stands before all else.
            self.choose(start..start, at, text);
        }
    }
}

impl<'ast> Visit<'ast> for Placer<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(body) = &function.default {
            self.function(body);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_expr_binary(&mut self, binary: &'ast ExprBinary) {
        for at in self.at(&binary.op, "BinaryOperator") {
            let [left, right] = [&binary.left, &binary.right];
            // A chain with a `let` in it is no expression.
            if matches!(**left, Expr::Let(_)) || matches!(**right, Expr::Let(_)) {
                continue;
            }
            let [left, right] = [left, right].map(|side| self.text_of(side));
            let text = format!("({left}) {} ({right})", self.all[at].replacement);
            self.choose(binary.span().byte_range(), at, text);
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast ExprUnary) {
        for at in self.at(&unary.op, "UnaryOperator") {
            let text = format!("{} ({})", self.all[at].replacement, self.text_of(&unary.expr));
            self.choose(unary.span().byte_range(), at, text);
        }
        visit::visit_expr_unary(self, unary);
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        let guard = match &arm.pat {
            Pat::Guard(guarded) => Some(&guarded.guard),
            _ => None,
        };
        let place = guard.map(|guard| guard.span().byte_range());
        for at in self.at(arm, "MatchArm") {
            match &place {
                Some(guard) => self.choose(guard.clone(), at, "false".into()),
                None => {
                    let end = arm.pat.span().byte_range().end;
                    self.choose(end..end, at, "if".into());
                }
            }
        }
        if let Some(guard) = guard {
            for at in self.at(guard, "MatchArmGuard") {
                self.choose(guard.span().byte_range(), at, self.all[at].replacement.clone());
            }
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, made: &'ast ExprStruct) {
        for field in &made.fields {
            for at in self.at(field, "StructField") {
                let others = made.fields.iter().filter(|other| !std::ptr::eq(*other, field));
                let mut fields: Vec<_> = others.map(|other| self.text_of(other).into()).collect();
                let rest = made.rest.as_ref().map(|rest| self.text_of(rest)).unwrap_or_default();
                fields.push(format!("..{rest}"));
                let text = format!("{} {{ {} }}", self.text_of(&made.path), fields.join(", "));
                self.choose(made.span().byte_range(), at, text);
            }
        }
        visit::visit_expr_struct(self, made);
    }
}

type Key = (usize, std::cmp::Reverse<usize>);

/// A part of the text with the choices that are in it, by their starts.
fn render(text: &str, part: Range<usize>, choices: &[(Key, Choice)]) -> String {
    let (mut out, mut at, mut next) = (String::new(), part.start, 0);
    while let Some(((start, std::cmp::Reverse(end)), choice)) = choices.get(next) {
        out += &text[at..*start];
        let inside = choices[next + 1..].iter().take_while(|((start, _), _)| start < end).count();
        let inside = &choices[next + 1..][..inside];
        out += &chosen(choice, (start < end).then(|| render(text, *start..*end, inside)));
        (at, next) = (*end, next + 1 + inside.len());
    }
    out + &text[at..part.end]
}

fn chosen(choice: &Choice, original: Option<String>) -> String {
    let one = |(at, text): &(usize, String)| {
        let id = at + 1;
        // An arm that is left out, or what a function returns at once.
        match text.as_str() {
            "if" => format!(" if !crate::mutant({id})/*<{id}*/ /*{id}>*/"),
            _ => format!("if crate::mutant({id}) {{/*<{id}*/ {text} /*{id}>*/}}"),
        }
    };
    let mutants = choice.mutants.iter().map(one);
    match original {
        None => mutants.collect(),
        Some(original) => {
            let mutants: Vec<_> = mutants.collect();
            format!("({} else {{ ({original}) }})", mutants.join(" else "))
        }
    }
}

/// The mutant in whose text a byte is: the last that begins before it and ends after it.
pub(super) fn mutant_at(text: &str, at: usize) -> Vec<usize> {
    let mut rest = at;
    while let Some(start) = text[..rest].rfind("/*<") {
        let id = text[start + 3..].split("*/").next().unwrap_or_default();
        let end = text[start..].find(&format!("/*{id}>*/"));
        if end.is_some_and(|end| at < start + end) {
            return id.parse::<usize>().map(|id| id - 1).into_iter().collect();
        }
        rest = start;
    }
    Vec::new()
}

/// The mutants that leave out an arm of the match whose braces come next after a byte.
pub(super) fn arms_after(text: &str, at: usize) -> Vec<usize> {
    let (mut depth, mut arms) = (0, Vec::new());
    for (here, char) in text[at..].char_indices().map(|(here, char)| (at + here, char)) {
        match char {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            '!' if depth == 1 && text[..here].ends_with(" if ") => {
                arms.extend(choice_at(text, here + 1));
            }
            _ => {}
        }
    }
    arms
}

/// The mutant that is asked for at a byte.
pub(super) fn choice_at(text: &str, at: usize) -> Vec<usize> {
    let asked = text[at..].strip_prefix("crate::mutant(");
    let id = asked.and_then(|asked| asked.split(')').next()?.parse::<usize>().ok());
    id.map(|id| id - 1).into_iter().collect()
}

/// What a crate chooses its mutant with. The variable `KULLBACK_MUTANT` has the number of one;
/// `KULLBACK_REACHED` the path of a file that gets the numbers of all that were asked for. It is not
/// inlined: there are thousands of calls of it in each copy of generic code.
pub(super) const CHOOSER: &str = r#"
static MUTANT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(UNREAD);
const UNREAD: u32 = u32::MAX;
const REACHING: u32 = u32::MAX - 1;

#[inline(never)]
pub(crate) fn mutant(id: u32) -> bool {
    let active = MUTANT.load(std::sync::atomic::Ordering::Relaxed);
    if active < REACHING { active == id } else { is_active(active, id) }
}

#[cold]
fn is_active(active: u32, id: u32) -> bool {
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    static REACHED: [AtomicBool; 1 << 14] = [const { AtomicBool::new(false) }; 1 << 14];
    let path = || std::env::var_os("KULLBACK_REACHED");
    if active == UNREAD {
        let given = std::env::var("KULLBACK_MUTANT").ok().and_then(|text| text.parse().ok());
        MUTANT.store(given.unwrap_or(if path().is_some() { REACHING } else { 0 }), Relaxed);
        return mutant(id);
    }
    if !REACHED[id as usize].load(Relaxed) && !REACHED[id as usize].swap(true, Relaxed) {
        let file = std::fs::File::options().create(true).append(true).open(path().unwrap());
        file.unwrap().write_all(format!("{id}\n").as_bytes()).unwrap();
    }
    false
}
"#;

#[cfg(test)]
mod unit {
    use super::*;

    fn mutant(genre: &str, replacement: &str, start: [usize; 2]) -> Mutant {
        let [name, file, diff] = [const { String::new() }; 3];
        Mutant {
            name,
            file,
            diff,
            genre: genre.into(),
            replacement: replacement.into(),
            start,
            is_opaque: false,
        }
    }

    #[test]
    fn mutants_stand_beside_what_they_replace() {
        let text = "fn f(a: i32) -> i32 {\n    -a * 2 + 1\n}\n";
        let all = [
            mutant("FnValue", "0", [2, 5]),
            mutant("BinaryOperator", "-", [2, 12]),
            mutant("BinaryOperator", "/", [2, 8]),
            mutant("UnaryOperator", "", [2, 5]),
            mutant("UnaryOperator", "", [2, 6]),
        ];
        let (made, lost) = schemata(text, &all, &[0, 1, 2, 3, 4]).unwrap();
        assert_eq!(lost, [4]);
        let plain = made.replace("crate::mutant", "m");
        let want = "fn f(a: i32) -> i32 {if m(1) {/*<1*/ return 0; /*1>*/}\n    \
            (if m(2) {/*<2*/ (-a * 2) - (1) /*2>*/} else { (\
            (if m(3) {/*<3*/ (-a) / (2) /*3>*/} else { (\
            (if m(4) {/*<4*/  (a) /*4>*/} else { (-a) }) * 2) }) + 1) })\n}\n";
        assert_eq!(plain, want);
        let at = made.find("return 0").unwrap();
        assert_eq!(mutant_at(&made, at), [0]);
        assert_eq!(mutant_at(&made, made.find("fn").unwrap()), [0; 0]);
        assert_eq!(mutant_at(&made, made.rfind("}").unwrap()), [0; 0]);
        assert_eq!(choice_at(&made, made.find("crate::mutant(3").unwrap()), [2]);
    }

    #[test]
    fn arms_and_fields_are_left_out() {
        let text = "fn f(a: i32) -> S {\n    match a {\n        1 => S { a, b: 2, ..D },\n        n if n > 2 => D,\n    }\n}\n";
        let all = [
            mutant("MatchArm", "", [3, 9]),
            mutant("MatchArm", "", [4, 9]),
            mutant("MatchArmGuard", "true", [4, 14]),
            mutant("StructField", "", [3, 21]),
        ];
        let (made, lost) = schemata(text, &all, &[0, 1, 2, 3]).unwrap();
        assert_eq!(lost, [0; 0], "{made}");
        assert!(made.contains("1 if !crate::mutant(1)/*<1*/ /*1>*/ =>"), "{made}");
        assert_eq!(arms_after(&made, made.find("match a").unwrap()), [0]);
        assert!(made.contains("n if (if crate::mutant(2) {/*<2*/ false"), "{made}");
        assert!(made.contains("/*<4*/ S { a, ..D } /*4>*/"), "{made}");
    }
}
