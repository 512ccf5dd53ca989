//! `tasks`: a table that fits its terminal, or lines.

use console::{measure_text_width, pad_str, truncate_str};

use super::end::{End, Ended, Failure};
use super::show::{self, in_words, plain};
use super::view::{Known, number, said};
use crate::cli::terminal::{Sort, TasksArgs};
use crate::client::wire::{Item, Page};
use crate::client::{Call, Client, Patience};
use crate::clock::Clock;
use crate::domain::{Status, Timestamp};

/// Items of a page at most.
const PAGE: usize = 100;
/// Pages in a row that hold nothing: a search looks at so many rows a page, and there is an end.
const EMPTY_PAGES: usize = 1000;
/// Columns between two, of a type and of a worker at most, and of a message at least.
const GAP: usize = 2;
const NAME: usize = 24;
const MESSAGE: usize = 12;
const HEAD: [&str; 6] = ["ID", "TYPE", "STATUS", "AGE", "WORKER", "PROGRESS"];

/// Lists tasks.
pub(super) async fn tasks(args: &TasksArgs) -> Ended {
    let (client, patience) = super::connect(&args.connect)?;
    let now = Clock::system().now();
    let mut found = Vec::new();
    let mut cursor = None;
    let mut empty = 0;
    while found.len() < args.limit && empty < EMPTY_PAGES {
        let most = (args.limit - found.len()).min(PAGE);
        let page = page(&client, patience, args, now, cursor, most).await?;
        empty = if page.items.is_empty() { empty + 1 } else { 0 };
        for raw in page.items {
            if args.json {
                show::line(raw.get())?;
                found.push(None);
            } else {
                found.push(Some(client.read::<Item>(raw.get())?));
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let items: Vec<Item> = found.into_iter().flatten().collect();
    if !items.is_empty() {
        table(&items, now)?;
    }
    if cursor.is_some() && show::terminal().is_some() {
        show::note(&format!("there are more; --limit {} shows more of them", args.limit * 2));
    }
    Ok(End::Done)
}

async fn page(
    client: &Client,
    patience: Patience,
    args: &TasksArgs,
    now: Timestamp,
    cursor: Option<String>,
    limit: usize,
) -> Result<Page, Failure> {
    let status: Vec<&str> = args.status.iter().map(|status| status.as_str()).collect();
    let status = (!status.is_empty()).then(|| status.join(","));
    let sort = args.sort.map(|sort| match sort {
        Sort::Created => "createdAt",
        Sort::Completed => "completedAt",
    });
    let call = Call::get("/tasks")
        .query("taskType", args.task_type.as_ref())
        .query("status", status)
        .query("workerId", args.worker.as_ref())
        .query("q", args.search.as_ref())
        .query("createdAfter", args.since.map(|when| when.at(now)))
        .query("createdBefore", args.before.map(|when| when.at(now)))
        .query("sort", sort)
        .query("order", args.reverse.then_some("asc"))
        .query("limit", Some(limit))
        .query("cursor", cursor);
    Ok(client.ask(&call, patience).await?)
}

/// One task as the cells of a row, and its status for the colour.
fn row(item: &Item, now: Timestamp) -> ([String; 6], Option<Status>) {
    let worker = item.worker_id.as_deref().unwrap_or("-");
    let age = in_words(now.since(item.created_at).as_secs_f64());
    let cells = [
        item.id.to_string(),
        plain(&item.task_type).into_owned(),
        plain(&item.status).into_owned(),
        age,
        plain(worker).into_owned(),
        progress(item),
    ];
    (cells, item.known_status())
}

/// How far a task is, or what became of it.
fn progress(item: &Item) -> String {
    let known = item.latest_progress.as_ref().map(|entry| Known::of(entry.get()));
    let known = known.unwrap_or_default();
    let error = item.error.as_ref().filter(|error| error.get() != "null");
    let why = error.map(|error| said(error.get()));
    let why = why.or_else(|| item.cancel_reason.as_deref().map(|why| plain(why).into_owned()));
    let percent = known.percent.map(|percent| format!("{}%", number(percent.floor())));
    let count = known.count.map(|(of, total)| format!("{}/{}", number(of), number(total)));
    let parts = [percent, count, known.stage, why.or(known.message)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn table(items: &[Item], now: Timestamp) -> Result<(), Failure> {
    let rows: Vec<_> = items.iter().map(|item| row(item, now)).collect();
    let terminal = show::terminal().map(|(columns, _)| columns);
    let widths = widths(rows.iter().map(|(cells, _)| cells), terminal);
    let colours = terminal.is_some();
    show::line(&written(&HEAD.map(str::to_owned), &widths, |head| {
        if colours { console::style(head).bold().to_string() } else { head }
    }))?;
    for (cells, status) in &rows {
        let style = show::style(*status);
        let mut index = 0;
        let text = written(cells, &widths, |cell| {
            index += 1;
            // The status alone has a colour.
            if colours && index == 3 { style.apply_to(cell).to_string() } else { cell }
        });
        show::line(&text)?;
    }
    Ok(())
}

/// How wide each column is; in a terminal so that no row is longer than a line of it, as long as ids are whole.
fn widths<'a>(rows: impl Iterator<Item = &'a [String; 6]>, terminal: Option<usize>) -> [usize; 6] {
    let mut widths = HEAD.map(str::len);
    for cells in rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(measure_text_width(cell));
        }
    }
    let Some(columns) = terminal else { return widths };
    // Names give way first, the message takes what is left.
    let before = |widths: &[usize; 6]| widths[..5].iter().sum::<usize>() + 5 * GAP;
    for (column, least) in [(4, NAME), (1, NAME), (4, 8), (1, 8)] {
        let over = (before(&widths) + MESSAGE).saturating_sub(columns);
        widths[column] = widths[column].saturating_sub(over).max(least.min(widths[column]));
    }
    widths[5] = widths[5].min(columns.saturating_sub(before(&widths)).max(1));
    widths
}

fn written(
    cells: &[String; 6],
    widths: &[usize; 6],
    mut dress: impl FnMut(String) -> String,
) -> String {
    let mut text = String::new();
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let cell = truncate_str(cell, *width, "…").into_owned();
        let padding = width - measure_text_width(&cell).min(*width);
        let is_last = index + 1 == cells.len();
        text.push_str(&dress(cell));
        if !is_last {
            text.push_str(&pad_str("", padding + GAP, console::Alignment::Left, None));
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(message: &str, name: usize) -> [String; 6] {
        ["tz4a98xxat96iws9zmbrgj3a", &"n".repeat(name), "in_progress", "2 min", "worker-7", message]
            .map(str::to_owned)
    }

    #[test]
    fn a_row_fits_its_terminal_and_a_pipe_gets_all() {
        let rows = [cells("50% größer 🦀 und länger als alles, was hier steht, und mehr", 60)];
        for columns in [80, 100, 120, 200] {
            let widths = widths(rows.iter(), Some(columns));
            let text = written(&rows[0], &widths, |cell| cell);
            assert!(measure_text_width(&text) <= columns, "{columns}: {text}");
            assert!(text.starts_with("tz4a98xxat96iws9zmbrgj3a  "), "{text}");
        }
        let text = written(&rows[0], &widths(rows.iter(), None), |cell| cell);
        assert!(text.contains(&"n".repeat(60)) && text.ends_with("und mehr"), "{text}");
    }
}
