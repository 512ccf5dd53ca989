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
const STEPS: u64 = 1000;
/// A terminal keeps lines for itself and for what stands below the bars.
const OTHER_LINES: usize = 3;

/// One line that is drawn; which task it shows may change.
struct Slot {
    bar: ProgressBar,
    is_counting: bool,
}

pub(super) struct Bars {
    all: MultiProgress,
    slots: Vec<Slot>,
    foot: Option<ProgressBar>,
    away: Option<String>,
}

impl Bars {
    pub(super) fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        Self { all, slots: Vec::new(), foot: None, away: None }
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
        while self.slots.len() > tasks.len() {
            if let Some(slot) = self.slots.pop() {
                slot.bar.finish_and_clear();
                self.all.remove(&slot.bar);
            }
        }
        for (index, (id, view)) in tasks.into_iter().enumerate() {
            if self.slots.len() == index {
                let bar = self.all.insert(index, ProgressBar::new(STEPS).with_style(waiting()));
                self.slots.push(Slot { bar, is_counting: false });
            }
            self.slots[index].show(id, view, width, now);
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
        let foot = self.foot.get_or_insert_with(|| {
            self.all.add(ProgressBar::new(STEPS).with_style(of("{wide_msg}")))
        });
        foot.set_message(style(text).dim().to_string());
    }

    pub(super) fn clear(&mut self) {
        // Only what is drawn is lost if it fails.
        let _ = self.all.clear();
    }
}

impl Slot {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a percentage is between 0 and 100"
    )]
    fn show(&mut self, id: &TaskId, view: &View, width: usize, now: Timestamp) {
        if self.is_counting != view.percent.is_some() {
            self.is_counting = view.percent.is_some();
            self.bar.set_style(if self.is_counting { counting() } else { waiting() });
        }
        let id = truncate_str(id.as_str(), width, "…");
        self.bar.set_prefix(pad_str(&id, width, console::Alignment::Left, None).into_owned());
        self.bar.set_message(words(view, now));
        if let Some(percent) = view.percent {
            self.bar.set_position((percent * 10.0) as u64);
        }
        self.bar.tick();
    }
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

fn counting() -> ProgressStyle {
    of("{prefix} {bar:20.cyan/dim} {wide_msg}").progress_chars("━━─")
}

fn waiting() -> ProgressStyle {
    of("{prefix} {spinner:20.cyan} {wide_msg}")
}

fn of(template: &str) -> ProgressStyle {
    // The templates are ours: a wrong one shows the library's own bar.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
