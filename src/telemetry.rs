//! Logs and figures.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::cli::{LogArgs, LogFormat};

/// Upper bounds of the histograms, in seconds: from what a memory access over loopback takes to what a client gives up on.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The log filter cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("TASK_TRACKER_LOG is no filter: {0}")]
pub struct BadFilter(#[from] tracing_subscriber::filter::ParseError);

/// Begins to log to standard error: for people on a terminal, else as JSON.
pub fn log(args: &LogArgs) -> Result<(), BadFilter> {
    let filter = EnvFilter::builder().parse(&args.log)?;
    let for_people = match args.log_format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    if for_people {
        builder.with_ansi(std::io::stderr().is_terminal()).compact().init();
    } else {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).init();
    }
    Ok(())
}

/// The figures of this process: one recorder, however many servers a test starts in it.
pub fn figures() -> Result<PrometheusHandle, BuildError> {
    static HANDLE: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut installed = HANDLE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    describe();
    Ok(installed.insert(handle).clone())
}

/// Keeps the histograms from growing; for ever.
pub async fn upkeep(figures: PrometheusHandle) {
    let mut every = tokio::time::interval(Duration::from_secs(5));
    loop {
        every.tick().await;
        figures.run_upkeep();
    }
}

fn describe() {
    describe_counter!("tasks_registered_total", "Tasks registered, retries not counted");
    describe_counter!("tasks_retried_total", "Tasks made by a retry");
    describe_counter!("tasks_claimed_total", "Tasks given to a worker that claimed");
    describe_counter!("tasks_started_total", "Tasks started by name");
    describe_counter!("tasks_released_total", "Tasks given back");
    describe_counter!("tasks_completed_total", "Tasks that ended well");
    describe_counter!("tasks_failed_total", "Tasks that ended badly");
    describe_counter!("tasks_timed_out_total", "Tasks whose time was over");
    describe_counter!("entries_appended_total", "Progress entries acknowledged");
    describe_counter!("problems_total", "Errors answered, by code");
    describe_counter!("stream_events_total", "Events written to streams");
    describe_counter!("stream_lags_total", "Readers that fell behind and went back to the log");
    describe_counter!("streams_opened_total", "Streams opened");
    describe_counter!(
        "streams_closed_total",
        "Streams that ended: end, life, shutdown, stalled (the client took nothing), gone (it left), error"
    );
    describe_counter!("streams_refused_total", "Streams refused, by limit: node or client");
    describe_counter!(
        "stream_reads_asked_total",
        "Reads of the log and the task that streams asked for"
    );
    describe_counter!("stream_reads_done_total", "Reads done for them: the others were shared");
    describe_counter!(
        "overview_reads_asked_total",
        "Overviews that were asked for and not at hand"
    );
    describe_counter!("overview_reads_done_total", "Reads done for them: the others were shared");
    describe_counter!("claims_refused_total", "Claims that could not wait: as many wait as may");
    describe_counter!("connections_refused_total", "Connections for which there was no place");
    describe_counter!(
        "connections_closed_total",
        "Connections that ended: closed, idle, slow (a head did not arrive), malformed, stalled, broken"
    );
    describe_counter!(
        "accept_errors_total",
        "Times no connection could be accepted, as without files"
    );
    describe_counter!("subscriptions_lost_total", "Times the broker's subscriptions were lost");
    describe_counter!("duty_runs_total", "Runs of background duties, by duty and outcome");
    describe_gauge!("streams_open", "Streams open on this node");
    describe_gauge!("connections_open", "Connections to this node");
    describe_gauge!("claims_waiting", "Workers that wait at this node");
    describe_gauge!("tasks_pending", "Tasks that wait, in all: the queue's depth");
    describe_gauge!("tasks_in_progress", "Tasks that run, in all");
    describe_gauge!("runtime_workers", "Threads that run the server's tasks");
    describe_gauge!("runtime_tasks_alive", "Tasks of the runtime that have not ended");
    describe_gauge!("runtime_queue_depth", "Tasks that are ready and that no thread has taken");
    describe_gauge!(
        "runtime_busy_seconds",
        Unit::Seconds,
        "How long the threads were not parked since the start, all together"
    );
    describe_counter!("runtime_parks_total", "Times a thread had nothing to do and was parked");
    describe_histogram!(
        "http_request_seconds",
        Unit::Seconds,
        "From a request's arrival to its answer's head"
    );
    describe_histogram!(
        "publish_to_delivery_seconds",
        Unit::Seconds,
        "From an entry's acknowledgement to its stream"
    );
    describe_histogram!("duty_seconds", Unit::Seconds, "How long a background duty took");
}
