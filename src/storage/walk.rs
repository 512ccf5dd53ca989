//! How a list is said in SQL: as a walk along one index.
//!
//! An index carries an order, a range of it, and one equality: of the filters that are there, the most telling. Where it
//! is one of several values, each has a way of its own, and the first of every way are put in order. Whatever else is asked of a task
//! is looked at, one by one, and never looked up: otherwise a database might gather and sort all that another index has.
//! So the cost of a walk is the number of tasks it passes, and who walks can bound it.

use std::fmt::Write;

use super::dialect;
use super::lists::{By, Cursor, Filter, LATEST, Order};
use super::row::{brief_columns, columns};
use crate::database::{Kind, Statement, Value};
use crate::domain::{Search, Status, TaskId, Timestamp};

/// A condition with a `?` for each of its values.
#[derive(Debug, Clone)]
struct Condition(String, Vec<Value>);

/// A walk along an index.
#[derive(Debug)]
pub(super) struct Walk {
    kind: Kind,
    order: Order,
    /// Together they pass every task once. Where there is none, one way passes all that have the instant of the order.
    ways: Vec<Way>,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
    cursor: Option<Cursor>,
    /// What is looked at.
    rest: Vec<Condition>,
}

/// Along one value of a column, in the index that begins with it.
#[derive(Debug)]
struct Way {
    column: &'static str,
    value: Value,
    /// Tells SQLite, and nothing where a task is all that there is.
    index: &'static str,
}

/// An end of a range: an instant, or a task.
#[derive(Debug)]
struct Bound<'a> {
    comparison: &'static str,
    at: Timestamp,
    id: Option<&'a TaskId>,
}

impl Walk {
    /// The walk to what `filter` says.
    pub(super) fn new(kind: Kind, filter: &Filter) -> Self {
        let mut equalities = equalities(filter).into_iter();
        let created = (By::CreatedAt, filter.created_after, filter.created_before);
        let completed = (By::CompletedAt, filter.completed_after, filter.completed_before);
        // By the instant of its order it is bounded; the other is looked at.
        let (ways, (_, after, before), (other, other_after, other_before)) = match filter.order.by {
            By::CreatedAt => (equalities.next().unwrap_or_default(), created, completed),
            By::CompletedAt => (Vec::new(), completed, created),
        };
        let mut rest: Vec<Condition> = equalities.map(|ways| any_of(&ways)).collect();
        let other = other.column();
        rest.extend(other_after.map(|at| condition(format!("{other} > ?"), [at.into()])));
        rest.extend(other_before.map(|at| condition(format!("{other} < ?"), [at.into()])));
        if let Some(search) = &filter.search {
            rest.push(holds(kind, search));
            // The task of this very id is found without a walk: see `to`.
            let id = search.as_str().parse::<TaskId>().ok();
            rest.extend(id.map(|id| condition("id <> ?", [(&id).into()])));
        }
        let (order, cursor) = (filter.order, filter.cursor.clone());
        Self { kind, order, ways, after, before, cursor, rest }
    }

    /// The way to one task, if it is one of those that `filter` says, whatever they are searched for and wherever the walk is.
    pub(super) fn to(kind: Kind, filter: &Filter, id: &TaskId) -> Self {
        let mut walk = Self::new(kind, &Filter { search: None, cursor: None, ..filter.clone() });
        let ways = std::mem::replace(&mut walk.ways, vec![Way::to(id)]);
        walk.rest.extend((!ways.is_empty()).then(|| any_of(&ways)));
        walk
    }

    /// Whether every task that it passes is one that is asked for.
    pub(super) fn is_carried(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tasks, as far as `until`, and at most so many.
    pub(super) fn tasks(&self, is_brief: bool, until: Option<&Cursor>, limit: u32) -> Statement {
        let columns = if is_brief { brief_columns!() } else { columns!() };
        let select = format!("SELECT {columns}, {LATEST}");
        let mut values = Vec::new();
        let text = self.text(&select, columns, until, &self.rest, limit, &mut values);
        let limit_at = values.len() + 1;
        let statement = Statement::new(format!("{text} LIMIT ${limit_at}"));
        values.into_iter().fold(statement, Statement::bind).bind(limit)
    }

    /// Where it is when it has passed `count` tasks, if there are as many.
    pub(super) fn passed(&self, count: u32) -> Statement {
        let column = self.order.by.column();
        let (select, columns) = (format!("SELECT {column} AS place, id"), format!("{column}, id"));
        let mut values = Vec::new();
        let text = self.text(&select, &columns, None, &[], count, &mut values);
        let offset_at = values.len() + 1;
        let statement = Statement::new(format!("{text} LIMIT 1 OFFSET ${offset_at}"));
        values.into_iter().fold(statement, Statement::bind).bind(count.saturating_sub(1))
    }

    /// A selection in order. Of several ways no more than `most` tasks of each are looked for: Postgres would gather
    /// all that they have before it sorts.
    fn text(
        &self,
        select: &str,
        columns: &str,
        until: Option<&Cursor>,
        rest: &[Condition],
        most: u32,
        values: &mut Vec<Value>,
    ) -> String {
        let [_, _, ..] = self.ways[..] else {
            let along = self.along(self.ways.first(), until, rest, values);
            return format!("{select}\n         {along}");
        };
        let mut ways = Vec::new();
        for (number, way) in self.ways.iter().enumerate() {
            let along = self.along(Some(way), until, rest, values);
            values.push(most.into());
            let limit_at = values.len();
            ways.push(format!(
                "SELECT * FROM (
             SELECT {columns} {along} LIMIT ${limit_at}
         ) AS way_{number}"
            ));
        }
        let (ways, order) = (ways.join(" UNION ALL "), self.in_order(None));
        format!("{select}\n         FROM ({ways}) AS tracker_tasks {order}")
    }

    /// Along one way, or along all: from where, how far, and past what.
    ///
    /// The value of the way is a part of every bound and of the order, and is never said to be equal: of `status = $1 ORDER BY
    /// created_at` Postgres knows no value when it plans, and may walk through all tasks because it takes each status for
    /// frequent. So no index but its own gives this order. Of each side there is one bound alone, for
    /// a walk begins at the first that it is told.
    fn along(
        &self,
        way: Option<&Way>,
        until: Option<&Cursor>,
        rest: &[Condition],
        values: &mut Vec<Value>,
    ) -> String {
        let column = self.order.by.column();
        let head = way.filter(|way| !way.index.is_empty());
        let mut conditions = Vec::new();
        let index = match (way, self.order.by) {
            (Some(way), _) => {
                let said = if way.index.is_empty() { "= ?" } else { "IS NOT NULL" };
                let value = way.index.is_empty().then(|| way.value.clone());
                let text = format!("{} {said}", way.column);
                conditions.push(Condition(text, value.into_iter().collect()));
                way.index
            }
            (None, By::CreatedAt) => " INDEXED BY tracker_tasks_newest",
            (None, By::CompletedAt) => " INDEXED BY tracker_tasks_ended",
        };
        if self.order.by == By::CompletedAt {
            conditions.push(condition("completed_at IS NOT NULL", []));
        }
        let (lower, upper) = self.bounds(until);
        for (bound, open) in [(lower, ">="), (upper, "<=")] {
            match (bound, head) {
                (Some(bound), _) => conditions.push(bound.said(column, head)),
                (None, Some(Way { column, value, .. })) => {
                    conditions.push(condition(format!("{column} {open} ?"), [value.clone()]));
                }
                (None, None) => {}
            }
        }
        // Neither database looks in an index for what is asked about a truth.
        conditions.extend(
            rest.iter().map(|Condition(text, values)| {
                Condition(format!("({text}) IS TRUE"), values.clone())
            }),
        );
        if conditions.is_empty() {
            conditions.push(condition("TRUE", []));
        }
        let (index, order) = (dialect::by_index(self.kind, index), self.in_order(head));
        let mut text = format!("FROM tracker_tasks{index} WHERE ");
        for (number, condition) in conditions.iter().enumerate() {
            text.push_str(if number == 0 { "" } else { " AND " });
            condition.add_to(&mut text, values);
        }
        format!("{text} {order}")
    }

    fn in_order(&self, head: Option<&Way>) -> String {
        let (column, word) = (self.order.by.column(), self.order.word());
        let head = head.map_or(String::new(), |way| format!("{} {word}, ", way.column));
        format!("ORDER BY {head}{column} {word}, id {word}")
    }

    /// The lower and the upper end, of each the nearer one: a task of the walk, or an instant of the filter.
    fn bounds<'a>(&'a self, until: Option<&'a Cursor>) -> (Option<Bound<'a>>, Option<Bound<'a>>) {
        let task = |comparison, cursor: &'a Cursor| Bound {
            comparison,
            at: cursor.at,
            id: Some(&cursor.id),
        };
        let instant = |comparison, at| Bound { comparison, at, id: None };
        let cursor = self.cursor.as_ref();
        let (lower, upper) = if self.order.is_ascending {
            (cursor.map(|at| task(">", at)), until.map(|at| task("<=", at)))
        } else {
            (until.map(|at| task(">=", at)), cursor.map(|at| task("<", at)))
        };
        let after = self.after.map(|at| instant(">", at));
        let before = self.before.map(|at| instant("<", at));
        let lower = match (lower, after) {
            (Some(task), Some(after)) => Some(if task.at > after.at { task } else { after }),
            (task, after) => task.or(after),
        };
        let upper = match (upper, before) {
            (Some(task), Some(before)) => Some(if task.at < before.at { task } else { before }),
            (task, before) => task.or(before),
        };
        (lower, upper)
    }
}

impl Way {
    fn to(id: &TaskId) -> Self {
        Self { column: "id", value: id.into(), index: "" }
    }
}

impl Bound<'_> {
    /// Said of the key of an index.
    fn said(self, column: &str, head: Option<&Way>) -> Condition {
        let head_column = head.map(|way| way.column);
        let head_value = head.map(|way| way.value.clone());
        let columns: Vec<&str> =
            head_column.into_iter().chain([column]).chain(self.id.map(|_| "id")).collect();
        let values: Vec<Value> = head_value
            .into_iter()
            .chain([self.at.into()])
            .chain(self.id.map(Value::from))
            .collect();
        let places = vec!["?"; values.len()].join(", ");
        Condition(format!("({}) {} ({places})", columns.join(", "), self.comparison), values)
    }
}

impl Condition {
    /// Adds it to a statement: each `?` becomes the next `$n`.
    fn add_to(&self, text: &mut String, values: &mut Vec<Value>) {
        let Self(condition, bound) = self;
        let mut pieces = condition.split('?');
        text.push_str(pieces.next().unwrap_or_default());
        for (value, piece) in bound.iter().zip(pieces) {
            values.push(value.clone());
            // Writing to memory cannot fail.
            let _ = write!(text, "${}{piece}", values.len());
        }
    }
}

fn condition<const N: usize>(text: impl Into<String>, values: [Value; N]) -> Condition {
    Condition(text.into(), values.into())
}

/// It is on one of these ways.
fn any_of(ways: &[Way]) -> Condition {
    let texts: Vec<String> = ways.iter().map(|way| format!("{} = ?", way.column)).collect();
    Condition(texts.join(" OR "), ways.iter().map(|way| way.value.clone()).collect())
}

/// What is to be equal: of each filter its ways, those that leave the fewest tasks first.
fn equalities(filter: &Filter) -> Vec<Vec<Way>> {
    let mut equalities = Vec::new();
    if let Some(id) = &filter.original_task_id {
        let index = " INDEXED BY tracker_tasks_retries";
        let retries = Way { column: "original_task_id", value: id.into(), index };
        equalities.push(vec![Way::to(id), retries]);
    }
    if let Some(worker_id) = &filter.worker_id {
        let index = " INDEXED BY tracker_tasks_by_worker";
        equalities.push(vec![Way { column: "worker_id", value: worker_id.into(), index }]);
    }
    if let Some(task_type) = &filter.task_type {
        let index = " INDEXED BY tracker_tasks_by_type";
        equalities.push(vec![Way { column: "task_type", value: task_type.into(), index }]);
    }
    if !filter.statuses.is_empty() {
        let index = " INDEXED BY tracker_tasks_by_status";
        // Each once, however often it was named: a way that is walked twice would give every task twice.
        let named = Status::ALL.into_iter().filter(|status| filter.statuses.contains(status));
        let way = |status: Status| Way { column: "status", value: status.into(), index };
        equalities.push(named.map(way).collect());
    }
    equalities
}

/// Somewhere in the texts of a task stands what is searched. The short ones are looked at first.
fn holds(kind: Kind, search: &Search) -> Condition {
    let text = pattern(search.as_str());
    let (begins, contains) = (format!("{text}%"), format!("%{text}%"));
    let mut ways = vec![
        condition(dialect::is_like(kind, "id"), [begins.into()]),
        condition(dialect::is_like(kind, "task_type"), [contains.clone().into()]),
        condition(dialect::is_like(kind, "worker_id"), [contains.into()]),
    ];
    let spellings: Vec<String> =
        search.in_json().iter().map(|text| format!("%{}%", pattern(text))).collect();
    for column in ["metadata", "params", "error"] {
        let like = dialect::is_like(kind, column);
        ways.extend(spellings.iter().map(|text| condition(like.as_str(), [text.clone().into()])));
    }
    let texts: Vec<&str> = ways.iter().map(|Condition(text, _)| text.as_str()).collect();
    let values = ways.iter().flat_map(|Condition(_, values)| values.clone()).collect();
    Condition(texts.join(" OR "), values)
}

/// The text as part of a pattern that means this text alone.
fn pattern(text: &str) -> String {
    text.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_the_text_and_nothing_else() {
        assert_eq!(pattern(r"100%_\n"), r"100\%\_\\n");
    }

    #[test]
    fn only_what_no_index_carries_is_looked_at() {
        let is_carried = |filter: &Filter| Walk::new(Kind::Sqlite, filter).is_carried();
        let one = Filter { statuses: Status::ALL.into(), ..Filter::default() };
        assert!(is_carried(&Filter::default()) && is_carried(&one));
        let two = Filter { task_type: "t".parse().ok(), ..one.clone() };
        assert!(!is_carried(&two));
        let order = Order { by: By::CompletedAt, is_ascending: false };
        assert!(is_carried(&Filter { order, ..Filter::default() }));
        assert!(!is_carried(&Filter { order, ..one }));
    }
}
