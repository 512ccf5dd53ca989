//! Which layer may see which, and how long a file may be.

use std::collections::BTreeSet;
use std::path::Path;

use super::sources;

/// What each module of the root may see: the arrows of the picture in ARCHITECTURE.md. Whoever adds one
/// draws it there first.
const ARROWS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("clock", &["domain"]),
    ("coalescer", &[]),
    ("outliving", &[]),
    ("database", &["domain"]),
    ("storage", &["domain", "database"]),
    ("live", &["domain", "coalescer", "database", "outliving"]),
    ("service", &["domain", "clock", "coalescer", "storage", "live", "outliving"]),
    ("http", &["domain", "service"]),
    ("background", &["service"]),
    ("config", &["http", "live"]),
    ("cli", &["config", "domain", "http"]),
    // What talks to a service knows nothing of how it is made.
    ("client", &["domain"]),
    ("terminal", &["cli", "client", "clock", "domain"]),
    ("telemetry", &["cli"]),
    ("files", &[]),
    (
        "app",
        &[
            "background",
            "clock",
            "config",
            "database",
            "http",
            "live",
            "service",
            "storage",
            "telemetry",
        ],
    ),
    // Compiled for tests and fuzzing alone; nothing sees it.
    ("fuzzing", &["app", "clock", "config", "domain", "http", "live"]),
    // It names the modules and sees none.
    ("lib", &[]),
];

/// Lines of a file at most.
const LINES: usize = 400;
/// Files that may be longer, each with its reason.
const LONGER: [(&str, &str); 0] = [];

/// The module of the root a file of `src` belongs to.
fn module(path: &Path) -> String {
    let first = path.components().nth(1).expect("a file below src");
    first.as_os_str().to_str().expect("UTF-8").trim_end_matches(".rs").to_owned()
}

/// Every module of the root that `text` names, comments aside: as `crate::a` or in `crate::{a, b::c}`.
fn seen(text: &str) -> BTreeSet<String> {
    let code: Vec<&str> =
        text.lines().map(|line| line.split("//").next().unwrap_or(line)).collect();
    let code = code.join("\n");
    let mut seen = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let names = match rest.strip_prefix('{') {
            Some(group) => top_level(group),
            None => vec![rest],
        };
        for name in names {
            let name = name.trim_start();
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            seen.insert(name[..end].to_owned());
        }
    }
    seen.remove("");
    seen
}

/// The parts between the commas of a group, up to the brace that closes it.
fn top_level(group: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut parts) = (0, 0, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&group[begin..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts
}

#[test]
fn arrows_point_one_way() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        // The binary stands on the library and may see what it offers.
        if path == Path::new("src/main.rs") {
            continue;
        }
        let module = module(&path);
        let allowed = ARROWS.iter().find(|(from, _)| *from == module);
        let Some((_, allowed)) = allowed else {
            wrong.push(format!("{}: {module} is not in the picture", path.display()));
            continue;
        };
        for to in seen(&text) {
            if to != module && !allowed.contains(&&*to) {
                wrong.push(format!("{}: {module} must not see {to}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not in the picture:\n{}", wrong.join("\n"));
}

#[test]
fn arrows_are_read_from_every_form_of_a_path() {
    let text = "use crate::a;\nuse crate::{b, c::{d, e},\n  f};\nlet x = crate::g::h(crate::i);\n// crate::j";
    let expected = ["a", "b", "c", "f", "g", "i"].map(str::to_owned);
    assert_eq!(seen(text), BTreeSet::from(expected));
}

#[test]
fn a_file_is_short_enough_to_proofread() {
    let mut long = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz/fuzz_targets"] {
        for (path, text) in sources(folder) {
            let lines = text.lines().count();
            let path = path.display().to_string();
            if lines > LINES && LONGER.iter().all(|(longer, _)| *longer != path) {
                long.push(format!("{path}: {lines} lines"));
            }
        }
    }
    assert!(long.is_empty(), "longer than {LINES} lines:\n{}", long.join("\n"));
}
