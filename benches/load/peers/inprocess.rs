//! Our own service without HTTP, for products that have none: the same methods the handlers call, in
//! a process of its own, on the threads a server would have. The last line it writes is its sample.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::value::RawValue;
use task_tracker::app::App;
use task_tracker::clock::Clock;
use task_tracker::config::{Config, Mode};
use task_tracker::domain::{Caller, Event, JsonObject, TaskId, TaskType, Terms, WorkerId};
use task_tracker::service::{Registration, StartAt, Tracker};
use tokio::task::JoinSet;

use crate::clock;
use crate::drive::{Behind, Meter, Step, Turn, Window, drive_turns};
use crate::seed;

const METADATA: &str = r#"{"tenant":"acme","source":"load"}"#;
const PARAMS: &str = r#"{"rows":1000,"from":"s3://bucket/in.csv","to":"s3://bucket/out.csv"}"#;
const ENTRY: &str = r#"{"at":42,"percent":42,"message":"rows 41000 to 42000 of 100000"}"#;
const RESULT: &str = r#"{"rows":1000}"#;

const BULK: usize = 1_000;
const TASKS: usize = 100;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Work {
    Register,
    Bulk,
    Process,
    Progress,
    Lifecycle,
}

/// What the driver asks of this process.
#[derive(Debug, clap::Args)]
pub(crate) struct Order {
    #[arg(value_enum)]
    pub(crate) work: Work,
    #[arg(long = "on-database")]
    pub(crate) database: String,
    #[arg(long = "on-redis")]
    pub(crate) redis: String,
    #[arg(long)]
    pub(crate) namespace: String,
    #[arg(long = "for-seconds")]
    pub(crate) seconds: f64,
    #[arg(long = "after-warmup")]
    pub(crate) warmup: f64,
    #[arg(long = "of-backlog")]
    pub(crate) backlog: usize,
    #[arg(long = "count-postgres")]
    pub(crate) postgres: Option<u32>,
    #[arg(long = "count-redis")]
    pub(crate) redis_server: Option<u32>,
}

/// One of many that call the service at once.
struct Hand {
    tracker: Tracker,
    work: Work,
    worker: WorkerId,
    types: Vec<TaskType>,
    /// Of the appends.
    tasks: Arc<Vec<TaskId>>,
    next: usize,
    /// What was registered, processed or lived through.
    done: Vec<TaskId>,
    appended: Arc<Vec<AtomicU64>>,
}

impl Turn for Hand {
    async fn turn(&mut self) -> Result<Step> {
        match self.work {
            Work::Register => {
                self.register().await?;
                Ok(Step::Did(1))
            }
            Work::Bulk => {
                let registrations = (0..BULK).map(|_| self.registration());
                let registrations = registrations.collect::<Result<Vec<_>>>()?;
                let said = self.tracker.register_many(registrations, None).await?;
                let tasks = said.now().context("nothing was registered")?;
                ensure!(tasks.len() == BULK, "{} outcomes of {BULK}", tasks.len());
                for task in tasks {
                    self.done.push(task.context("an id is taken")?.id);
                }
                Ok(Step::Did(BULK as u64))
            }
            Work::Process => {
                let Some(task) = self.claim().await? else { return Ok(Step::Exhausted) };
                self.complete(task).await?;
                Ok(Step::Did(1))
            }
            Work::Progress => {
                let at = self.next % self.tasks.len();
                self.next += 1;
                let task = self.tasks[at].clone();
                self.append(&task).await?;
                self.appended[at].fetch_add(1, Ordering::Relaxed);
                Ok(Step::Did(1))
            }
            Work::Lifecycle => {
                self.register().await?;
                let task = self.claim().await?.context("nothing to claim, and one is pending")?;
                for expected in 1..=10 {
                    let number = self.append(&task).await?;
                    ensure!(number == expected, "entry {expected} of {task} became {number}");
                }
                self.complete(task).await?;
                Ok(Step::Did(1))
            }
        }
    }
}

impl Hand {
    fn registration(&self) -> Result<Registration> {
        Ok(Registration {
            id: None,
            task_type: self.types[0].clone(),
            metadata: Some(json(METADATA)?),
            params: Some(json(PARAMS)?),
            terms: Terms::DEFAULT,
        })
    }

    async fn register(&mut self) -> Result<()> {
        let said = self.tracker.register(self.registration()?, None).await?;
        let task = said.now().context("nothing was registered")?;
        if self.work == Work::Register {
            self.done.push(task.id);
        }
        Ok(())
    }

    async fn claim(&self) -> Result<Option<TaskId>> {
        let claimed = self.tracker.claim(&self.types, &self.worker, None, Duration::ZERO).await?;
        Ok(claimed.map(|tracked| tracked.task.id))
    }

    async fn append(&self, task: &TaskId) -> Result<u64> {
        let (entries, caller) = ([json(ENTRY)?], Caller::from(self.worker.clone()));
        Ok(self.tracker.progress(task, &entries, &caller, None).await?.last_seq_id)
    }

    async fn complete(&mut self, task: TaskId) -> Result<()> {
        let caller = Caller::from(self.worker.clone());
        let said = self.tracker.complete(task, caller, Some(json(RESULT)?), None).await?;
        self.done.push(said.now().context("nothing was completed")?.id);
        Ok(())
    }
}

fn json(text: &str) -> Result<JsonObject> {
    Ok(JsonObject::from_raw(serde_json::from_str::<&RawValue>(text)?)?)
}

/// Does the work and writes the sample.
pub(crate) fn serve(order: &Order) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(work(order))
}

async fn work(order: &Order) -> Result<()> {
    let config = Config {
        namespace: order.namespace.clone(),
        ..Config::local(Mode::Node {
            database_url: order.database.clone(),
            redis_url: order.redis.clone(),
            database_connections: 20,
        })
    };
    let app = App::start(config, Clock::system()).await?;
    let tracker = app.tracker().clone();
    let meter = Meter {
        server: std::process::id(),
        stores: order
            .postgres
            .zip(order.redis_server)
            .map(|(postgres, redis)| Behind { postgres, redis }),
        profile: None,
    };
    let lead = Hand {
        tracker,
        work: order.work,
        worker: seed::WORKER.parse()?,
        types: vec![seed::TASK_TYPE.parse()?],
        tasks: Arc::default(),
        next: 0,
        done: Vec::new(),
        appended: Arc::default(),
    };
    let (tasks, readers) = prepare(&lead, order).await?;
    let appended = (0..tasks.len()).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    let (tasks, appended) = (Arc::new(tasks), Arc::new(appended));
    let lanes = match order.work {
        Work::Bulk => 8,
        Work::Register | Work::Progress => 32,
        Work::Process | Work::Lifecycle => 64,
    };
    let hands = (0..lanes).map(|index| Hand {
        tracker: lead.tracker.clone(),
        work: lead.work,
        worker: lead.worker.clone(),
        types: lead.types.clone(),
        tasks: Arc::clone(&tasks),
        next: index * TASKS / lanes,
        done: Vec::new(),
        appended: Arc::clone(&appended),
    });
    let begin = clock::now() + Duration::from_secs_f64(order.warmup);
    let window = Window { begin, end: begin + Duration::from_secs_f64(order.seconds) };
    let driven = drive_turns(window, &meter, hands.collect()).await?;

    let done: Vec<TaskId> = driven.workers.into_iter().flat_map(|hand| hand.done).collect();
    let distinct = done.iter().collect::<HashSet<_>>().len();
    ensure!(distinct == done.len(), "{} tasks came twice", done.len() - distinct);
    listened(lead, readers, &tasks, &appended).await?;
    println!("{}", serde_json::to_string(&driven.sample)?);
    app.shut_down().await;
    Ok(())
}

type Readers = JoinSet<Result<(TaskId, u64)>>;

/// The backlog to process, or the running tasks with a listener each.
async fn prepare(lead: &Hand, order: &Order) -> Result<(Vec<TaskId>, Readers)> {
    let (mut tasks, mut readers) = (Vec::new(), JoinSet::new());
    if order.work == Work::Process {
        for first in (0..order.backlog).step_by(BULK) {
            let registrations =
                (first..order.backlog.min(first + BULK)).map(|_| lead.registration());
            let registrations = registrations.collect::<Result<Vec<_>>>()?;
            lead.tracker.register_many(registrations, None).await?;
        }
    }
    if order.work == Work::Progress {
        for _ in 0..TASKS {
            lead.tracker.register(lead.registration()?, None).await?;
            let task = lead.claim().await?.context("nothing to claim")?;
            let track = lead.tracker.track(task.clone(), StartAt::After(0)).await?;
            readers.spawn(listen(task.clone(), track));
            tasks.push(task);
        }
    }
    Ok((tasks, readers))
}

/// A reader of one task: every number once and in order, and the end.
async fn listen(task: TaskId, mut track: task_tracker::service::Track) -> Result<(TaskId, u64)> {
    let mut last = 0;
    while let Some(events) = track.next().await? {
        for delivery in events {
            match &delivery.event {
                Event::Progress(entry) => {
                    ensure!(entry.seq_id == last + 1, "entry {} came after {last}", entry.seq_id);
                    last = entry.seq_id;
                }
                Event::Gap(_) => bail!("a gap in {task}"),
                _ => {}
            }
        }
    }
    Ok((task, last))
}

/// Ends the tasks that are listened to, and makes sure that their listeners got everything.
async fn listened(
    mut lead: Hand,
    mut readers: Readers,
    tasks: &[TaskId],
    appended: &[AtomicU64],
) -> Result<()> {
    for task in tasks {
        lead.complete(task.clone()).await?;
    }
    while let Some(reader) = readers.join_next().await {
        let (task, got) = reader.context("a reader panicked")??;
        let at = tasks.iter().position(|known| *known == task).context("an unknown task")?;
        let sent = appended[at].load(Ordering::Relaxed);
        ensure!(got == sent, "a reader of {task} got {got} of {sent} entries");
    }
    Ok(())
}
