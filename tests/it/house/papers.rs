//! What README.md and ARCHITECTURE.md claim and a test can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{root, sources};

fn paper(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The names in backticks that follow `proved by`, with commas and words like "and" between them.
fn proofs(text: &str) -> Vec<Vec<&str>> {
    let of_claim = |claim| {
        let claim: &str = claim;
        let paragraph = claim.split("\n\n").next().unwrap_or(claim);
        let sentence = paragraph.split("proved by").next().unwrap_or(paragraph);
        sentence.split('`').skip(1).step_by(2).collect()
    };
    text.split("proved by").skip(1).map(of_claim).collect()
}

#[test]
fn every_proof_in_the_architecture_is_a_test() {
    let mut code = String::new();
    for folder in ["src", "tests"] {
        for (_, text) in sources(folder) {
            code.push_str(&text);
        }
    }
    let architecture = paper("ARCHITECTURE.md");
    let proofs = proofs(&architecture);
    assert!(!proofs.is_empty(), "ARCHITECTURE.md proves nothing");
    let mut missing = Vec::new();
    for proof in proofs {
        if proof.is_empty() {
            missing.push("a claim names no test behind `proved by`".to_owned());
        }
        for name in proof {
            let function = name.rsplit("::").next().unwrap_or(name);
            if !code.contains(&format!("fn {function}(")) {
                missing.push(format!("there is no test {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn proofs_are_read_from_a_line_and_its_continuation() {
    let text =
        "A. — proved by `a::b` and\n`c`\n\n`not a proof`\nB. — proved by `d`. C. — proved by INV\n";
    assert_eq!(proofs(text), [vec!["a::b", "c"], vec!["d"], vec![]]);
}

#[test]
fn the_readme_explains_every_variable() {
    let readme = paper("README.md");
    let is_cli = |path: &Path| path.starts_with("src/cli") || path == Path::new("src/cli.rs");
    let cli: String =
        sources("src").into_iter().filter(|(path, _)| is_cli(path)).map(|(_, text)| text).collect();
    let behind = cli.split("env = \"").skip(1);
    let variables: BTreeSet<&str> = behind.filter_map(|rest| rest.split('"').next()).collect();
    assert!(variables.contains("DATABASE_URL"), "{variables:?}");
    let missing: Vec<_> =
        variables.iter().filter(|name| !readme.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "README.md does not explain {missing:?}");
    let known = |name: &&str| !variables.contains(name);
    let unknown: Vec<&str> = named(&readme).into_iter().filter(known).collect();
    assert!(unknown.is_empty(), "README.md explains {unknown:?}, which nothing reads");
}

/// Every name that begins like a variable of ours.
fn named(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_uppercase() || c == '_';
    let begins = text.match_indices("TASK_TRACKER_").map(|(at, _)| &text[at..]);
    begins.map(|rest| &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())]).collect()
}
