//! A table as a parameter: rows that one statement joins or writes.

use std::fmt::Write;

use serde::{Serialize, Serializer};
use sqlx::postgres::PgArguments;
use sqlx::{Arguments, error::BoxDynError};

use super::{Kind, Value};
use crate::domain::Timestamp;

/// What a column of a [`Table`] holds; each may hold NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Text.
    Text,
    /// A 64-bit integer.
    Integer,
    /// An instant.
    Instant,
}

/// Rows to be bound to a statement, behind its other parameters.
///
/// Postgres takes a list for each column, which costs least to read there. SQLite has no lists but in JSON, and no cheap
/// way to walk several side by side: it takes one array of arrays.
#[derive(Debug, Clone)]
pub struct Table {
    columns: &'static [(&'static str, Type)],
    lists: Vec<List>,
    rows: usize,
}

#[derive(Debug, Clone)]
enum List {
    Texts(Vec<Option<String>>),
    Integers(Vec<Option<i64>>),
    Instants(Vec<Option<Timestamp>>),
}

impl Table {
    /// An empty table of these columns.
    pub fn new(columns: &'static [(&'static str, Type)]) -> Self {
        let list = |(_, of): &(_, Type)| match of {
            Type::Text => List::Texts(Vec::new()),
            Type::Integer => List::Integers(Vec::new()),
            Type::Instant => List::Instants(Vec::new()),
        };
        Self { columns, lists: columns.iter().map(list).collect(), rows: 0 }
    }

    /// Adds a row: a value for each column, in their order. One of another type is NULL.
    pub fn push<const N: usize>(&mut self, row: [Value; N]) {
        debug_assert_eq!(N, self.columns.len(), "a value for each column");
        for (list, value) in self.lists.iter_mut().zip(row) {
            match (list, value) {
                (List::Texts(list), Value::Text(text)) => list.push(text),
                (List::Integers(list), Value::Integer(integer)) => list.push(integer),
                (List::Instants(list), Value::Instant(instant)) => list.push(instant),
                (list, value) => {
                    debug_assert!(false, "{value:?} in {list:?}");
                    match list {
                        List::Texts(list) => list.push(None),
                        List::Integers(list) => list.push(None),
                        List::Instants(list) => list.push(None),
                    }
                }
            }
        }
        self.rows += 1;
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// How many columns it has.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// What stands in `FROM` for a table of `columns` that is bound behind `before` other parameters.
    pub fn source(columns: &[(&str, Type)], kind: Kind, before: usize, name: &str) -> String {
        let mut source = String::new();
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        match kind {
            Kind::Postgres => {
                source.push_str("unnest(");
                for (at, (_, of)) in columns.iter().enumerate() {
                    let of = match of {
                        Type::Text => "text",
                        Type::Integer => "bigint",
                        Type::Instant => "timestamptz",
                    };
                    let comma = if at == 0 { "" } else { ", " };
                    // Writing to a String cannot fail.
                    let _ = write!(source, "{comma}${}::{of}[]", before + at + 1);
                }
                let _ = write!(source, ") AS {name} ({})", names.join(", "));
            }
            Kind::Sqlite => {
                // Each row as SQLite keeps JSON itself: its members are found without reading it once more for each.
                source.push_str("(SELECT ");
                for (at, name) in names.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    let _ = write!(source, "{comma}value ->> {at} AS {name}");
                }
                let _ = write!(source, " FROM jsonb_each(${})) AS {name}", before + 1);
            }
        }
        source
    }

    pub(super) fn bind_to_postgres(self, arguments: &mut PgArguments) -> Result<(), BoxDynError> {
        for list in self.lists {
            match list {
                List::Texts(texts) => arguments.add(texts)?,
                List::Integers(integers) => arguments.add(integers)?,
                List::Instants(instants) => arguments.add(instants)?,
            }
        }
        Ok(())
    }

    /// An array of rows; an instant is its microseconds.
    pub(super) fn to_json(&self) -> String {
        // Texts, numbers and nothing: there is nothing in it that could fail.
        serde_json::to_string(&Rows(self)).unwrap_or_default()
    }
}

/// A table as JSON, which is written and not built.
struct Rows<'t>(&'t Table);

struct Row<'t>(&'t [List], usize);

struct Cell<'t>(&'t List, usize);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((0..self.0.rows).map(|row| Row(&self.0.lists, row)))
    }
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|list| Cell(list, self.1)))
    }
}

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            List::Texts(texts) => texts[self.1].serialize(serializer),
            List::Integers(integers) => integers[self.1].serialize(serializer),
            List::Instants(instants) => {
                instants[self.1].map(Timestamp::as_micros).serialize(serializer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[(&str, Type)] =
        &[("id", Type::Text), ("n", Type::Integer), ("at", Type::Instant)];

    #[test]
    fn a_table_is_lists_on_postgres_and_an_array_of_rows_on_sqlite() {
        let source = |kind| Table::source(COLUMNS, kind, 2, "given");
        assert_eq!(
            source(Kind::Postgres),
            "unnest($3::text[], $4::bigint[], $5::timestamptz[]) AS given (id, n, at)"
        );
        assert_eq!(
            source(Kind::Sqlite),
            "(SELECT value ->> 0 AS id, value ->> 1 AS n, value ->> 2 AS at FROM jsonb_each($3)) AS given"
        );
        let mut table = Table::new(COLUMNS);
        assert!(table.is_empty() && table.to_json() == "[]");
        let at = Timestamp::from_micros(7).unwrap();
        table.push(["a\"b".to_owned().into(), 3_i64.into(), at.into()]);
        table.push([Value::Text(None), Value::Integer(None), Value::Instant(None)]);
        assert_eq!(table.to_json(), r#"[["a\"b",3,7],[null,null,null]]"#);
    }
}
