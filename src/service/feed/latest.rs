//! The newest entry of each of many tasks, as often as a feed asks.
//!
//! A task that has news is not listened to until the news is taken: however much it says meanwhile, a feed is woken once, and what
//! is newest then is in the ring of its topic.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::{AbortHandle, Abortable, Aborted, BoxFuture};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use crate::domain::{Event, TaskId};
use crate::live::{Delivery, Signal, Subscription};
use crate::service::{Result, Tracker};

/// Tasks whose progress one feed follows at most.
pub(super) const FOLLOWED_MOST: u32 = 10_000;

/// The tasks that a feed follows.
#[derive(Debug)]
pub(super) struct Latest {
    tracker: Tracker,
    followed: HashMap<TaskId, Followed>,
    listening: FuturesUnordered<Abortable<BoxFuture<'static, Topic>>>,
    /// Those that have news.
    woken: Vec<Topic>,
}

#[derive(Debug)]
struct Followed {
    /// The number of the newest entry that was told.
    told: u64,
    listening: AbortHandle,
}

/// A task, and what came of it since its news were taken last.
#[derive(Debug)]
struct Topic {
    task: TaskId,
    subscription: Subscription,
    newest: Option<Arc<Delivery>>,
    /// Whether the log must be asked, for something may have passed unheard.
    asks: bool,
}

impl Topic {
    fn hear(&mut self, signal: Signal) {
        match signal {
            Signal::Event(delivery) if matches!(delivery.event, Event::Progress(_)) => {
                self.newest = Some(delivery);
            }
            Signal::Event(_) | Signal::Moves(_) => {}
            Signal::Resync => self.asks = true,
        }
    }

    async fn news(mut self) -> Self {
        while self.newest.is_none() && !self.asks {
            let signal = self.subscription.next().await;
            self.hear(signal);
        }
        self
    }
}

impl Latest {
    pub(super) fn new(tracker: Tracker) -> Self {
        Self {
            tracker,
            followed: HashMap::new(),
            listening: FuturesUnordered::new(),
            woken: Vec::new(),
        }
    }

    /// Follows a task, if there is room: tells its newest entry, and then what comes.
    pub(super) fn follow(&mut self, task: &TaskId) {
        if self.followed.contains_key(task) || self.followed.len() >= FOLLOWED_MOST as usize {
            return;
        }
        let mut subscription = self.tracker.hub.join(task);
        let topic = task.clone();
        let confirmed = async move {
            subscription.confirmed().await;
            Topic { task: topic, subscription, newest: None, asks: true }
        };
        self.listen(task.clone(), confirmed.boxed());
    }

    /// Follows a task no more.
    pub(super) fn leave(&mut self, task: &TaskId) {
        if let Some(followed) = self.followed.remove(task) {
            followed.listening.abort();
        }
    }

    fn listen(&mut self, task: TaskId, until_news: BoxFuture<'static, Topic>) {
        let (listening, registration) = AbortHandle::new_pair();
        self.listening.push(Abortable::new(until_news, registration));
        let followed = self.followed.entry(task);
        followed
            .and_modify(|followed| followed.listening = listening.clone())
            .or_insert(Followed { told: 0, listening });
    }

    /// Waits until a task has news; for ever where none is followed.
    pub(super) async fn wake(&mut self) {
        loop {
            match self.listening.next().await {
                Some(Ok(topic)) => return self.woken.push(topic),
                Some(Err(Aborted)) => {}
                None => std::future::pending().await,
            }
        }
    }

    pub(super) fn has_news(&self) -> bool {
        !self.woken.is_empty()
    }

    /// The newest entry of each task that has news. Dropping the future, or failing, loses nothing.
    pub(super) async fn take(&mut self) -> Result<Vec<(TaskId, Arc<Delivery>)>> {
        let followed = &self.followed;
        self.woken.retain(|topic| followed.contains_key(&topic.task));
        for topic in &mut self.woken {
            while let Some(signal) = topic.subscription.try_next() {
                topic.hear(signal);
            }
        }
        let asking = || self.woken.iter().filter(|topic| topic.asks);
        let ids: Vec<TaskId> = asking().map(|topic| topic.task.clone()).collect();
        // Asked for none, it would be asked all the same.
        let newest =
            if ids.is_empty() { Vec::new() } else { self.tracker.live.latest(&ids).await? };
        let asked = ids.into_iter().zip(newest);
        let mut asked: HashMap<TaskId, _> =
            asked.filter_map(|(task, newest)| Some((task, newest?))).collect();
        let mut taken = Vec::new();
        for topic in std::mem::take(&mut self.woken) {
            let Topic { task, subscription, newest, .. } = topic;
            let asked = asked.remove(&task).map(Event::Progress).map(Delivery::new);
            let newest = [newest, asked].into_iter().flatten().max_by_key(|news| number(news));
            if let (Some(newest), Some(followed)) = (newest, self.followed.get_mut(&task))
                && number(&newest) > followed.told
            {
                followed.told = number(&newest);
                taken.push((task.clone(), newest));
            }
            let rest = Topic { task: task.clone(), subscription, newest: None, asks: false };
            self.listen(task, rest.news().boxed());
        }
        Ok(taken)
    }
}

fn number(delivery: &Delivery) -> u64 {
    match &delivery.event {
        Event::Progress(entry) => entry.seq_id,
        Event::Status(_) | Event::Notice(_) | Event::Gap(_) => 0,
    }
}
