//! What is compared, as one list: the scenario of ours, the work in process, and the peers that can do
//! something like it, with what is not alike.

use super::inprocess::Work;
use super::nchan;
use crate::bound::Bound;

/// A line of the comparison.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) unit: &'static str,
    /// Ours over HTTP.
    pub(super) scenario: &'static str,
    pub(super) in_process: Option<Work>,
    pub(super) peers: &'static [Peer],
    pub(super) unlike: &'static str,
    /// What is wanted of ours, by which measure, against which peer.
    pub(super) target: Option<(Against, &'static str, Bound)>,
}

/// Which of our figures is held over the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Against {
    RateOverHttp,
    P99,
}

/// Who does it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// A library, with its driver of ours.
    Node { name: &'static str, script: &'static str, work: &'static str },
    /// The module of nginx.
    Nchan { over_redis: bool, work: nchan::Work },
}

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Node { name, .. } => name,
            Self::Nchan { over_redis: false, .. } => "Nchan, in memory",
            Self::Nchan { over_redis: true, .. } => "Nchan, over Redis",
        }
    }
}

const fn bullmq(work: &'static str) -> Peer {
    Peer::Node { name: "BullMQ", script: "bullmq.mjs", work }
}

const fn graphile(work: &'static str) -> Peer {
    Peer::Node { name: "Graphile Worker", script: "graphile.mjs", work }
}

const fn pgboss(work: &'static str) -> Peer {
    Peer::Node { name: "pg-boss", script: "pgboss.mjs", work }
}

const fn nchan(over_redis: bool, work: nchan::Work) -> Peer {
    Peer::Nchan { over_redis, work }
}

pub(super) const LINES: &[Line] = &[
    Line {
        name: "register",
        about: "register, one at a time, 32 in flight",
        unit: "tasks/s",
        scenario: "register-32",
        in_process: Some(Work::Register),
        peers: &[bullmq("register"), graphile("register"), pgboss("register")],
        unlike: "BullMQ keeps jobs in Redis alone, which here writes nothing to disk; the others and ours \
                 commit to Postgres with fsync",
        target: None,
    },
    Line {
        name: "bulk",
        about: "register in bulk of 1,000, 8 in flight",
        unit: "tasks/s",
        scenario: "register-bulk",
        in_process: Some(Work::Bulk),
        peers: &[bullmq("bulk"), graphile("bulk"), pgboss("bulk")],
        unlike: "as above; ours answers for each task of a batch by itself",
        target: None,
    },
    Line {
        name: "process",
        about: "claim and complete a backlog, 64 in flight",
        unit: "tasks/s",
        scenario: "process-64",
        in_process: Some(Work::Process),
        peers: &[bullmq("process"), graphile("process"), pgboss("process")],
        unlike: "Graphile Worker fetches 500 ahead and completes in batches, pg-boss fetches and completes 500 \
                 at a time: a worker that dies takes them with it; ours claims one at a time. Ended jobs are \
                 deleted by BullMQ and Graphile Worker, kept by pg-boss and ours",
        target: None,
    },
    Line {
        name: "progress",
        about: "progress of 100 tasks, each with a listener, 32 in flight",
        unit: "entries/s",
        scenario: "progress-listened",
        in_process: Some(Work::Progress),
        peers: &[
            bullmq("progress"),
            nchan(false, nchan::Work::Publish),
            nchan(true, nchan::Work::Publish),
        ],
        unlike: "BullMQ keeps the newest value of a job, tells one listener of all jobs, and cuts what it \
                 tells (here at 5 million); Nchan knows no task and no fence, and keeps the newest messages; \
                 ours numbers and keeps every entry. Graphile Worker and pg-boss have no progress",
        target: None,
    },
    Line {
        name: "lifecycle",
        about: "a whole life: register, claim, 10 entries, complete, 64 in flight",
        unit: "tasks/s",
        scenario: "lifecycle-64",
        in_process: Some(Work::Lifecycle),
        peers: &[bullmq("lifecycle")],
        unlike: "BullMQ: in memory of Redis, nothing kept of a job when it is done; ours: 13 requests, three \
                 commits, the history kept",
        target: Some((Against::RateOverHttp, "BullMQ", Bound::AtLeast(1.0))),
    },
    Line {
        name: "fanout-paced",
        about: "one task to 1,000 readers, 10 entries/s",
        unit: "deliveries/s",
        scenario: "fanout-paced",
        in_process: None,
        peers: &[
            nchan(false, nchan::Work::FanOut { paced: true }),
            nchan(true, nchan::Work::FanOut { paced: true }),
        ],
        unlike: "Nchan has one process, ours as many threads as cores; ours goes through Redis",
        target: Some((Against::P99, "Nchan, in memory", Bound::AtMost(1.0))),
    },
    Line {
        name: "fanout-saturated",
        about: "one task to 1,000 readers, without pause",
        unit: "deliveries/s",
        scenario: "fanout-saturated",
        in_process: None,
        peers: &[
            nchan(false, nchan::Work::FanOut { paced: false }),
            nchan(true, nchan::Work::FanOut { paced: false }),
        ],
        unlike: "as above",
        target: Some((Against::RateOverHttp, "Nchan, in memory", Bound::AtLeast(4.0))),
    },
    Line {
        name: "idle",
        about: "memory of an idle stream",
        unit: "KiB/stream",
        scenario: "idle-streams",
        in_process: None,
        peers: &[nchan(false, nchan::Work::Idle), nchan(true, nchan::Work::Idle)],
        unlike: "Nchan's shared memory counts where its worker has touched it",
        target: None,
    },
    Line {
        name: "replay",
        about: "replay of 10,000 entries",
        unit: "entries/s",
        scenario: "replay-running",
        in_process: None,
        peers: &[nchan(false, nchan::Work::Replay), nchan(true, nchan::Work::Replay)],
        unlike: "Nchan replays from the memory of its process or of Redis, ours from Redis and Postgres",
        target: None,
    },
];
