//! Claiming: the oldest pending tasks, for one worker or for many at once.
//!
//! ```text
//!   look at the oldest of each type, as many as are asked for ─► give each claim the oldest of its types ─► take them
//!          ▲                                                                                                  │
//!          └───────────────────── once more, where another node was faster: take what is free ◄───────────────┘
//! ```
//!
//! Nothing is locked but what is taken. The claims of a node come here one batch after the other, so that they are in
//! nobody's way but other nodes': a claim whose task another node was just taking takes the oldest of that type that nobody
//! takes, and where there is none, of its other types.

use std::collections::{HashMap, HashSet, VecDeque};

use super::row::{TaskRow, columns};
use super::{Error, Storage, dialect};
use crate::database::{Held, Kind, Statement, Table, Type, Value};
use crate::domain::{Lease, LeaseToken, Status, Task, TaskType, Timestamp, WorkerId};

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

/// Which task goes to whom, or else the how manieth that is free of which type.
const GIVEN: &[(&str, Type)] = &[
    ("task", Type::Text),
    ("of_type", Type::Text),
    ("place", Type::Integer),
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

/// A claim that has no task yet.
#[derive(Debug)]
pub(super) struct Open<'a> {
    claim: &'a Claim,
    /// Those of which there may be one yet.
    types: Vec<&'a TaskType>,
}

impl<'a> Open<'a> {
    pub(super) fn but_for(gone: &HashSet<&TaskType>, claim: &'a Claim) -> Self {
        let mut types: Vec<&TaskType> =
            claim.types.iter().filter(|name| !gone.contains(name)).collect();
        types.sort_unstable();
        types.dedup();
        Self { claim, types }
    }
}

/// What a claim is to take.
#[derive(Debug)]
pub(super) struct Given<'a> {
    claim: &'a Claim,
    task_type: &'a TaskType,
    /// If nobody else takes it.
    task: String,
}

impl<'a> Given<'a> {
    pub(super) fn new(claim: &'a Claim, task_type: &'a TaskType, task: String) -> Self {
        Self { claim, task_type, task }
    }
}

/// What tasks are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taking {
    /// Those that were given.
    TheGiven,
    /// As many of their types, whichever are free.
    TheFree,
}

impl Taking {
    /// Where somebody else was faster. On SQLite that was another word on the task, which is over: nobody holds any, so what another look
    /// finds is free.
    pub(super) fn again(kind: Kind) -> Self {
        match kind {
            Kind::Postgres => Self::TheFree,
            Kind::Sqlite => Self::TheGiven,
        }
    }
}

/// What has come of claims so far.
#[derive(Debug)]
struct Taken<'a> {
    tasks: HashMap<LeaseToken, Task>,
    taking: Taking,
    /// Types of which nothing is free.
    gone: HashSet<&'a TaskType>,
}

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

    /// Gives each of `claims`, in their order, the oldest pending task of its types that is left. For each: the task, or
    /// `None` where there is none.
    pub async fn claim_each(&self, claims: &[Claim]) -> Result<Vec<Option<Task>>, Error> {
        let (tasks, gone) = (HashMap::new(), HashSet::new());
        let mut taken = Taken { tasks, taking: Taking::TheGiven, gone };
        let mut held = self.database.hold().await?;
        loop {
            match look_and_take(&mut held, claims, &mut taken).await {
                Ok(true) => {}
                Ok(false) => break,
                // What was taken before is taken: its workers hear of it.
                Err(error) if !taken.tasks.is_empty() => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "some claims get nothing"
                    );
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(claims.iter().map(|claim| taken.tasks.remove(&claim.lease.token)).collect())
    }
}

/// Says whether another look may find more: somebody else was faster.
async fn look_and_take<'a>(
    held: &mut Held<'_>,
    claims: &'a [Claim],
    taken: &mut Taken<'a>,
) -> Result<bool, Error> {
    let kind = held.kind();
    let open = claims.iter().filter(|claim| !taken.tasks.contains_key(&claim.lease.token));
    let open: Vec<Open<'_>> = open.map(|claim| Open::but_for(&taken.gone, claim)).collect();
    let mut offered: Vec<OfferRow> = Vec::new();
    for statement in offers_statements(kind, &open) {
        offered.extend(statement.fetch_all::<OfferRow>(held.reader()).await?);
    }
    let given = give(&open, by_type(offered));
    if given.is_empty() {
        return Ok(false);
    }
    let take = take_statement(kind, taken.taking, &given);
    for row in take.fetch_all::<TaskRow>(held.writer()).await? {
        let task = Task::try_from(row)?;
        if let Some(lease) = &task.lease {
            taken.tasks.insert(lease.token.clone(), task);
        }
    }
    let missed: Vec<&TaskType> = given
        .iter()
        .filter(|given| !taken.tasks.contains_key(&given.claim.lease.token))
        .map(|given| given.task_type)
        .collect();
    let others_were_faster = !missed.is_empty();
    if taken.taking == Taking::TheFree {
        taken.gone.extend(missed);
    }
    taken.taking = Taking::again(kind);
    Ok(others_were_faster)
}

/// What looks for tasks that may be taken.
pub(super) fn offers_statements(kind: Kind, open: &[Open<'_>]) -> Vec<Statement> {
    let mut wanted: HashMap<&TaskType, u64> = HashMap::new();
    for name in open.iter().flat_map(|open| &open.types) {
        *wanted.entry(name).or_default() += 1;
    }
    if kind == Kind::Sqlite {
        let wanted: Vec<(&TaskType, u64)> = wanted.into_iter().collect();
        return wanted.chunks(TYPES_AT_ONCE).map(offers_of_types).collect();
    }
    let mut table = Table::new(WANTED);
    for (task_type, many) in wanted {
        table.push([task_type.into(), many.into()]);
    }
    let source = Table::source(WANTED, kind, 0, "wanted");
    vec![Statement::new(dialect::oldest_pending_of_each(&source)).bind(table)]
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

/// Gives each of the `open` claims, in their order, the oldest of its types that is left.
fn give<'a>(open: &[Open<'a>], mut offers: Offers) -> Vec<Given<'a>> {
    let mut given = Vec::new();
    for Open { claim, types } in open {
        let head = |name: &TaskType| {
            let oldest = offers.get(name.as_str())?.front()?;
            Some((oldest.created_at, oldest.id.clone()))
        };
        let oldest = types.iter().filter_map(|name| Some((head(name)?, *name))).min();
        let Some(((_, id), name)) = oldest else { continue };
        offers.get_mut(name.as_str()).and_then(VecDeque::pop_front);
        given.push(Given::new(claim, name, id));
    }
    given
}

/// What takes tasks, as far as they are still free.
pub(super) fn take_statement(kind: Kind, taking: Taking, given: &[Given<'_>]) -> Statement {
    let mut taken_of: HashMap<&TaskType, u64> = HashMap::new();
    let mut table = Table::new(GIVEN);
    for Given { claim, task_type, task } in given {
        let Claim { worker, lease, at, .. } = claim;
        let place = taken_of.entry(task_type).or_default();
        *place += 1;
        table.push([
            task.clone().into(),
            (*task_type).into(),
            (*place).into(),
            worker.into(),
            (&lease.token).into(),
            lease.length.map(|length| length.as_secs()).into(),
            lease.expires_at.into(),
            Value::from(*at),
        ]);
    }
    let source = Table::source(GIVEN, kind, 1, "given");
    let (before, behind) = match taking {
        Taking::TheGiven => dialect::if_still_pending(kind, &source),
        Taking::TheFree => dialect::oldest_free(&source),
    };
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
