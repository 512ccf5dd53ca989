//! How what happens on a topic comes to its readers.
//!
//! A topic holds the newest signals only, in a ring that all its readers share: a reader costs a position. To wake a thousand
//! readers at once would put a thousand tasks before everything else that the node has to do, and before the next entry of
//! the same task: each entry would be a write of its own for each reader, however fast they come. So readers stand in groups. The
//! first is told at once; the others in turn, by a task that lets the node do what it has to in between. An entry that comes meanwhile
//! goes to those whose turn is still to come in one write with what is before it: the more comes, the less each entry costs.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender};

use super::Signal;

/// Readers that are woken together.
const GROUP: usize = 64;
/// Signals that a group waits for while others are served first. Where there are more nothing else is let in between: whoever
/// sends them waits, and not the readers.
const PATIENCE: usize = 16;

/// Where signals are given to all readers of a topic.
#[derive(Debug)]
pub(super) struct Voice {
    sender: Sender<Signal>,
    /// Signals that are held for readers.
    ring: usize,
    /// The readers that are not of the first group.
    crowd: Option<Arc<Crowd>>,
}

impl Voice {
    pub(super) fn new(ring: usize) -> Self {
        Self { sender: Sender::new(ring), ring, crowd: None }
    }

    /// One reader more, who hears everything from now on.
    pub(super) fn join(&mut self) -> Ear {
        // Who tells the crowd hears the topic as well.
        let others = usize::from(self.crowd.is_some());
        if self.sender.receiver_count() < GROUP + others {
            return Ear(self.sender.subscribe());
        }
        let crowd = self.crowd.get_or_insert_with(|| {
            let crowd = Arc::<Crowd>::default();
            tokio::spawn(Arc::clone(&crowd).told(Ear(self.sender.subscribe())));
            crowd
        });
        crowd.join(self.ring)
    }

    /// Gives a signal to every reader; whether there is any.
    pub(super) fn tell(&self, signal: Signal) -> bool {
        // It fails only where nobody listens.
        self.sender.send(signal).is_ok()
    }
}

/// Where a reader hears the signals of its topic, from its own place in the ring.
#[derive(Debug)]
pub(super) struct Ear(Receiver<Signal>);

impl Ear {
    /// The next signal; `None` where the topic is no more. A reader that fell behind the ring hears [`Signal::Resync`].
    pub(super) async fn next(&mut self) -> Option<Signal> {
        match self.0.recv().await {
            Ok(signal) => Some(signal),
            Err(RecvError::Lagged(_)) => Some(lagged()),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next signal, if one is there already.
    pub(super) fn try_next(&mut self) -> Option<Signal> {
        match self.0.try_recv() {
            Ok(signal) => Some(signal),
            Err(TryRecvError::Lagged(_)) => Some(lagged()),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

fn lagged() -> Signal {
    metrics::counter!("stream_lags_total").increment(1);
    Signal::Resync
}

/// The groups whose turn comes after the first.
#[derive(Debug, Default)]
struct Crowd {
    groups: Mutex<Vec<Group>>,
}

/// Readers that are woken together, and what they have not been told.
#[derive(Debug)]
struct Group {
    sender: Sender<Signal>,
    untold: Vec<Signal>,
}

impl Crowd {
    fn join(&self, ring: usize) -> Ear {
        let mut groups = self.groups();
        let with_room = groups.iter().find(|group| group.sender.receiver_count() < GROUP);
        if let Some(group) = with_room {
            return Ear(group.sender.subscribe());
        }
        let (sender, receiver) = tokio::sync::broadcast::channel(ring);
        groups.push(Group { sender, untold: Vec::new() });
        Ear(receiver)
    }

    /// Tells the groups in turn what the topic says, as long as there is one.
    async fn told(self: Arc<Self>, mut topic: Ear) {
        let mut turn = 0;
        loop {
            while let Some(signal) = topic.try_next() {
                self.keep(&signal);
            }
            match self.tell_next(&mut turn) {
                Some(told) if told < PATIENCE => tokio::task::yield_now().await,
                Some(_) => {}
                None => match topic.next().await {
                    Some(signal) => self.keep(&signal),
                    None => return,
                },
            }
        }
    }

    fn keep(&self, signal: &Signal) {
        for group in self.groups().iter_mut() {
            group.untold.push(signal.clone());
        }
    }

    /// Tells the next group behind `turn` that has not been told everything; how much it was told. `None`: all have been told all.
    fn tell_next(&self, turn: &mut usize) -> Option<usize> {
        let mut groups = self.groups();
        groups.retain(|group| group.sender.receiver_count() > 0);
        let count = groups.len();
        let at = (*turn..*turn + count).find(|at| !groups[at % count].untold.is_empty())?;
        let group = &mut groups[at % count];
        let told = group.untold.len();
        for signal in group.untold.drain(..) {
            // It fails only where nobody listens.
            let _ = group.sender.send(signal);
        }
        *turn = (at + 1) % count;
        Some(told)
    }

    fn groups(&self) -> std::sync::MutexGuard<'_, Vec<Group>> {
        // No code that holds the lock can leave the groups half changed.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Event, Gap, Timestamp};
    use crate::live::Delivery;

    const RING: usize = 64;

    fn signal(number: u64) -> Signal {
        let at = Timestamp::from_micros(0).expect("an instant");
        Signal::Event(Delivery::new(Event::Gap(Gap { from: number, to: number, at })))
    }

    fn number(signal: &Signal) -> Option<u64> {
        let Signal::Event(delivery) = signal else { return None };
        let Event::Gap(gap) = &delivery.event else { return None };
        Some(gap.from)
    }

    /// What a reader hears at once when it is woken.
    async fn woken(ear: &mut Ear) -> Vec<Option<u64>> {
        let mut heard = vec![number(&ear.next().await.expect("the topic is there"))];
        while let Some(signal) = ear.try_next() {
            heard.push(number(&signal));
        }
        heard
    }

    #[tokio::test]
    async fn every_reader_hears_everything_once_and_in_order_whenever_it_came() {
        let mut voice = Voice::new(RING);
        let mut readers = Vec::new();
        for told in 0..20 {
            readers.extend((0..50).map(|_| (told, voice.join())));
            voice.tell(signal(told));
            if told % 3 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for (since, ear) in &mut readers {
            let mut heard = Vec::new();
            while heard.last() != Some(&Some(19)) {
                heard.extend(woken(ear).await);
            }
            // A group that a reader joins while it has not been told everything is told that first.
            heard.retain(|number| *number >= Some(*since));
            assert_eq!(heard, (*since..20).map(Some).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn what_comes_before_the_turn_of_a_group_is_told_to_it_together() {
        let mut voice = Voice::new(RING);
        let mut readers: Vec<Ear> = (0..10 * GROUP).map(|_| voice.join()).collect();
        voice.tell(signal(1));
        assert_eq!(woken(&mut readers[0]).await, [Some(1)], "at once");
        tokio::task::yield_now().await;
        voice.tell(signal(2));
        let last = readers.last_mut().expect("a reader");
        assert_eq!(woken(last).await, [Some(1), Some(2)]);
    }

    #[tokio::test]
    async fn whoever_leaves_makes_room_for_another() {
        let mut voice = Voice::new(RING);
        let mut readers: Vec<Ear> = (0..4 * GROUP).map(|_| voice.join()).collect();
        let groups =
            |voice: &Voice| voice.crowd.as_ref().expect("more than a group").groups().len();
        assert_eq!(groups(&voice), 3);
        readers.truncate(GROUP / 2);
        readers.extend((0..GROUP / 2).map(|_| voice.join()));
        assert_eq!(voice.sender.receiver_count(), GROUP + 1, "the first, and who tells the others");
        readers.push(voice.join());
        voice.tell(signal(1));
        for ear in &mut readers {
            assert_eq!(woken(ear).await, [Some(1)]);
        }
        tokio::task::yield_now().await;
        assert_eq!(groups(&voice), 1, "no group is kept for nobody");
    }

    #[tokio::test]
    async fn a_group_that_is_far_behind_reads_the_log() {
        let mut voice = Voice::new(RING);
        let mut readers: Vec<Ear> = (0..2 * GROUP).map(|_| voice.join()).collect();
        for number in 0..3 * RING as u64 {
            voice.tell(signal(number));
        }
        for ear in &mut readers {
            assert_eq!(number(&ear.next().await.expect("a signal")), None, "a resync");
        }
    }
}
