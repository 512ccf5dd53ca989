//! The bars of a terminal: one line for each task that goes on, above them a line for each that has ended.

use std::io;

use console::{measure_text_width, pad_str, style, truncate_str};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::show;
use super::super::view::{View, number};
use super::screen::Summary;
use crate::client::Error;
use crate::domain::{Status, TaskId, Timestamp};

/// Columns of an id at most, and of a bar.
const ID: usize = 36;
const BAR: usize = 20;
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const TURN_MS: usize = 100;
/// A terminal keeps lines for itself and for what stands below the bars.
const OTHER_LINES: usize = 3;

pub(super) struct Bars {
    all: MultiProgress,
    /// Lines that are drawn; which task one shows may change.
    lines: Vec<ProgressBar>,
    foot: Option<ProgressBar>,
    away: Option<String>,
}

impl Bars {
    pub(super) fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        Self { all, lines: Vec::new(), foot: None, away: None }
    }

    pub(super) fn away(&mut self, error: Option<&Error>) {
        self.away = error.map(|error| format!("{error}; waiting for it"));
    }

    pub(super) fn is_there(&mut self) {
        self.away = None;
    }

    /// A line that stays, for a task that has ended.
    pub(super) fn ended(&mut self, id: &TaskId, view: &View) -> io::Result<()> {
        let status = view.status.map_or("ended", Status::as_str);
        let mark = if view.status == Some(Status::Completed) { "✓" } else { "✗" };
        let what = show::style(view.status).apply_to(format!("{mark} {id}  {status}"));
        let why = view.reason.as_ref().or(view.message.as_ref());
        let why = why.map_or_else(String::new, |why| format!("  {why}"));
        let (width, _) = show::terminal().unwrap_or((80, 24));
        self.all.println(truncate_str(&format!("{what}{why}"), width, "…"))
    }

    pub(super) fn draw<'a>(
        &mut self,
        tasks: impl Iterator<Item = (&'a TaskId, &'a View)>,
        summary: &Summary,
        now: Timestamp,
    ) {
        let (_, height) = show::terminal().unwrap_or((80, 24));
        let most = height.saturating_sub(OTHER_LINES).max(1);
        let mut tasks: Vec<_> = tasks.collect();
        let hidden = tasks.len().saturating_sub(most);
        tasks.truncate(most);
        let width = tasks.iter().map(|(id, _)| measure_text_width(id.as_str())).max();
        let width = width.unwrap_or_default().min(ID);
        while self.lines.len() > tasks.len() {
            if let Some(line) = self.lines.pop() {
                line.finish_and_clear();
                self.all.remove(&line);
            }
        }
        for (index, (id, view)) in tasks.into_iter().enumerate() {
            if self.lines.len() == index {
                self.lines.push(self.all.insert(index, line()));
            }
            // All at once, so that no frame shows a half of what was and a half of what is.
            self.lines[index].set_message(row(id, view, width, now));
        }
        let more = (hidden > 0).then(|| format!("and {hidden} more"));
        let said = [self.away.clone(), more, Some(summary.text.clone())];
        let said: Vec<String> =
            said.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        self.foot(&said.join(" · "));
    }

    fn foot(&mut self, text: &str) {
        if text.is_empty() {
            if let Some(foot) = self.foot.take() {
                foot.finish_and_clear();
                self.all.remove(&foot);
            }
            return;
        }
        let foot = self.foot.get_or_insert_with(|| self.all.add(line()));
        foot.set_message(style(text).dim().to_string());
    }

    pub(super) fn clear(&mut self) {
        // Only what is drawn is lost if it fails.
        let _ = self.all.clear();
    }
}

/// A line whose text is its message, cut where the terminal ends.
fn line() -> ProgressBar {
    // The template is ours: a wrong one would show the library's own bar.
    let style = ProgressStyle::with_template("{wide_msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}

fn row(id: &TaskId, view: &View, width: usize, now: Timestamp) -> String {
    let id = truncate_str(id.as_str(), width, "…");
    let id = pad_str(&id, width, console::Alignment::Left, None);
    format!("{id} {} {}", bar(view.percent, now), words(view, now))
}

/// How far it is; or that it goes on, where nobody knows.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a percentage is between 0 and 100"
)]
fn bar(percent: Option<f64>, now: Timestamp) -> String {
    let Some(percent) = percent else {
        let turn = now.as_millis().unsigned_abs() as usize / TURN_MS % SPINNER.len();
        let spinner = format!("{:<BAR$}", SPINNER[turn]);
        return style(spinner).cyan().to_string();
    };
    let done = ((percent / 100.0 * BAR as f64) as usize).min(BAR);
    let (done, rest) = ("━".repeat(done), "─".repeat(BAR - done));
    format!("{}{}", style(done).cyan(), style(rest).dim())
}

/// What stands behind a bar.
fn words(view: &View, now: Timestamp) -> String {
    let percent = view.percent.map(|percent| format!("{:>3}%", percent.floor()));
    let count = view.count.map(|(of, total)| format!("{}/{}", number(of), number(total)));
    let status = match view.status {
        _ if view.is_cancelling => Some("asked to end".to_owned()),
        _ if view.is_stalled => Some("no progress".to_owned()),
        Some(Status::InProgress) => None,
        Some(Status::Pending) => Some("waits".to_owned()),
        Some(status) => Some(status.to_string()),
        None => Some("…".to_owned()),
    };
    let status = status.map(|status| {
        let is_odd = view.is_stalled || view.is_cancelling;
        let text = style(status);
        if is_odd { text.yellow().to_string() } else { text.dim().to_string() }
    });
    let left = view.seconds_left(now);
    let left = left.map(|left| style(format!("{} left", show::in_words(left))).dim().to_string());
    let message = view.reason.as_ref().or(view.message.as_ref()).map(|message| {
        if view.is_error { style(message).red().to_string() } else { message.clone() }
    });
    let stage = view.stage.as_ref().map(|stage| style(stage).cyan().to_string());
    let parts = [percent, count, status, left, stage, message];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}
