//! Claiming: the oldest pending tasks, for one worker or for many at once.
//!
//! ```text
//!   look at the oldest of each type, as many as are asked for ─► give each claim the oldest of its types ─► take them
//!          ▲                                                                                                  │
//!          └──────────────────── at others, where another node was faster ◄───────────────────────────────────┘
//! ```
//!
//! Nothing is locked but what is taken. The claims of a node come here one batch after the other, so that they are in
//! nobody's way but other nodes'.

use std::collections::{HashMap, VecDeque};

use super::row::{TaskRow, columns};
use super::{Error, Storage, dialect};
use crate::database::{Kind, Statement, Table, Transaction, Type, Value};
use crate::domain::{Lease, Status, Task, TaskType, Timestamp, WorkerId};

/// How often claims look before they believe that nothing is left: each look finds what the one before did not see, and
/// only where other nodes were faster is there another.
const LOOKS: usize = 10;

/// Types that one statement asks SQLite for: it takes no more than 500 such parts.
const TYPES_AT_ONCE: usize = 64;

/// A worker asks for a task.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Of one of these types.
    pub types: Vec<TaskType>,
    /// Who asks.
    pub worker: WorkerId,
    /// The hold it is to have.
    pub lease: Lease,
    /// When.
    pub at: Timestamp,
}

/// The types that claims ask for, and how many tasks of each they can take at most.
const WANTED: &[(&str, Type)] = &[("task_type", Type::Text), ("many", Type::Integer)];

/// Which task goes to whom.
const GIVEN: &[(&str, Type)] = &[
    ("task", Type::Text),
    ("worker", Type::Text),
    ("token", Type::Text),
    ("seconds", Type::Integer),
    ("expires", Type::Instant),
    ("begun", Type::Instant),
];

/// A task that may be taken.
#[derive(Debug, sqlx::FromRow)]
struct OfferRow {
    id: String,
    task_type: String,
    created_at: Timestamp,
}

/// Tasks that may be taken, the oldest of each type first.
type Offers = HashMap<String, VecDeque<OfferRow>>;

impl Storage {
    /// Gives the oldest pending task of `types` to `worker`, never twice.
    pub async fn claim(
        &self,
        types: &[TaskType],
        worker: &WorkerId,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<Option<Task>, Error> {
        let (types, worker, lease) = (types.to_vec(), worker.clone(), lease.clone());
        let claimed = self.claim_each(&[Claim { types, worker, lease, at: now }]).await?;
        Ok(claimed.into_iter().next().flatten())
    }

    /// Gives each of `claims`, in their order, the oldest pending task of its types that is left, all in one
    /// commit. For each: the task, or `None` where there is none.
    pub async fn claim_each(&self, claims: &[Claim]) -> Result<Vec<Option<Task>>, Error> {
        // On Postgres each of the two statements is committed by itself: between them nothing needs to hold.
        let mut held = self.database.hold().await?;
        let mut taken: Vec<Option<Task>> = claims.iter().map(|_| None).collect();
        let mut tried = Vec::new();
        for _ in 0..LOOKS {
            match self.look_and_take(&mut held, claims, &mut tried, &mut taken).await {
                Ok(true) => {}
                Ok(false) => break,
                // What was taken before is taken: its workers hear of it.
                Err(error)
                    if held.kind() == Kind::Postgres && taken.iter().any(Option::is_some) =>
                {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "some claims get nothing"
                    );
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        held.commit().await?;
        Ok(taken)
    }

    /// Says whether another look may find more: somebody else was faster.
    async fn look_and_take(
        &self,
        held: &mut Transaction,
        claims: &[Claim],
        tried: &mut Vec<String>,
        taken: &mut [Option<Task>],
    ) -> Result<bool, Error> {
        let kind = held.kind();
        let open: Vec<usize> = (0..claims.len()).filter(|at| taken[*at].is_none()).collect();
        let mut offered: Vec<OfferRow> = Vec::new();
        for statement in offers_statements(kind, open.iter().map(|at| &claims[*at]), tried) {
            offered.extend(statement.fetch_all::<OfferRow>(held.executor()).await?);
        }
        let given = give(&open, claims, by_type(offered));
        if given.is_empty() {
            return Ok(false);
        }
        let rows: Vec<TaskRow> =
            take_statement(kind, claims, &given).fetch_all(held.executor()).await?;
        let all_were_free = rows.len() == given.len();
        put(rows, &given, taken)?;
        tried.extend(given.into_iter().map(|(_, id)| id));
        Ok(!all_were_free)
    }
}

/// What looks for tasks that may be taken, but for those that were tried.
pub(super) fn offers_statements<'a>(
    kind: Kind,
    claims: impl Iterator<Item = &'a Claim>,
    tried: &[String],
) -> Vec<Statement> {
    let mut wanted: HashMap<&TaskType, u64> = HashMap::new();
    for claim in claims {
        let mut types: Vec<&TaskType> = claim.types.iter().collect();
        types.sort_unstable();
        types.dedup();
        for task_type in types {
            *wanted.entry(task_type).or_default() += 1;
        }
    }
    if kind == Kind::Sqlite {
        let wanted: Vec<(&TaskType, u64)> = wanted.into_iter().collect();
        return wanted.chunks(TYPES_AT_ONCE).map(offers_of_types).collect();
    }
    let mut table = Table::new(WANTED);
    for (task_type, many) in wanted {
        table.push([task_type.into(), many.into()]);
    }
    let source = Table::source(WANTED, kind, 1, "wanted");
    vec![Statement::new(dialect::oldest_pending_of_each(&source)).bind(tried.to_vec()).bind(table)]
}

/// On SQLite. There are as many texts as powers of two, so that each is prepared but once: what is left over asks for
/// nothing.
fn offers_of_types(wanted: &[(&TaskType, u64)]) -> Statement {
    let count = wanted.len().next_power_of_two();
    let mut statement = Statement::new(dialect::oldest_pending_of(count));
    for at in 0..count {
        let (name, many) = wanted.get(at).map_or((None, 0), |(name, many)| (Some(*name), *many));
        statement = statement.bind(name).bind(many);
    }
    statement
}

fn by_type(mut offered: Vec<OfferRow>) -> Offers {
    offered.sort_unstable_by(|one, other| {
        (one.created_at, &one.id).cmp(&(other.created_at, &other.id))
    });
    let mut offers = Offers::new();
    for offer in offered {
        offers.entry(offer.task_type.clone()).or_default().push_back(offer);
    }
    offers
}

/// Gives each of the `open` claims the oldest of its types that is left.
fn give(open: &[usize], claims: &[Claim], mut offers: Offers) -> Vec<(usize, String)> {
    let mut given = Vec::new();
    for at in open {
        let head = |name: &&TaskType| {
            let oldest = offers.get(name.as_str())?.front()?;
            Some((oldest.created_at, oldest.id.clone()))
        };
        let oldest = claims[*at].types.iter().filter_map(|name| Some((head(&name)?, name))).min();
        let Some(((_, id), name)) = oldest else { continue };
        offers.get_mut(name.as_str()).and_then(VecDeque::pop_front);
        given.push((*at, id));
    }
    given
}

/// What takes tasks that were given, if they are still free.
pub(super) fn take_statement(kind: Kind, claims: &[Claim], given: &[(usize, String)]) -> Statement {
    let mut table = Table::new(GIVEN);
    for (at, id) in given {
        let Claim { worker, lease, at, .. } = &claims[*at];
        table.push([
            id.clone().into(),
            worker.into(),
            (&lease.token).into(),
            lease.length.map(|length| length.as_secs()).into(),
            lease.expires_at.into(),
            Value::from(*at),
        ]);
    }
    let (before, behind) = dialect::if_still_pending(kind, &Table::source(GIVEN, kind, 1, "given"));
    let stall_check = dialect::after_seconds(kind, "given.begun", "stall_seconds");
    let columns = columns!();
    Statement::new(format!(
        "{before}UPDATE tracker_tasks
         SET status = $1, worker_id = given.worker, started_at = given.begun, updated_at = given.begun,
             attempt = attempt + 1, heard_at = given.begun, lease_token = given.token,
             lease_seconds = given.seconds, lease_expires_at = given.expires,
             stall_check_at = {stall_check}
         {behind} RETURNING {columns}"
    ))
    .bind(Status::InProgress)
    .bind(table)
}

/// Puts what was taken where its claims stand.
fn put(
    rows: Vec<TaskRow>,
    given: &[(usize, String)],
    taken: &mut [Option<Task>],
) -> Result<(), Error> {
    let places: HashMap<&str, usize> = given.iter().map(|(at, id)| (&**id, *at)).collect();
    for row in rows {
        let task = Task::try_from(row)?;
        if let Some(place) = places.get(task.id.as_str()) {
            taken[*place] = Some(task);
        }
    }
    Ok(())
}
