//! Append progress: one entry, many at once, or line by line as they arrive.

use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Id, Query, too_large};
use super::idempotency::{Answer, KeyHeader, Sent, SentKey, repeated};
use super::problem::{Code, Problem, problems};
use super::wire::Standing;
use super::{Api, pace};
use crate::domain::json::InvalidJson;
use crate::domain::progress::SEQ_ID;
use crate::domain::{Caller, JsonObject, LeaseToken, TaskId, Timestamp, WorkerId};
use crate::service::{Accepted, progress_scope};

/// Entries of one request at most.
const MOST_ENTRIES: usize = 10_000;
/// Lines that are appended at once when they arrive together: of the largest, a few times a body.
const LINES_AT_ONCE: usize = 64;

problems!(
    /// Of a call that adds to the history of a task.
    ProgressProblems: MalformedBody, NotTheWorker, TaskNotFound, InvalidTransition, LogFull,
    BodyTooLarge, UnsupportedMediaType, ValidationFailed);

/// One entry, or many: exactly one of `progress` and `entries`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "progress": { "percent": 40, "message": "reading" }, "workerId": "worker-7" }))]
pub(super) struct ProgressRequest {
    /// One entry. Its `seqId` is the server's.
    #[schema(value_type = Option<Object>)]
    progress: Option<Box<RawValue>>,
    /// Many entries, appended in order, all or none.
    #[schema(value_type = Option<Vec<Object>>, min_items = 1, max_items = 10_000)]
    entries: Option<Vec<Box<RawValue>>>,
    /// If it is named, it must be the one that holds the task.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    pub(super) worker_id: Option<WorkerId>,
    /// What the claim or the start gave: refused with `lease_lost` once its attempt is over.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9]+$")]
    pub(super) lease_token: Option<LeaseToken>,
}

impl ProgressRequest {
    /// The entries, none larger than `limit` bytes, and whether many were meant.
    pub(super) fn entries(&self, limit: usize) -> Result<(Vec<JsonObject>, bool), Problem> {
        let (raw, is_many) = match (&self.progress, &self.entries) {
            (Some(one), None) => (std::slice::from_ref(one), false),
            (None, Some(many)) => (many.as_slice(), true),
            (None, None) => return Err(Problem::invalid("progress", "is missing")),
            (Some(_), Some(_)) => {
                return Err(Problem::invalid("entries", "cannot be given together with progress"));
            }
        };
        if !(1..=MOST_ENTRIES).contains(&raw.len()) {
            let message = format!("must hold 1 to {MOST_ENTRIES} entries");
            return Err(Problem::invalid("entries", &message));
        }
        let path = |index: usize| {
            if is_many { format!("entries[{index}]") } else { "progress".to_owned() }
        };
        let entries = raw.iter().enumerate().map(|(index, raw)| entry(raw, &path(index), limit));
        Ok((entries.collect::<Result<_, _>>()?, is_many))
    }
}

/// Entries were kept: they are in the history whatever comes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProgressResponse {
    #[schema(value_type = String)]
    task_id: TaskId,
    /// The number of the entry, or of the last of many.
    seq_id: u64,
    /// How many, where many were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    #[serde(flatten)]
    standing: Standing,
}

impl ProgressResponse {
    fn new(
        task_id: TaskId,
        count: Option<u64>,
        accepted: Accepted,
        server_time: Timestamp,
    ) -> Self {
        let Accepted { last_seq_id: seq_id, timestamp, lease_expires_at, cancel_requested, .. } =
            accepted;
        let standing = Standing { lease_expires_at, cancel_requested, server_time };
        Self { task_id, seq_id, count, timestamp, standing }
    }
}

/// Of a body of lines, which has no place for it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct ProgressQuery {
    /// With a body of `application/x-ndjson`: the worker that speaks.
    #[param(value_type = Option<String>, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    worker_id: Option<WorkerId>,
    /// And its token.
    #[param(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9]+$")]
    lease_token: Option<LeaseToken>,
}

/// Appends progress to a task that is in progress.
///
/// As JSON one entry or many, all or none. As `application/x-ndjson` one entry a line, each
/// appended as it arrives: what was kept stays, also when a later line is refused; the answer says how many.
/// Whoever has nothing to say for minutes sends an empty line now and then: a silent body is ended (408). An
/// `Idempotency-Key` is for JSON.
///
/// A history has an end, a million entries or 256 MiB unless configured otherwise: what goes beyond is
/// refused with `log_full`, and the task can still be completed or failed.
#[utoipa::path(post, path = "/tasks/{id}/progress", tag = "workers",
    params(("id" = String, Path, description = "The task's id"), ProgressQuery, KeyHeader),
    request_body(content(
        (ProgressRequest = "application/json"),
        (String = "application/x-ndjson", example = "{\"percent\":1}\n{\"percent\":2}\n"))),
    responses((status = 200, description = "Kept", body = ProgressResponse), ProgressProblems))]
pub(super) async fn progress(
    State(api): State<Api>,
    Id(id): Id,
    Query(query): Query<ProgressQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let caller = Caller { worker: query.worker_id, token: query.lease_token };
    if !pace::is_lines(request.headers()) {
        return append_body(&api, id, caller, request).await;
    }
    // Of a body that breaks off a part is kept: there is no one thing to do once.
    let (parts, body) = request.into_parts();
    SentKey::of_parts(&parts)?
        .none("is not for lines, which are kept as they arrive: send entries")?;
    let response = Box::pin(append_lines(&api, id, &caller, body)).await?;
    Ok(axum::Json(response).into_response())
}

async fn append_body(
    api: &Api,
    id: TaskId,
    in_query: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let Sent { request, key } = Sent::<ProgressRequest>::from_request(request, api).await?;
    let (entries, is_many) = request.entries(api.limits.entry_bytes)?;
    let caller = Caller {
        worker: request.worker_id.or(in_query.worker),
        token: request.lease_token.or(in_query.token),
    };
    let key = key.in_scope(progress_scope(&id));
    let accepted = api.tracker.progress(&id, &entries, &caller, key.as_ref()).await?;
    let count = is_many.then_some(entries.len() as u64);
    // The clock as of then: an answer that is given again is the same.
    let response = ProgressResponse::new(id, count, accepted, accepted.timestamp);
    let answer = Answer::ok(&response);
    Ok(if accepted.is_repeated { repeated(answer) } else { answer.into_response() })
}

/// Checks one entry and takes the `seqId` from it, which is ours to give.
fn entry(raw: &RawValue, path: &str, limit: usize) -> Result<JsonObject, Problem> {
    if raw.get().len() > limit {
        return Err(too_large(path, limit));
    }
    let object = JsonObject::from_raw(raw)
        .map_err(|error: InvalidJson| Problem::invalid(path, &error.to_string()))?;
    Ok(object.without(SEQ_ID))
}

/// Appends lines as they arrive: those that are there together, together.
async fn append_lines(
    api: &Api,
    id: TaskId,
    caller: &Caller,
    body: Body,
) -> Result<ProgressResponse, Problem> {
    let mut lines = lines(body, api.limits.entry_bytes);
    let (mut count, mut kept) = (0_u64, None::<Accepted>);
    let cut_off = |problem: Problem, count: u64, kept: Option<Accepted>| match kept {
        Some(kept) => problem.with("count", count).with("seqId", kept.last_seq_id),
        None => problem,
    };
    while let Some(chunk) = lines.next().await {
        let (entries, refused) = read_lines(chunk, count, api.limits.entry_bytes);
        if !entries.is_empty() {
            match api.tracker.progress(&id, &entries, caller, None).await {
                Ok(accepted) => kept = Some(accepted),
                Err(error) => return Err(cut_off(error.into(), count, kept)),
            }
            count += entries.len() as u64;
        }
        if let Some(problem) = refused {
            return Err(cut_off(problem, count, kept));
        }
    }
    let Some(accepted) = kept else {
        return Err(Problem::invalid("", "must hold at least one line"));
    };
    Ok(ProgressResponse::new(id, Some(count), accepted, api.tracker.clock().now()))
}

/// The lines of a body as they arrive, those that are there together, together; none longer than `limit` bytes.
pub(super) fn lines(
    body: Body,
    limit: usize,
) -> impl Stream<Item = Vec<Result<String, LinesCodecError>>> + Unpin {
    let bytes = body.into_data_stream().map_err(std::io::Error::other);
    let codec = LinesCodec::new_with_max_length(limit);
    FramedRead::new(StreamReader::new(bytes), codec).ready_chunks(LINES_AT_ONCE)
}

/// The entries up to the first line that is refused, and why it is. Empty lines are passed over.
pub(super) fn read_lines(
    lines: Vec<Result<String, LinesCodecError>>,
    before: u64,
    limit: usize,
) -> (Vec<JsonObject>, Option<Problem>) {
    let mut entries = Vec::with_capacity(lines.len());
    for line in lines {
        let path = format!("[{}]", before + entries.len() as u64);
        let read = match line {
            Ok(line) if line.trim().is_empty() => continue,
            Ok(line) => serde_json::from_str::<Box<RawValue>>(&line)
                .map_err(|error| Problem::new(Code::MalformedBody, format!("{path}: {error}")))
                .and_then(|raw| entry(&raw, &path, limit)),
            Err(LinesCodecError::MaxLineLengthExceeded) => Err(too_large(&path, limit)),
            Err(LinesCodecError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(Problem::new(Code::MalformedBody, format!("{path}: the line is not UTF-8")))
            }
            Err(LinesCodecError::Io(error)) => Err(pace::broken_off(&error)),
        };
        match read {
            Ok(entry) => entries.push(entry),
            Err(problem) => return (entries, Some(problem)),
        }
    }
    (entries, None)
}
