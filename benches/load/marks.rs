//! A document in which parts between marks are written by a program:
//!
//! ```text
//! <!-- figures: growth -->
//! …
//! <!-- end: growth -->
//! ```

/// The document with what is between the marks of `name` made to be `body`; `None` where it has no
/// such marks.
pub(crate) fn replaced(document: &str, name: &str, body: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- figures: {name} -->\n"), format!("<!-- end: {name} -->"));
    let start = document.find(&begin)? + begin.len();
    let stop = start + document[start..].find(&end)?;
    Some(format!("{}\n{}\n\n{}", &document[..start], body.trim(), &document[stop..]))
}
