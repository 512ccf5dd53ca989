//! Keyset pages of tasks, newest first, and counts.

use super::tasks::{TaskRow, columns, unreadable};
use super::{Error, Storage};
use crate::database::Statement;
use crate::domain::{Entry, Status, Task, TaskId, TaskType, Timestamp, WorkerId};

/// Where a page begins: behind this task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// When the last task of the page before was registered.
    pub created_at: Timestamp,
    /// Its id, which orders tasks registered in the same microsecond.
    pub id: TaskId,
}

/// Which tasks are listed; `None` filters nothing.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this type.
    pub task_type: Option<TaskType>,
    /// Of this status.
    pub status: Option<Status>,
    /// Held by this worker, now or at their end.
    pub worker_id: Option<WorkerId>,
    /// Registered after this instant.
    pub created_after: Option<Timestamp>,
    /// Registered before this instant.
    pub created_before: Option<Timestamp>,
    /// Behind the page before.
    pub cursor: Option<Cursor>,
}

/// A task in a list.
#[derive(Debug)]
pub struct Listed {
    /// The task.
    pub task: Task,
    /// Its newest sealed entry.
    pub latest: Option<Entry>,
}

#[derive(sqlx::FromRow)]
struct ListedRow {
    #[sqlx(flatten)]
    task: TaskRow,
    latest: Option<String>,
}

impl Storage {
    /// A page of at most `limit` tasks, newest first.
    pub async fn list(&self, filter: &Filter, limit: u32) -> Result<Vec<Listed>, Error> {
        let rows: Vec<ListedRow> =
            list_statement(filter, limit).fetch_all(self.database.reader()).await?;
        rows.into_iter()
            .map(|row| {
                let latest = row.latest.as_deref().map(Entry::parse).transpose();
                Ok(Listed {
                    task: row.task.try_into()?,
                    latest: latest.map_err(|_| unreadable("the latest entry of a list"))?,
                })
            })
            .collect()
    }

    /// How many tasks wait and how many run.
    pub async fn count_active(&self) -> Result<Vec<(Status, u64)>, Error> {
        #[derive(sqlx::FromRow)]
        struct CountRow {
            status: String,
            tasks: i64,
        }
        let rows: Vec<CountRow> = Statement::new(
            "SELECT status, count(*) AS tasks FROM tracker_tasks
             WHERE completed_at IS NULL GROUP BY status",
        )
        .fetch_all(self.database.reader())
        .await?;
        rows.into_iter()
            .map(|row| {
                let status = Status::parse(&row.status).ok_or_else(|| unreadable("a status"))?;
                Ok((status, u64::try_from(row.tasks).unwrap_or(0)))
            })
            .collect()
    }

    /// How the database would run the statements whose cost must not grow with the table: a name and
    /// the plan's text for each.
    pub async fn plans(&self, now: Timestamp) -> Result<Vec<(String, String)>, Error> {
        let kind = self.database.kind();
        let a_type: TaskType = "type-1".parse().map_err(|_| unreadable("a name"))?;
        let a_worker: WorkerId = "worker-1".parse().map_err(|_| unreadable("a name"))?;
        let cursor = Some(Cursor { created_at: now, id: TaskId::new() });
        let list = |filter: Filter| list_statement(&Filter { cursor: cursor.clone(), ..filter }, 50);
        let overdue = super::Selection::Overdue { now, limit: 100 };
        let by_type = Filter { task_type: Some(a_type.clone()), ..Filter::default() };
        let by_worker = Filter { worker_id: Some(a_worker.clone()), ..Filter::default() };
        let by_status = Filter { status: Some(Status::Failed), ..Filter::default() };
        let statements = [
            ("claim", self.claim_statement(&[a_type.clone(), a_type], &a_worker, now)),
            ("sweep", overdue.statement(kind)),
            ("list", list(Filter::default())),
            ("list by type", list(by_type)),
            ("list by status", list(by_status)),
            ("list by worker", list(by_worker)),
        ];
        let mut plans = Vec::new();
        for (name, statement) in statements {
            plans.push((name.to_owned(), self.plan(statement).await?));
        }
        Ok(plans)
    }

    async fn plan(&self, statement: Statement) -> Result<String, Error> {
        #[derive(sqlx::FromRow)]
        struct PostgresPlan {
            #[sqlx(rename = "QUERY PLAN")]
            line: String,
        }
        #[derive(sqlx::FromRow)]
        struct SqlitePlan {
            detail: String,
        }
        let lines: Vec<String> = match self.database.kind() {
            crate::database::Kind::Postgres => statement
                .behind("EXPLAIN")
                .fetch_all::<PostgresPlan>(self.database.reader())
                .await?
                .into_iter()
                .map(|row| row.line)
                .collect(),
            crate::database::Kind::Sqlite => statement
                .behind("EXPLAIN QUERY PLAN")
                .fetch_all::<SqlitePlan>(self.database.reader())
                .await?
                .into_iter()
                .map(|row| row.detail)
                .collect(),
        };
        Ok(lines.join("\n"))
    }
}

/// Composed of the filters that are there: `$1 IS NULL OR …` would keep Postgres from choosing an index.
fn list_statement(filter: &Filter, limit: u32) -> Statement {
    let mut sql = String::from(concat!(
        "SELECT ",
        columns!(),
        ", (SELECT latest FROM tracker_entries WHERE task_id = tracker_tasks.id
            ORDER BY first_seq DESC LIMIT 1) AS latest
         FROM tracker_tasks WHERE TRUE"
    ));
    let mut values: Vec<crate::database::Value> = Vec::new();
    let mut condition = |text: &str, bound: Vec<crate::database::Value>| {
        let mut text = format!(" AND {text}");
        for value in bound {
            values.push(value);
            text = text.replacen('?', &format!("${}", values.len()), 1);
        }
        sql.push_str(&text);
    };
    if let Some(task_type) = &filter.task_type {
        condition("task_type = ?", vec![task_type.into()]);
    }
    if let Some(status) = filter.status {
        condition("status = ?", vec![status.into()]);
    }
    if let Some(worker_id) = &filter.worker_id {
        condition("worker_id = ?", vec![worker_id.into()]);
    }
    if let Some(after) = filter.created_after {
        condition("created_at > ?", vec![after.into()]);
    }
    if let Some(before) = filter.created_before {
        condition("created_at < ?", vec![before.into()]);
    }
    if let Some(Cursor { created_at, id }) = &filter.cursor {
        condition("(created_at, id) < (?, ?)", vec![(*created_at).into(), id.into()]);
    }
    sql.push_str(&format!(" ORDER BY created_at DESC, id DESC LIMIT ${}", values.len() + 1));
    let statement = Statement::new(sql);
    values.into_iter().fold(statement, Statement::bind).bind(limit)
}
