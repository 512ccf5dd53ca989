//! The rules of the house, as far as a test can read them.
//!
//! | module | tests |
//! | --- | --- |
//! | `architecture` | which layer may see which, and how long a file may be |
//! | `openapi` | the API's own document |
//! | `papers` | what README.md and ARCHITECTURE.md claim |

mod architecture;
mod openapi;
mod papers;

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the package.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, by its path from the root, with its text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a text");
                found.push((path.strip_prefix(root()).expect("below it").to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "nothing in {folder}");
    found
}
