//! Follows the stream of one task to its end, at whichever node is there, as an `EventSource` does.

use std::sync::Arc;

use fastrand::Rng;

use super::ledger::Reading;
use super::{Stage, pause};
use crate::harness::{Event, Frames};

/// Reads until the end has come, and writes down what was seen.
pub async fn follow(stage: Arc<Stage>, task: String, mut chance: Rng) {
    let after = if chance.u8(..5) == 0 { 2 } else { 0 };
    let mut reader = Reader {
        reading: Reading { after, ..Reading::default() },
        last_event_id: None,
        // Some come late, some in the middle, most at once.
        hangs_up: chance.u8(..4) == 0,
        stage: Arc::clone(&stage),
        task,
    };
    if chance.u8(..3) == 0 {
        pause(&mut chance, 0..3000).await;
    }
    while reader.reading.ends.is_empty() && !stage.is_over() {
        let node = stage.any_node(&mut chance);
        if !reader.read(node, &mut chance).await {
            pause(&mut chance, 50..400).await;
        }
        stage.ledger.tally("connections of readers");
    }
    if !reader.reading.ends.is_empty() && chance.u8(..4) == 0 {
        reader.ask_again(&mut chance).await;
    }
    let Reader { reading, task, .. } = reader;
    stage.ledger.with(&task, |record| record.readings.push(reading));
}

struct Reader {
    stage: Arc<Stage>,
    task: String,
    reading: Reading,
    last_event_id: Option<String>,
    hangs_up: bool,
}

impl Reader {
    fn request(&self, node: usize) -> reqwest::RequestBuilder {
        let query = match self.reading.after {
            0 => String::new(),
            after => format!("?afterSeqId={after}"),
        };
        let request = self.stage.client.get(node, &format!("/tasks/{}/track{query}", self.task));
        match &self.last_event_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        }
    }

    /// Reads one connection to its end; `false` where there was none.
    async fn read(&mut self, node: usize, chance: &mut Rng) -> bool {
        let patience = self.stage.settings.patience();
        let sent = tokio::time::timeout(patience, self.request(node).send()).await;
        let Ok(sent) = sent else {
            self.violation("the stream does not begin");
            return false;
        };
        let Ok(mut response) = sent else { return false };
        match response.status().as_u16() {
            200 => {}
            503 => return false,
            status => {
                self.violation(&format!("the stream is answered with {status}"));
                return false;
            }
        }
        let mut frames = Frames::default();
        loop {
            match tokio::time::timeout(patience, response.chunk()).await {
                Err(_) => {
                    self.violation(&format!("the stream is silent for {patience:?}"));
                    return true;
                }
                Ok(Err(_) | Ok(None)) => return true,
                Ok(Ok(Some(chunk))) => frames.push(&chunk),
            }
            while let Some(event) = frames.pop() {
                self.take(event);
            }
            if !self.reading.ends.is_empty() || self.stage.is_over() {
                return true;
            }
            if self.hangs_up && chance.u8(..8) == 0 {
                return true;
            }
        }
    }

    fn take(&mut self, event: Event) {
        match &*event.event {
            "progress" => {
                let number = event.seq_id().unwrap_or_default();
                let entry = event.data["data"]["entry"].as_str().unwrap_or("(none)");
                self.reading.entries.push((number, entry.to_owned()));
                self.reading.ranges.push((number, number));
                self.last_event_id = event.id;
            }
            "status_change" if event.is_end() => {
                let status = event.status().unwrap_or("(none)").to_owned();
                let id = event.id.unwrap_or_default();
                self.last_event_id = Some(id.clone());
                self.reading.ends.push((id, status));
            }
            "gap" => {
                let number = |name: &str| event.data["data"][name].as_u64().unwrap_or_default();
                self.reading.ranges.push((number("from"), number("to")));
                self.last_event_id = event.id;
                self.stage.ledger.tally("gaps told");
            }
            _ => {}
        }
    }

    /// Whoever has seen the end is told to stop.
    async fn ask_again(&self, chance: &mut Rng) {
        while !self.stage.is_over() {
            let node = self.stage.any_node(chance);
            match self.request(node).timeout(self.stage.settings.patience()).send().await {
                Ok(response) if response.status() == 204 => return,
                Ok(response) if response.status() != 503 => {
                    let status = response.status();
                    return self.violation(&format!("after the end the stream is {status}"));
                }
                _ => pause(chance, 50..400).await,
            }
        }
    }

    fn violation(&self, what: &str) {
        self.stage.ledger.violation(format!("{}: {what}", self.task));
    }
}
