//! Tables for a terminal or as Markdown, and how figures are written in them.

use std::fmt::Write as _;

/// Names to the left, figures to the right.
pub(crate) fn grid(headings: &[&str], rows: &[Vec<String>], markdown: bool) -> String {
    let head: Vec<String> = headings.iter().map(|&heading| heading.to_owned()).collect();
    let rows: Vec<&Vec<String>> = [&head].into_iter().chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..headings.len()).map(|at| width(at).unwrap_or(0)).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        line(&mut text, row, &widths, markdown);
        if markdown && index == 0 {
            let rules = widths.iter().enumerate().map(|(column, &width)| rule(column, width));
            let _ = writeln!(text, "| {} |", rules.collect::<Vec<_>>().join(" | "));
        }
    }
    text
}

fn line(text: &mut String, row: &[String], widths: &[usize], markdown: bool) {
    let filled = row.iter().zip(widths).enumerate().map(|(column, (cell, &width))| match column {
        0 => format!("{cell:<width$}"),
        _ => format!("{cell:>width$}"),
    });
    let cells: Vec<String> = filled.collect();
    let _ = if markdown {
        writeln!(text, "| {} |", cells.join(" | "))
    } else {
        writeln!(text, "{}", cells.join("  ").trim_end())
    };
}

fn rule(column: usize, width: usize) -> String {
    let dashes = "-".repeat(width.saturating_sub(1).max(2));
    if column == 0 { format!("{dashes}-") } else { format!("{dashes}:") }
}

/// A rate: whole and in groups of three, or with one decimal where it is small.
pub(crate) fn grouped(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        short if short < 0.001 => format!("{:.0} µs", short * 1e6),
        middling if middling < 0.1 => format!("{:.1} ms", middling * 1e3),
        long if long < 10.0 => format!("{:.0} ms", long * 1e3),
        longer => format!("{longer:.1} s"),
    }
}

/// CPU time, to three digits that say something: a replayed entry costs a ten-thousandth of a
/// claim.
pub(crate) fn cost(seconds: f64) -> String {
    match seconds {
        tiny if tiny < 0.001 => format!("{tiny:.6}"),
        small if small < 0.1 => format!("{small:.4}"),
        large => format!("{large:.3}"),
    }
}

/// A ratio, with as many decimals as say something.
pub(crate) fn ratio(ratio: f64) -> String {
    if ratio < 0.1 {
        format!("{ratio:.3}")
    } else if ratio < 10.0 {
        format!("{ratio:.2}")
    } else {
        format!("{ratio:.1}")
    }
}

/// A cell that may be empty.
pub(crate) fn or_none(cell: Option<String>) -> String {
    cell.unwrap_or_else(|| "–".to_owned())
}
