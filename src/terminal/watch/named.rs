//! Tasks that were named, each by its own stream: every entry once and in order, until the last has ended.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::end::{End, Ended};
use super::super::view::View;
use super::screen::{Screen, Summary};
use super::{FRAME, Signals};
use crate::client::follow::{Begin, Follower, News};
use crate::client::{Client, Error};
use crate::clock::Clock;
use crate::domain::TaskId;

/// Entries that bars begin with: enough to say how fast it goes.
const LATEST: u64 = 20;
/// Events that wait to be shown: behind them streams are not read on.
const WAITING: usize = 1024;

struct Watched {
    id: TaskId,
    view: View,
    is_over: bool,
}

pub(super) async fn watch(
    client: &Client,
    ids: &[TaskId],
    last: Option<u64>,
    patience: Duration,
    screen: &mut Screen,
    signals: &mut Signals,
) -> Ended {
    let begin = match last {
        Some(count) => Begin::Last(count),
        None if screen.is_drawn() => Begin::Last(LATEST),
        None => Begin::First,
    };
    let mut seen = HashSet::new();
    let ids = ids.iter().filter(|id| seen.insert((*id).clone()));
    let mut tasks: Vec<Watched> =
        ids.map(|id| Watched { id: id.clone(), view: View::default(), is_over: false }).collect();
    let (sender, mut news) = mpsc::channel(WAITING);
    // They end with us, for the set ends them when it is dropped.
    let mut followers = JoinSet::new();
    for (index, task) in tasks.iter().enumerate() {
        let follower = Follower::new(client.clone(), task.id.clone(), begin, patience);
        followers.spawn(follow(index, follower, sender.clone()));
    }
    drop(sender);
    let clock = Clock::system();
    let mut frames = tokio::time::interval(FRAME);
    let mut end = End::Done;
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => return Ok(signal),
            told = news.recv() => {
                let Some((index, told)) = told else { break };
                let task = &mut tasks[index];
                match told? {
                    Some(News::Why(why)) => task.view.explained(&why),
                    Some(News::Told(told)) => {
                        task.view.take(&told.event, clock.now());
                        screen.told(&task.id, &told, &task.view)?;
                    }
                    Some(News::Away(error)) => screen.away(error.as_ref()),
                    None => {
                        task.is_over = true;
                        end = end.and(task.view.status.map_or(End::Failed, End::from));
                    }
                }
            }
            _ = frames.tick(), if screen.is_drawn() => {
                let rows = tasks.iter().filter(|task| !task.is_over);
                screen.draw(rows.map(|task| (&task.id, &task.view)), &Summary::default(), clock.now());
            }
        }
    }
    Ok(end)
}

/// Sends what there is to say of one task, and `None` behind its end.
async fn follow(
    index: usize,
    mut follower: Follower,
    sender: mpsc::Sender<(usize, Result<Option<News>, Error>)>,
) {
    loop {
        let news = follower.next().await;
        let is_last = !matches!(news, Ok(Some(_)));
        if sender.send((index, news)).await.is_err() || is_last {
            return;
        }
    }
}
