//! List tasks.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::extract::Query;
use super::problem::{Problem, problems};
use super::wire::{PAGE, PublicEntry, StatusSchema, TaskFields, limit};
use crate::domain::{Entry, Search, Status, Task, TaskId, TaskType, Timestamp, WorkerId};
use crate::service::{By, Cursor, Filter, Order};

problems!(ListProblems: ValidationFailed);

/// Which tasks to list; what is not given filters nothing, and what is must all hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Of this type.
    #[param(value_type = Option<String>, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    task_type: Option<TaskType>,
    /// Of this status, or of one of several, separated by commas: `failed,timeout`.
    #[serde(default, deserialize_with = "statuses")]
    #[param(value_type = Option<Vec<StatusSchema>>, style = Form, explode = false, min_items = 1)]
    status: Vec<Status>,
    /// Held by this worker, now or at their end.
    #[param(value_type = Option<String>, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    worker_id: Option<WorkerId>,
    /// The first task of a chain of retries, and all retries.
    #[param(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_.:-]+$")]
    original_task_id: Option<TaskId>,
    /// What to look for: tasks whose `id` begins with it, or whose `taskType`, `workerId`, `metadata`, `params` or `error` holds
    /// it. The case of A to Z is none; every character means itself. Of JSON the text is looked at, names and
    /// values, without white space between its tokens. The task of exactly this id is the first of the first page.
    #[param(value_type = Option<String>, min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    q: Option<Search>,
    /// Registered after this instant (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    created_after: Option<Timestamp>,
    /// Registered before this instant (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    created_before: Option<Timestamp>,
    /// Ended after this instant (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    completed_after: Option<Timestamp>,
    /// Ended before this instant (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    completed_before: Option<Timestamp>,
    /// Ordered by this; by `completedAt` only what has ended is listed.
    #[param(value_type = Option<SortBy>, default = "createdAt", inline)]
    sort: Option<SortBy>,
    /// The newest first, or the oldest.
    #[param(value_type = Option<Direction>, default = "desc", inline)]
    order: Option<Direction>,
    /// `brief`: items without `metadata`, `params` and `result`.
    #[param(value_type = Option<Fields>, default = "all", inline)]
    fields: Option<Fields>,
    /// Tasks of a page at most.
    #[serde(default, deserialize_with = "limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 50)]
    limit: Option<u32>,
    /// The `nextCursor` of the page before, which was of the same list: in the same order, by the same filters.
    #[serde(default, deserialize_with = "cursor")]
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// What a list is ordered by. Of `updatedAt` there is none: every change of a task would have to move it.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
enum SortBy {
    CreatedAt,
    CompletedAt,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
enum Direction {
    Desc,
    Asc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
enum Fields {
    All,
    Brief,
}

impl ListQuery {
    fn filter(self) -> Result<Filter, Problem> {
        let by = match self.sort {
            None | Some(SortBy::CreatedAt) => By::CreatedAt,
            Some(SortBy::CompletedAt) => By::CompletedAt,
        };
        let order = Order { by, is_ascending: matches!(self.order, Some(Direction::Asc)) };
        if self.cursor.as_ref().is_some_and(|cursor| cursor.order != order) {
            return Err(Problem::invalid("cursor", "must be of a page in the same order"));
        }
        Ok(Filter {
            task_type: self.task_type,
            statuses: self.status,
            worker_id: self.worker_id,
            original_task_id: self.original_task_id,
            search: self.q,
            // As a client sees them: a task registered in the named millisecond is not after it.
            created_after: self.created_after.map(Timestamp::end_of_millisecond),
            created_before: self.created_before,
            completed_after: self.completed_after.map(Timestamp::end_of_millisecond),
            completed_before: self.completed_before,
            order,
            cursor: self.cursor,
            is_brief: self.fields == Some(Fields::Brief),
        })
    }
}

fn statuses<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Status>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let statuses = text.split(',').map(Status::parse).collect::<Option<Vec<_>>>();
    statuses.ok_or_else(|| {
        let words = Status::ALL.map(Status::as_str).join(", ");
        serde::de::Error::custom(format!("must be one or more, separated by commas, of {words}"))
    })
}

fn cursor<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Cursor>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let cursor = read_cursor(&text);
    cursor.map(Some).ok_or_else(|| serde::de::Error::custom("must be the nextCursor of a page"))
}

/// The word of an order in a cursor; of the one that is meant where nothing is said there is none, as it was when there was no other.
const ORDERS: [(&str, Order); 3] = [
    ("created-asc", Order { by: By::CreatedAt, is_ascending: true }),
    ("completed-desc", Order { by: By::CompletedAt, is_ascending: false }),
    ("completed-asc", Order { by: By::CompletedAt, is_ascending: true }),
];

/// `<microseconds>.<id>`, behind `<order>.` where it is another than usual, in base64url, so that nobody takes it for more than it is.
pub(super) fn write_cursor(cursor: &Cursor) -> String {
    let word = ORDERS.iter().find(|(_, order)| *order == cursor.order);
    let word = word.map_or(String::new(), |(word, _)| format!("{word}."));
    URL_SAFE_NO_PAD.encode(format!("{word}{}.{}", cursor.at.as_micros(), cursor.id))
}

pub(super) fn read_cursor(text: &str) -> Option<Cursor> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let named =
        |(word, order): &(&str, Order)| Some((text.strip_prefix(word)?.strip_prefix('.')?, *order));
    let (place, order) = ORDERS.iter().find_map(named).unwrap_or((&text, Order::default()));
    let (micros, id) = place.split_once('.')?;
    let at = Timestamp::from_micros(micros.parse().ok()?)?;
    Some(Cursor { order, at, id: id.parse().ok()? })
}

/// A page of tasks, in the order that was asked for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListResponse {
    items: Vec<ListedTask>,
    /// Give it as `cursor` for the next page; `null` on the last.
    next_cursor: Option<String>,
    /// Only there while the live log is away, and then `false`: a running task's `latestProgress` is the newest
    /// that is sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    latest_progress_complete: Option<bool>,
}

/// A task without its history, but with its newest entry.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListedTask {
    #[serde(flatten)]
    task: TaskFields,
    /// The newest entry, or `null`.
    #[schema(value_type = Option<super::wire::ProgressEntry>)]
    latest_progress: Option<PublicEntry>,
}

impl ListedTask {
    pub(super) fn new(task: Task, latest: Option<&Entry>) -> Self {
        Self { task: TaskFields::new(task, latest), latest_progress: latest.map(PublicEntry::from) }
    }

    /// The same without what may be large.
    pub(super) fn brief(self) -> Self {
        Self { task: self.task.brief(), ..self }
    }
}

/// Lists tasks, newest first unless another order is asked for.
///
/// A page costs the same however long the list is: it looks at 20,000 tasks at most, and for about a second. So a page by `q`,
/// by several filters at once, by times of the other order than that of the list, or by any filter in the order of
/// `completedAt` may hold fewer tasks than `limit`, even none, and not be the last. The last is the one whose
/// `nextCursor` is `null`.
#[utoipa::path(get, path = "/tasks", tag = "tasks", params(ListQuery),
    responses((status = 200, description = "A page", body = ListResponse), ListProblems))]
pub(super) async fn list(
    State(api): State<Api>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(PAGE.0);
    let filter = query.filter()?;
    let listing = api.tracker.list(&filter, limit).await?;
    let items = listing.items.into_iter().map(|(task, latest)| {
        let listed = ListedTask::new(task, latest.as_ref());
        if filter.is_brief { listed.brief() } else { listed }
    });
    let body = ListResponse {
        items: items.collect(),
        next_cursor: listing.next.as_ref().map(write_cursor),
        latest_progress_complete: (!listing.is_complete).then_some(false),
    };
    Ok(axum::Json(body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_rubbish_does_not() {
        let at = Timestamp::from_micros(1_763_640_000_123_456).unwrap();
        for order in ORDERS.map(|(_, order)| order).into_iter().chain([Order::default()]) {
            let cursor = Cursor { order, at, id: "a.b-c".parse().unwrap() };
            assert_eq!(read_cursor(&write_cursor(&cursor)), Some(cursor));
        }
        for rubbish in ["", "x", "MTIz", "4pyT", &URL_SAFE_NO_PAD.encode("9223372036854775807.a")] {
            assert_eq!(read_cursor(rubbish), None, "{rubbish:?}");
        }
        for rubbish in ["created-desc.1.a", "completed-asc1.a", "completed-asc.a", ".1.a"] {
            assert_eq!(read_cursor(&URL_SAFE_NO_PAD.encode(rubbish)), None, "{rubbish:?}");
        }
    }

    #[test]
    fn a_cursor_of_the_days_of_one_order_is_still_one() {
        let cursor = read_cursor("MTc2MzY0MDAwMDEyMzQ1Ni5hLmItYw").unwrap();
        assert_eq!((cursor.order, cursor.id.as_str()), (Order::default(), "a.b-c"));
        assert_eq!(write_cursor(&cursor), "MTc2MzY0MDAwMDEyMzQ1Ni5hLmItYw");
    }
}
