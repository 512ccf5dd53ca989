//! The events of many tasks in one stream: what stands, what changes, and the newest entry of each now and then.

use std::time::Duration;

use super::resume::{Resuming, Step};
use super::{Client, Error, Told};
use serde::Deserialize;

/// How often at most one task is told of.
const EVERY: &str = "250ms";

/// What there is to say.
#[derive(Debug)]
pub enum News {
    /// From here on nothing is missed; what was before must be listed, now.
    Began,
    /// An event of a task.
    Told(Told),
    /// The connection is gone and will be made anew; it says why, if it knows.
    Away(Option<Error>),
    /// It is there again, and nothing was missed.
    Back,
}

/// Follows all tasks of some types, or of all.
#[derive(Debug)]
pub struct Feed {
    events: Resuming,
}

#[derive(Deserialize)]
struct Opened {
    resumed: bool,
}

impl Feed {
    /// It gives up if nobody answers within `patience`; once somebody has, it never does.
    pub fn new(client: Client, task_types: &[String], patience: Duration) -> Self {
        let mut query = vec![("every", EVERY.to_owned())];
        query.extend(task_types.iter().map(|name| ("taskType", name.clone())));
        Self { events: Resuming::new(client, "/events".to_owned(), query, patience) }
    }

    /// The next that is to be said; there is always more.
    pub async fn next(&mut self) -> Result<News, Error> {
        loop {
            let told = match self.events.next().await? {
                Step::Told(told) => told,
                Step::Rests(error) => return Ok(News::Away(error)),
                // A feed has no end: whatever says so is not asked again at once.
                Step::Over => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    return Ok(News::Away(None));
                }
            };
            match &*told.event.event {
                "open" => {
                    let is_resumed = told.event.read().is_some_and(|Opened { resumed }| resumed);
                    return Ok(if is_resumed { News::Back } else { News::Began });
                }
                // Too much has changed to be told.
                "resync" => return Ok(News::Began),
                _ if told.event.task_id.is_none() => {}
                _ => return Ok(News::Told(told)),
            }
        }
    }
}
