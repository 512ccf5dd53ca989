//! What runs and what comes, of some types or of all, by one stream of events.
//!
//! Whenever the stream says that it begins, what runs is listed; what was running and is not listed is asked for by name.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::super::end::{End, Ended, Failure};
use super::super::view::View;
use super::screen::{Screen, Summary};
use super::{FRAME, Signals};
use crate::client::feed::{Feed, News};
use crate::client::wire::{Item, Page, Why};
use crate::client::{Call, Client, Event, Patience, Told};
use crate::clock::Clock;
use crate::domain::{Status, TaskId, Timestamp};

/// Tasks that are listed at a beginning at most.
const MOST_LISTED: usize = 10_000;
/// How often it is asked whether anything waits.
const IDLE_CHECK: Duration = Duration::from_secs(1);

pub(super) struct Flow {
    client: Client,
    types: Vec<String>,
    until_idle: bool,
    feed: Option<Feed>,
    running: HashMap<TaskId, Running>,
    /// Where tasks stood last that are not shown, so that what is told twice is shown once.
    ended: BTreeMap<&'static str, u64>,
    newest: HashMap<TaskId, Timestamp>,
    end: End,
    clock: Clock,
}

struct Running {
    view: View,
    updated_at: Timestamp,
    since: Timestamp,
}

impl Flow {
    pub(super) fn new(
        client: Client,
        types: Vec<String>,
        patience: Duration,
        until_idle: bool,
    ) -> Self {
        let feed = Some(Feed::new(client.clone(), &types, patience));
        let (running, ended, newest) = (HashMap::new(), BTreeMap::new(), HashMap::new());
        let (end, clock) = (End::Done, Clock::system());
        Self { client, types, until_idle, feed, running, ended, newest, end, clock }
    }

    pub(super) async fn run(mut self, screen: &mut Screen, signals: &mut Signals) -> Ended {
        let (sender, mut news) = tokio::sync::mpsc::channel(1024);
        let mut feeds = tokio::task::JoinSet::new();
        if let Some(mut feed) = self.feed.take() {
            feeds.spawn(async move {
                loop {
                    let told = feed.next().await;
                    let is_last = told.is_err();
                    if sender.send(told).await.is_err() || is_last {
                        return;
                    }
                }
            });
        }
        let mut frames = tokio::time::interval(FRAME);
        let mut asked_at: Option<Instant> = None;
        let mut has_begun = false;
        loop {
            tokio::select! {
                biased;
                signal = signals.next() => return Ok(signal),
                told = news.recv() => match told {
                    Some(Ok(News::Began)) => {
                        tokio::select! {
                            biased;
                            signal = signals.next() => return Ok(signal),
                            listed = self.list(screen) => listed?,
                        }
                        has_begun = true;
                    }
                    Some(Ok(News::Told(told))) => self.take(&told, screen)?,
                    Some(Ok(News::Away(error))) => screen.away(error.as_ref()),
                    Some(Ok(News::Back)) => {}
                    Some(Err(error)) => return Err(error.into()),
                    None => return Ok(self.end),
                },
                _ = frames.tick() => {
                    self.draw(screen);
                    let is_due = asked_at.is_none_or(|at| at.elapsed() >= IDLE_CHECK);
                    if self.until_idle && has_begun && is_due && self.running.is_empty() {
                        asked_at = Some(Instant::now());
                        if self.is_idle().await {
                            return Ok(self.end);
                        }
                    }
                }
            }
        }
    }

    fn draw(&self, screen: &mut Screen) {
        if !screen.is_drawn() {
            return;
        }
        let mut tasks: Vec<_> = self.running.iter().collect();
        tasks.sort_by_key(|(id, task)| (task.since, (*id).clone()));
        let mut parts = vec![format!("{} running", tasks.len())];
        parts.extend(self.ended.iter().map(|(status, count)| format!("{count} {status}")));
        let summary = Summary { text: parts.join(" · ") };
        screen.draw(
            tasks.into_iter().map(|(id, task)| (id, &task.view)),
            &summary,
            self.clock.now(),
        );
    }

    fn take(&mut self, told: &Told, screen: &mut Screen) -> Result<(), Failure> {
        let Some(id) = told.event.task_id.clone() else { return Ok(()) };
        if told.event.event == "task" {
            if let Some(item) = told.event.read::<Item>() {
                self.stand(&item, told, screen)?;
            }
            return Ok(());
        }
        let now = self.clock.now();
        if let Some(task) = self.running.get_mut(&id) {
            task.view.take(&told.event, now);
            screen.told(&id, told, &task.view)?;
        } else {
            // Its beginning is told, too; until then it is shown and not drawn.
            screen.told(&id, told, &View::default())?;
        }
        Ok(())
    }

    /// A task stands as `item` says.
    fn stand(&mut self, item: &Item, told: &Told, screen: &mut Screen) -> Result<(), Failure> {
        let id = item.id.clone();
        let before = self.running.get(&id);
        let known = before.map(|task| task.updated_at).or(self.newest.get(&id).copied());
        if known.is_some_and(|known| item.updated_at < known) {
            return Ok(());
        }
        let was = before.and_then(|task| task.view.status);
        let has_ended = item.known_status().is_some_and(Status::is_terminal);
        // An end that was told before and is told again after a reconnect.
        if has_ended && before.is_none() && known.is_some() {
            return Ok(());
        }
        let mut task = self.running.remove(&id).unwrap_or_else(|| Running {
            view: View::default(),
            updated_at: item.updated_at,
            since: item.started_at.unwrap_or(item.created_at),
        });
        task.view.stand(item, self.clock.now());
        task.updated_at = item.updated_at;
        let is_new = was != task.view.status && (was.is_some() || known != Some(item.updated_at));
        screen.stands(&id, told, &task.view, is_new)?;
        match item.known_status() {
            Some(Status::InProgress) => {
                self.newest.remove(&id);
                self.running.insert(id, task);
            }
            Some(status) if status.is_terminal() => {
                *self.ended.entry(status.as_str()).or_default() += 1;
                self.end = self.end.and(status.into());
                self.note(id, item.updated_at);
            }
            _ => self.note(id, item.updated_at),
        }
        Ok(())
    }

    /// Remembers for a while when a task that is not shown was told of.
    fn note(&mut self, id: TaskId, at: Timestamp) {
        if self.newest.len() >= MOST_LISTED {
            // What comes twice comes soon after a reconnect: those of long ago are not needed.
            self.newest.clear();
        }
        self.newest.insert(id, at);
    }

    /// Lists what runs, and looks what has become of what ran.
    async fn list(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        let mut gone: HashSet<TaskId> = self.running.keys().cloned().collect();
        for task_type in self.each_type() {
            let mut cursor = None;
            let mut listed = 0;
            loop {
                let call = Call::get("/tasks").query("status", Some("in_progress"));
                let call = call.query("taskType", task_type.clone()).query("cursor", cursor);
                let call = call.query("limit", Some(100));
                let page: Page = self.client.ask(&call, Patience::Endless).await?;
                listed += page.items.len();
                for raw in &page.items {
                    let item: Item = self.client.read(raw.get())?;
                    gone.remove(&item.id);
                    let told = standing(&item, raw.get())?;
                    self.stand(&item, &told, screen)?;
                }
                cursor = page.next_cursor;
                if cursor.is_none() || listed >= MOST_LISTED {
                    break;
                }
            }
        }
        for id in gone {
            let call = Call::get(format!("/tasks/{id}/why"));
            let why: Why = self.client.ask(&call, Patience::Endless).await?;
            if why.status == Status::InProgress {
                continue;
            }
            if let Some(mut task) = self.running.remove(&id) {
                task.view.explained(&why);
                let line = format!(
                    r#"{{"event":"status_change","data":{{"status":"{}"}},"taskId":"{id}","timestamp":"{}"}}"#,
                    why.status, why.server_time
                );
                let event: Event = self.client.read(&line)?;
                screen.told(&id, &Told { line, event }, &task.view)?;
                if why.status.is_terminal() {
                    *self.ended.entry(why.status.as_str()).or_default() += 1;
                    self.end = self.end.and(why.status.into());
                }
                self.note(id, task.updated_at);
            }
        }
        Ok(())
    }

    /// Whether nothing waits and nothing runs.
    async fn is_idle(&self) -> bool {
        for task_type in self.each_type() {
            for status in ["in_progress", "pending"] {
                let call = Call::get("/tasks").query("status", Some(status));
                let call = call.query("taskType", task_type.clone()).query("limit", Some(1));
                match self.client.ask::<Page>(&call, Patience::For(Duration::ZERO)).await {
                    Ok(page) if page.items.is_empty() => {}
                    // Also while nobody answers: it is asked again.
                    _ => return false,
                }
            }
        }
        true
    }

    /// One after the other for a list, which takes one; `None` is all.
    fn each_type(&self) -> Vec<Option<String>> {
        if self.types.is_empty() {
            return vec![None];
        }
        self.types.iter().cloned().map(Some).collect()
    }
}

/// A listed task as the event that would have told of it.
fn standing(item: &Item, raw: &str) -> Result<Told, Failure> {
    let (id, at) = (&item.id, item.updated_at);
    let line = format!(r#"{{"event":"task","data":{raw},"taskId":"{id}","timestamp":"{at}"}}"#);
    let event = serde_json::from_str(&line).map_err(|error| Failure::Other(error.to_string()))?;
    Ok(Told { line, event })
}
