//! When the live log lost its memory, or one of them.
//!
//! Each memory of the log has a generation, and holds some places. When a place is found in another generation than the
//! one that held it last, there are two cases. If that one is there no more, what it held is lost. If it is still there, in
//! another memory, the place has moved, and nothing is lost. So a memory that appears for the first time, a
//! node that was added to a cluster, is no loss, and a known one that comes back empty is.

use std::time::Duration;

use super::{Error, Storage, dialect, unreadable};
use crate::database::{Executor, Statement, Transaction};
use crate::domain::{Places, Timestamp};

/// What is known of the memories of the live log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memories {
    /// Generations, when each was seen first, and what it holds.
    generations: Vec<(String, Timestamp, Places)>,
    /// When what was in some places was lost last. No place is there twice.
    losses: Vec<(Timestamp, Places)>,
}

impl Memories {
    /// Whether a generation was found to hold a place, and no other since.
    pub fn hold(&self, generation: &str, place: u16) -> bool {
        self.places(generation).is_some_and(|places| places.has(place))
    }

    /// When a generation was seen first.
    pub fn seen_at(&self, generation: &str) -> Option<Timestamp> {
        let mut generations = self.generations.iter();
        generations.find(|(name, ..)| name == generation).map(|(_, seen_at, _)| *seen_at)
    }

    /// When what was in a place was lost last.
    pub fn lost_at(&self, place: u16) -> Option<Timestamp> {
        self.losses.iter().find(|(_, places)| places.has(place)).map(|(at, _)| *at)
    }

    /// Whether nothing would be new about these.
    pub fn agree_with(&self, present: &[(String, Places)]) -> bool {
        present.iter().all(|(name, places)| self.places(name) == Some(places))
    }

    /// The newest instant that is noted.
    fn newest(&self) -> Option<Timestamp> {
        let seen = self.generations.iter().map(|(_, seen_at, _)| *seen_at);
        seen.chain(self.losses.iter().map(|(at, _)| *at)).max()
    }

    fn places(&self, generation: &str) -> Option<&Places> {
        let mut generations = self.generations.iter();
        generations.find(|(name, ..)| name == generation).map(|(.., places)| places)
    }

    /// Notes the generations that are there at `at`; says which places were lost.
    fn note(&mut self, present: &[(String, Places)], at: Timestamp) -> Places {
        let is_present = |generation: &str| present.iter().any(|(name, _)| name == generation);
        let mut lost = Places::none();
        for (generation, places) in present {
            for (name, _, held) in &mut self.generations {
                if name != generation {
                    if !is_present(name) {
                        lost.add(&held.shared_with(places));
                    }
                    held.remove(places);
                }
            }
            match self.generations.iter_mut().find(|(name, ..)| name == generation) {
                Some((.., held)) => *held = places.clone(),
                None => self.generations.push((generation.clone(), at, places.clone())),
            }
        }
        self.generations.retain(|(name, _, held)| is_present(name) || !held.is_empty());
        if !lost.is_empty() {
            self.losses.iter_mut().for_each(|(_, places)| places.remove(&lost));
            self.losses.retain(|(_, places)| !places.is_empty());
            self.losses.push((at, lost.clone()));
        }
        lost
    }
}

#[derive(sqlx::FromRow)]
struct GenerationRow {
    generation: String,
    seen_at: Timestamp,
    places: String,
}

#[derive(sqlx::FromRow)]
struct LossRow {
    lost_at: Timestamp,
    places: String,
}

#[derive(sqlx::FromRow)]
struct InstantRow {
    at: Option<Timestamp>,
}

impl Storage {
    /// Notes the generations of the live log's memories that are there now, each with what it holds. Says what
    /// is known then, and whether something was lost that nobody had noted yet.
    ///
    /// Nodes' clocks differ. A task that began before a loss was noticed is in the table by now, so the
    /// instant that is noted is not before any beginning that is there, nor before any that was noted.
    pub async fn note_generations(
        &self,
        present: &[(String, Places)],
        now: Timestamp,
    ) -> Result<(Memories, bool), Error> {
        let known = memories(|| self.database.reader()).await?;
        if known.agree_with(present) {
            return Ok((known, false));
        }
        let began: Option<InstantRow> = Statement::new(
            "SELECT max(began) AS at
             FROM (SELECT max(created_at) AS began FROM tracker_tasks
                   UNION ALL
                   SELECT max(started_at) FROM tracker_tasks WHERE status = 'in_progress') AS beginnings",
        )
        .fetch_optional(self.database.reader())
        .await?;
        let mut transaction = self.database.begin().await?;
        if let Some(lock) = dialect::lock_generations(transaction.kind()) {
            Statement::new(lock).execute(transaction.executor()).await?;
        }
        let known = memories_in(&mut transaction).await?;
        let after = known.newest().map(|newest| newest.plus(Duration::from_micros(1)));
        let at = now.max(after.unwrap_or(now)).max(began.and_then(|row| row.at).unwrap_or(now));
        let mut next = known.clone();
        let lost = next.note(present, at);
        write(&mut transaction, &known, &next).await?;
        transaction.commit().await?;
        Ok((next, !lost.is_empty()))
    }
}

async fn memories<'c>(reader: impl Fn() -> Executor<'c>) -> Result<Memories, Error> {
    let generations = Statement::new(GENERATIONS).fetch_all(reader()).await?;
    let losses = Statement::new(LOSSES).fetch_all(reader()).await?;
    read(generations, losses)
}

async fn memories_in(transaction: &mut Transaction) -> Result<Memories, Error> {
    let generations = Statement::new(GENERATIONS).fetch_all(transaction.executor()).await?;
    let losses = Statement::new(LOSSES).fetch_all(transaction.executor()).await?;
    read(generations, losses)
}

const GENERATIONS: &str = "SELECT generation, seen_at, places FROM tracker_generations";
const LOSSES: &str = "SELECT lost_at, places FROM tracker_losses";

fn read(generations: Vec<GenerationRow>, losses: Vec<LossRow>) -> Result<Memories, Error> {
    let places = |text: String| text.parse::<Places>().map_err(|_| unreadable("places"));
    let generations = generations
        .into_iter()
        .map(|row| Ok((row.generation, row.seen_at, places(row.places)?)))
        .collect::<Result<_, Error>>()?;
    let losses = losses
        .into_iter()
        .map(|row| Ok((row.lost_at, places(row.places)?)))
        .collect::<Result<_, Error>>()?;
    Ok(Memories { generations, losses })
}

/// Writes what differs.
async fn write(
    transaction: &mut Transaction,
    before: &Memories,
    after: &Memories,
) -> Result<(), Error> {
    let mut statements = Vec::new();
    for old in &before.generations {
        if !after.generations.iter().any(|(name, ..)| *name == old.0) {
            let gone = "DELETE FROM tracker_generations WHERE generation = $1";
            statements.push(Statement::new(gone).bind(old.0.clone()));
        }
    }
    for new in after.generations.iter().filter(|new| !before.generations.contains(new)) {
        let put =
            "INSERT INTO tracker_generations (generation, seen_at, places) VALUES ($1, $2, $3)
                   ON CONFLICT (generation) DO UPDATE SET places = excluded.places";
        let put = Statement::new(put).bind(new.0.clone()).bind(new.1).bind(new.2.to_string());
        statements.push(put);
    }
    for old in &before.losses {
        if !after.losses.iter().any(|(at, _)| *at == old.0) {
            let gone = "DELETE FROM tracker_losses WHERE lost_at = $1";
            statements.push(Statement::new(gone).bind(old.0));
        }
    }
    for new in after.losses.iter().filter(|new| !before.losses.contains(new)) {
        let put = "INSERT INTO tracker_losses (lost_at, places) VALUES ($1, $2)
                   ON CONFLICT (lost_at) DO UPDATE SET places = excluded.places";
        statements.push(Statement::new(put).bind(new.0).bind(new.1.to_string()));
    }
    for statement in statements {
        statement.execute(transaction.executor()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000).unwrap()
    }

    fn present(all: &[(&str, &str)]) -> Vec<(String, Places)> {
        all.iter().map(|(name, places)| ((*name).to_owned(), places.parse().unwrap())).collect()
    }

    #[test]
    fn a_memory_that_is_new_and_places_that_move_are_no_loss() {
        let mut known = Memories::default();
        assert!(known.note(&present(&[("a", "0-9"), ("b", "10-19")]), at(1)).is_empty());
        assert!(known.note(&present(&[("a", "0-4"), ("b", "5-19")]), at(2)).is_empty());
        assert!(known.hold("b", 5) && !known.hold("a", 5));
        // A node is added, which takes some of both; one of those is just away.
        let with_c = present(&[("a", "0-2"), ("b", "5-14"), ("c", "3-4,15-19")]);
        assert!(known.note(&with_c, at(3)).is_empty());
        assert_eq!((known.seen_at("a"), known.seen_at("c")), (Some(at(1)), Some(at(3))));
        assert!(
            known.note(&present(&[("a", "0-2")]), at(4)).is_empty(),
            "who is away may come back"
        );
        assert!(known.hold("c", 3) && known.agree_with(&with_c));
        assert_eq!(known.lost_at(3), None);
    }

    #[test]
    fn what_a_generation_held_that_is_gone_is_lost_wherever_it_is_found() {
        let mut known = Memories::default();
        known.note(&present(&[("a", "0-9"), ("b", "10-19")]), at(1));
        // It came back empty, and before anybody looked two of its places had moved.
        let lost = known.note(&present(&[("a2", "0-7"), ("b", "8-19")]), at(2));
        assert_eq!(lost.to_string(), "0-9");
        assert_eq!(
            (known.lost_at(0), known.lost_at(9), known.lost_at(10)),
            (Some(at(2)), Some(at(2)), None)
        );
        assert_eq!(known.seen_at("a"), None, "nothing is held by it any more");
        // What was lost once is lost again, with what had moved to it.
        let lost = known.note(&present(&[("a2", "0-7"), ("b2", "8-19")]), at(3));
        assert_eq!(lost.to_string(), "8-19");
        assert_eq!((known.lost_at(7), known.lost_at(8)), (Some(at(2)), Some(at(3))));
        assert_eq!(known.losses.len(), 2, "{known:?}");
        assert!(known.note(&present(&[("a2", "0-7"), ("b2", "8-19")]), at(4)).is_empty());
    }
}
