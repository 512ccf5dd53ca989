//! How the databases would run the statements whose cost must not grow with the table.

use super::claim::{offers_statements, take_statement};
use super::lists::list_statement;
use super::moves::{moved_statement, running_statement};
use super::overview::{
    Stretch, active_statement, count_ended_statement, ended_statement, failures_statement,
    registered_statement, workers_statement,
};
use super::workers::held_statement;
use super::{Claim, Cursor, Due, Error, Filter, Selection, Storage, unreadable};
use crate::database::{Kind, Statement};
use crate::domain::{Lease, Status, TaskId, TaskType, Timestamp, WorkerId};

impl Storage {
    /// How the database would run the statements whose cost must not grow with the table: a name and
    /// the plan's text for each.
    pub async fn plans(&self, now: Timestamp) -> Result<Vec<(String, String)>, Error> {
        let kind = self.database.kind();
        let a_type: TaskType = "type-1".parse().map_err(|_| unreadable("a name"))?;
        let a_worker: WorkerId = "worker-1".parse().map_err(|_| unreadable("a name"))?;
        let cursor = Some(Cursor { created_at: now, id: TaskId::new() });
        let list =
            |filter: Filter| list_statement(&Filter { cursor: cursor.clone(), ..filter }, 50);
        let claim = |types: &[TaskType]| Claim {
            types: types.to_vec(),
            worker: a_worker.clone(),
            lease: Lease::new(None, now),
            at: now,
        };
        let of_one = claim(std::slice::from_ref(&a_type));
        let of_two = claim(&[a_type.clone(), a_type.clone()]);
        let offers = |claim: &Claim| offers_statements(kind, std::iter::once(claim), &[]).remove(0);
        let an_end = |id: &TaskId| Selection::Free(std::slice::from_ref(id)).statement(kind);
        let sweep = |due: Due| Selection::Due { due, now, limit: 100 }.statement(kind);
        let by_type = Filter { task_type: Some(a_type.clone()), ..Filter::default() };
        let by_worker = Filter { worker_id: Some(a_worker.clone()), ..Filter::default() };
        let by_status = Filter { status: Some(Status::Failed), ..Filter::default() };
        let statements = [
            ("claim of one type", offers(&of_one)),
            ("claim of two types", offers(&of_two)),
            (
                "what is claimed",
                take_statement(kind, std::slice::from_ref(&of_one), &[(0, "task-1".into())]),
            ),
            ("ends of many", an_end(&TaskId::new())),
            ("sweep", sweep(Due::Deadline)),
            ("sweep of leases", sweep(Due::Lease)),
            ("sweep of stalls", sweep(Due::StallCheck)),
            ("sweep of the cancelled", sweep(Due::Grace)),
            ("held by workers", held_statement(kind, std::slice::from_ref(&a_worker))),
            ("forgotten answers", self.forget_statement(now)),
            ("list", list(Filter::default())),
            ("list by type", list(by_type)),
            ("list by status", list(by_status)),
            ("list by worker", list(by_worker)),
            ("what has moved", moved_statement(kind, &[], now, 1000)),
            ("what of a type has moved", moved_statement(kind, &[a_type.clone()], now, 1000)),
            ("what runs", running_statement(kind, &[], 1000)),
        ];
        self.plans_of(statements.into_iter().chain(overview_statements(kind, now))).await
    }

    async fn plans_of(
        &self,
        statements: impl Iterator<Item = (&str, Statement)>,
    ) -> Result<Vec<(String, String)>, Error> {
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
            Kind::Postgres => statement
                .behind("EXPLAIN")
                .fetch_all::<PostgresPlan>(self.database.reader())
                .await?
                .into_iter()
                .map(|row| row.line)
                .collect(),
            Kind::Sqlite => statement
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

/// What the overview asks: of a window, and of all there is.
fn overview_statements(kind: Kind, now: Timestamp) -> [(&'static str, Statement); 6] {
    let hour = std::time::Duration::from_hours(1);
    let stretch = Stretch { from: now.minus(hour), to: now, step_seconds: 60 };
    [
        ("overview: what waits and runs", active_statement(kind)),
        ("overview: what ended", count_ended_statement(stretch.from, now, 1_000_000)),
        ("overview: registered by step", registered_statement(kind, stretch)),
        ("overview: ended by step", ended_statement(kind, stretch)),
        ("overview: failures", failures_statement(kind, 10)),
        ("overview: workers", workers_statement(kind, stretch.from)),
    ]
}
