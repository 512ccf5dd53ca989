//! What must hold of whatever a client sends: functions of bytes that panic where it does not.
//!
//! | target | is given |
//! | --- | --- |
//! | `bodies` | a JSON body, read as each kind of body there is |
//! | `lines` | a body of lines, whole and in pieces |
//! | `queries` | a query string, read as each kind of query there is |
//! | `cursors` | a `cursor`, a `Last-Event-ID`, an `afterSeqId` |
//! | `headers` | the headers that are read for what they say |
//! | `names` | an id, a name, a time stamp |
//! | `json` | JSON that a client owns |
//! | `stored` | what was written by this service, and comes back from a store or a broker |
//! | `requests` | whole requests, one after the other, to a whole service in process |
//!
//! A fuzzer calls them (`fuzz/`, `scripts/fuzz`), and on every machine the tests below give them all of `fuzz/corpus`.
//! They are compiled for these two alone. Those of the wire look behind it and stand in `http::fuzzing`; `requests`
//! sees what a client sees.

mod json;
mod names;
mod requests;
mod stored;

pub use crate::http::fuzzing::{bodies, cursors, headers, lines, queries};
pub use json::json;
pub use names::names;
pub use requests::requests;
pub use stored::stored;

/// A function of bytes that panics where something does not hold.
pub type Target = fn(&[u8]);

/// Every target, by name.
pub const TARGETS: [(&str, Target); 9] = [
    ("bodies", bodies),
    ("cursors", cursors),
    ("headers", headers),
    ("json", json),
    ("lines", lines),
    ("names", names),
    ("queries", queries),
    ("requests", requests),
    ("stored", stored),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::{Path, PathBuf};

    use super::*;

    /// A folder of the fuzz crate, or of its corpus.
    fn folder(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(path)
    }

    /// What stands in a folder, by name.
    fn names_in(path: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(folder(path)).expect("a folder");
        let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("UTF-8");
        entries.map(|entry| name(entry.expect("an entry"))).collect()
    }

    /// The inputs of a target, by name.
    fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
        let path = format!("corpus/{target}");
        let read = |name: String| {
            let input = fs::read(folder(&path).join(&name)).expect("an input");
            (name, input)
        };
        names_in(&path).into_iter().map(read).collect()
    }

    /// Gives the inputs to a target; says by name for which it did not hold.
    fn held_against(target: Target, inputs: &[(String, Vec<u8>)]) -> impl Iterator<Item = String> {
        let holds = move |input: &[u8]| catch_unwind(AssertUnwindSafe(|| target(input))).is_ok();
        inputs.iter().filter(move |(_, input)| !holds(input)).map(|(name, _)| name.clone())
    }

    #[test]
    fn every_target_has_a_corpus_and_a_fuzzer() {
        let targets: BTreeSet<String> = TARGETS.map(|(name, _)| name.to_owned()).into();
        assert_eq!(names_in("corpus"), targets);
        assert_eq!(
            names_in("fuzz_targets"),
            targets.iter().map(|name| format!("{name}.rs")).collect()
        );
        let manifest = fs::read_to_string(folder("Cargo.toml")).expect("a manifest");
        for name in &targets {
            assert!(manifest.contains(&format!("\nname = \"{name}\"\n")), "{name} is not built");
            assert!(!corpus(name).is_empty(), "the corpus of {name} is empty");
        }
    }

    #[test]
    fn what_must_hold_holds_for_the_whole_corpus() {
        let mut broken = Vec::new();
        for (name, target) in TARGETS {
            broken
                .extend(held_against(target, &corpus(name)).map(|input| format!("{name}/{input}")));
        }
        assert!(broken.is_empty(), "{broken:#?}");
    }

    #[test]
    fn what_must_hold_holds_for_a_corpus_that_is_bent_and_broken() {
        // Seeded, so that what fails once fails again.
        let mut random = fastrand::Rng::with_seed(3002);
        let mut broken = Vec::new();
        for (name, target) in TARGETS {
            let seeds = corpus(name);
            // Whole requests write to a disk.
            let rounds = if name == "requests" { 1 } else { 20 };
            for _ in 0..rounds {
                let bent = seeds.iter().map(|(_, input)| bend(input, &seeds, &mut random));
                let bent: Vec<_> =
                    bent.map(|input| (input.escape_ascii().to_string(), input)).collect();
                broken.extend(held_against(target, &bent).map(|input| format!("{name}: {input}")));
            }
        }
        assert!(broken.is_empty(), "{broken:#?}");
    }

    /// The input with a few bytes changed, left out or doubled, or with the end of another.
    fn bend(input: &[u8], others: &[(String, Vec<u8>)], random: &mut fastrand::Rng) -> Vec<u8> {
        let mut bent = input.to_vec();
        for _ in 0..random.usize(1..4) {
            let from = random.usize(0..=bent.len());
            let to = random.usize(from..=bent.len().min(from + 8));
            match random.u8(0..5) {
                0 => bent.insert(from, random.u8(..)),
                1 => bent.insert(from, random.choice(*b"{}[]\",:\\ \n-0e.").unwrap_or(b'"')),
                2 => drop(bent.drain(from..to)),
                3 => bent.extend_from_within(from..to),
                _ => {
                    let other = &others[random.usize(0..others.len())].1;
                    bent.truncate(from);
                    bent.extend_from_slice(&other[random.usize(0..=other.len())..]);
                }
            }
        }
        bent
    }
}
