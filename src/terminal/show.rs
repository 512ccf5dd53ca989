//! Text for a terminal, and lines on stdout.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use console::Style;

use crate::domain::Status;

/// Writes a line to stdout, at once: whoever reads the pipe is to see it now.
pub(super) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Writes bytes to stdout.
pub(super) fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Says something on stderr, which may be gone.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "task-tracker: {text}");
}

/// Whether stdout is a terminal, and how wide and high it is.
pub(super) fn terminal() -> Option<(usize, usize)> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let (rows, columns) = console::Term::stdout().size();
    Some((columns.into(), rows.into()))
}

/// The text as one line without what a terminal would obey: others have written it.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    let is_odd = |c: char| c.is_control() || is_direction(c);
    if !text.contains(is_odd) {
        return Cow::Borrowed(text);
    }
    let text = console::strip_ansi_codes(text);
    let space = |c: char| if is_odd(c) { ' ' } else { c };
    Cow::Owned(text.chars().map(space).collect())
}

/// Turns round the order in which what is beside it is shown.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How a status looks; without colours where the terminal has none or `NO_COLOR` is set.
pub(super) fn style(status: Option<Status>) -> Style {
    match status {
        Some(Status::Completed) => Style::new().green(),
        Some(Status::Failed | Status::Timeout) => Style::new().red(),
        Some(Status::Cancelled) => Style::new().yellow(),
        Some(Status::InProgress) => Style::new().cyan(),
        Some(Status::Pending) | None => Style::new().dim(),
    }
}

/// A time for people, no more exact than anybody knows it.
pub(super) fn in_words(seconds: f64) -> String {
    match seconds {
        s if s < 20.0 => format!("{:.0} s", s.ceil().max(1.0)),
        s if s < 90.0 => format!("{:.0} s", (s / 5.0).ceil() * 5.0),
        s if s < 90.0 * 60.0 => format!("{:.0} min", s / 60.0),
        s if s < 36.0 * 3600.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_taken_from_a_text() {
        assert_eq!(plain("50 % – grüße"), "50 % – grüße");
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m\r\nx\u{7}y\u{202e}z"), "red  x y z");
    }

    #[test]
    fn times_are_as_exact_as_anybody_knows_them() {
        let words = [0.2, 19.5, 42.0, 100.0, 7200.0, 200_000.0].map(in_words);
        assert_eq!(words, ["1 s", "20 s", "45 s", "2 min", "2 h", "2 days"]);
    }
}
