//! How the databases would run the statements whose cost must not grow with the table.

use std::collections::HashSet;
use std::time::Duration;

use super::change::note_statement;
use super::claim::{Given, Open, Taking, offers_statements, take_statement};
use super::moves::{moved_statement, running_statement};
use super::overview::{
    Stretch, active_statement, count_ended_statement, ended_statement, failures_statement,
    registered_statement, workers_statement,
};
use super::sealing::hold_running_statement;
use super::tasks::ended_among_statement;
use super::walk::Walk;
use super::workers::held_statement;
use super::{By, Claim, Cursor, Due, Error, Filter, Order, Selection, Storage, unreadable};
use crate::database::{Kind, Statement};
use crate::domain::{Lease, Status, TaskId, TaskType, Timestamp, WorkerId};

impl Storage {
    /// How the database would run the statements whose cost must not grow with the table: a name and
    /// the plan's text for each.
    pub async fn plans(&self, now: Timestamp) -> Result<Vec<(String, String)>, Error> {
        let kind = self.database.kind();
        let a_type: TaskType = "type-1".parse().map_err(|_| unreadable("a name"))?;
        let a_worker: WorkerId = "worker-1".parse().map_err(|_| unreadable("a name"))?;
        let claim = |types: &[TaskType]| Claim {
            types: types.to_vec(),
            worker: a_worker.clone(),
            lease: Lease::new(None, now),
            at: now,
        };
        let of_one = claim(std::slice::from_ref(&a_type));
        let of_two = claim(&[a_type.clone(), a_type.clone()]);
        let offers =
            |claim| offers_statements(kind, &[Open::but_for(&HashSet::new(), claim)]).remove(0);
        let given = [Given::new(&of_one, &a_type, "task-1".into())];
        let take = |taking| take_statement(kind, taking, &given);
        let an_end = |id: &TaskId| Selection::Free(std::slice::from_ref(id)).statement(kind);
        let sweep = |due: Due| Selection::Due { due, now, limit: 100 }.statement(kind);
        let statements = [
            ("claim of one type", offers(&of_one)),
            ("claim of two types", offers(&of_two)),
            ("claim of what is given", take(Taking::TheGiven)),
            ("claim of what is free", take(Taking::again(kind))),
            ("ends of many", an_end(&TaskId::new())),
            ("sealing of many", hold_running_statement(kind, [&TaskId::new()])),
            ("the ended among many", ended_among_statement(kind, &[TaskId::new()])),
            ("notes of ends", note_statement(kind, &[(&TaskId::new(), now)])),
            ("sweep", sweep(Due::Deadline)),
            ("sweep of leases", sweep(Due::Lease)),
            ("sweep of stalls", sweep(Due::StallCheck)),
            ("sweep of the cancelled", sweep(Due::Grace)),
            ("held by workers", held_statement(kind, std::slice::from_ref(&a_worker))),
            ("forgotten answers", self.forget_statement(now)),
            ("what has moved", moved_statement(kind, &[], now, 1000)),
            (
                "what of a type has moved",
                moved_statement(kind, std::slice::from_ref(&a_type), now, 1000),
            ),
            ("what runs", running_statement(kind, &[], 1000)),
        ];
        let lists = lists(kind, now, &a_type, &a_worker)?;
        let overview = overview_statements(kind, now);
        self.plans_of(statements.into_iter().chain(lists).chain(overview).collect()).await
    }

    async fn plans_of(
        &self,
        statements: Vec<(&str, Statement)>,
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
            Kind::Postgres => {
                let [prepare, explain, forget] = statement.explained_in_general();
                let mut transaction = self.database.begin().await?;
                prepare.execute(transaction.executor()).await?;
                let rows = explain.fetch_all::<PostgresPlan>(transaction.executor()).await?;
                forget.execute(transaction.executor()).await?;
                transaction.roll_back().await?;
                rows.into_iter().map(|row| row.line).collect()
            }
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

/// Lists, in the middle of each: along every index, and past what none carries.
fn lists(
    kind: Kind,
    now: Timestamp,
    task_type: &TaskType,
    worker: &WorkerId,
) -> Result<Vec<(&'static str, Statement)>, Error> {
    let all = Filter::default;
    let by_type = Filter { task_type: Some(task_type.clone()), ..all() };
    let by_status = Filter { statuses: vec![Status::Failed], ..all() };
    let by_statuses = Filter { statuses: vec![Status::Failed, Status::Timeout], ..all() };
    let by_worker = Filter { worker_id: Some(worker.clone()), ..all() };
    let of_a_chain = Filter { original_task_id: Some(TaskId::new()), ..all() };
    // Before whatever there is.
    let begin = now.minus(Duration::from_hours(90_000));
    let in_time = Filter { created_after: Some(begin), ..by_type.clone() };
    let search = "a text".parse().map_err(|_| unreadable("a text"))?;
    let searched = Filter { search: Some(search), ..all() };
    let of_both = Filter { worker_id: Some(worker.clone()), ..by_statuses.clone() };
    let ended = |is_ascending, filter: &Filter| Filter {
        order: Order { by: By::CompletedAt, is_ascending },
        ..filter.clone()
    };
    let oldest_first = Order { is_ascending: true, ..Order::default() };
    let filters = [
        ("list", all()),
        ("list by type", by_type.clone()),
        ("list by status", by_status.clone()),
        ("list by statuses", by_statuses),
        ("list by worker", by_worker.clone()),
        ("list of a chain", of_a_chain),
        ("list, the oldest first", Filter { order: oldest_first, ..all() }),
        ("list by type and time", in_time),
        ("list of the ended", ended(false, &all())),
        ("list of the ended, the oldest first", ended(true, &all())),
        ("list by worker, of statuses", of_both),
        ("list, searched", searched.clone()),
        ("list by type, searched", Filter { search: searched.search, ..by_type.clone() }),
        ("list of the ended, by type", ended(false, &by_type)),
        ("list of the ended, by status", ended(false, &by_status)),
        ("list of the ended, by worker", ended(false, &by_worker)),
    ];
    let mut lists = Vec::new();
    for (name, filter) in filters {
        let cursor = Cursor { order: filter.order, at: now, id: TaskId::new() };
        let walk = Walk::new(kind, &Filter { cursor: Some(cursor.clone()), ..filter.clone() });
        if walk.is_carried() {
            lists.push((name, walk.tasks(false, None, 50)));
            continue;
        }
        lists.push((name, walk.tasks(true, Some(&Cursor { at: begin, ..cursor }), 50)));
        lists.push((name, walk.passed(250)));
    }
    Ok(lists)
}
