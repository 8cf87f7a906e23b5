//! Questions over HTTP, and what instances ask each other.
//!
//! | path | answer |
//! |---|---|
//! | `/query/request/ID`, `/query/manager/ID`, `/query/contractor/ID` | the joined parts; 404 where nobody knows it |
//! | `/query/waiting?region=R`, `/query/paperwork?open=true` | lists |
//! | `/query/part/TOPOLOGY/…` | one topology's part, from an instance that runs it |
//! | `/query/read/TOPOLOGY/READ/PARTITION?argument=A` | a read of a partition that is here; 503 where it is not |
//!
//! A question waits for parts, a part for reads, a read for nobody: each kind has places of its own, so that instances
//! that are full of questions to each other still answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use kstreams::{Error, ErrorKind, Result};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::Question;
use super::service::QueryService;

/// Questions, and parts, that are worked on at the same time; more wait.
const QUESTIONS_MAX: usize = 16;
/// Reads at the same time.
const READS_MAX: usize = 32;

#[derive(Clone)]
struct Service {
    service: Arc<QueryService>,
    questions: Arc<Semaphore>,
    parts: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

/// What is asked for beside the path.
type Parameters = Query<BTreeMap<String, String>>;

pub(crate) fn router(service: QueryService) -> Router {
    let service = Service {
        service: Arc::new(service),
        questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
        parts: Arc::new(Semaphore::new(QUESTIONS_MAX)),
        reads: Arc::new(Semaphore::new(READS_MAX)),
    };
    Router::new()
        .route("/query/{kind}", get(list))
        .route("/query/{kind}/{id}", get(one))
        .route("/query/part/{topology}/{kind}", get(part_of_list))
        .route("/query/part/{topology}/{kind}/{id}", get(part_of_one))
        .route("/query/read/{topology}/{read}/{partition}", get(read))
        .with_state(service)
}

async fn list(
    Shared(service): Shared<Service>,
    Path(kind): Path<String>,
    parameters: Parameters,
) -> Response {
    whole(service, question(&kind, None, &parameters)).await
}

async fn one(
    Shared(service): Shared<Service>,
    Path((kind, id)): Path<(String, String)>,
    parameters: Parameters,
) -> Response {
    whole(service, question(&kind, Some(&id), &parameters)).await
}

async fn part_of_list(
    Shared(service): Shared<Service>,
    Path((topology, kind)): Path<(String, String)>,
    parameters: Parameters,
) -> Response {
    part(service, topology, question(&kind, None, &parameters)).await
}

async fn part_of_one(
    Shared(service): Shared<Service>,
    Path((topology, kind, id)): Path<(String, String, String)>,
    parameters: Parameters,
) -> Response {
    part(service, topology, question(&kind, Some(&id), &parameters)).await
}

async fn whole(service: Service, question: Result<Question>) -> Response {
    let question = match question {
        Ok(question) => question,
        Err(error) => return refused(&error),
    };
    let asked = question.clone();
    let inner = service.service.clone();
    match blocking(&service.questions, move || inner.answer(&asked)).await {
        Ok(Some(answer)) => Json(answer).into_response(),
        Ok(None) => {
            let error = json!({ "error": format!("found nothing about {question}") });
            (StatusCode::NOT_FOUND, Json(error)).into_response()
        }
        Err(error) => refused(&error),
    }
}

async fn part(service: Service, topology: String, question: Result<Question>) -> Response {
    let inner = service.service.clone();
    let answer = match question {
        Err(error) => Err(error),
        Ok(asked) => blocking(&service.parts, move || inner.part_here(&topology, &asked)).await,
    };
    answered(answer)
}

async fn read(
    Shared(service): Shared<Service>,
    Path((topology, read, partition)): Path<(String, String, i32)>,
    Query(parameters): Parameters,
) -> Response {
    let inner = service.service.clone();
    let argument = parameters.get("argument").cloned().unwrap_or_default();
    let work = move || inner.read(&topology, &read, partition, &argument);
    answered(blocking(&service.reads, work).await)
}

/// Stores are read from disk: not on the threads that serve connections.
async fn blocking<T: Send + 'static>(
    places: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let place = places.clone().acquire_owned().await;
    let work = move || {
        let _place = place;
        work()
    };
    let panicked = |error| Error::fatal("a query panicked").with_source(error);
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}

fn answered(answer: Result<Value>) -> Response {
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => refused(&error),
    }
}

fn refused(error: &Error) -> Response {
    let status = match error.kind() {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Retriable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(json!({ "error": error.to_string() }))).into_response()
}

fn question(kind: &str, id: Option<&str>, Query(parameters): &Parameters) -> Result<Question> {
    let number = |id: &str| {
        id.parse().map_err(|_| Error::invalid(format!("found id \"{id}\", wanted a whole number")))
    };
    match (kind, id) {
        ("request", Some(id)) => number(id).map(Question::Request),
        ("manager", Some(id)) => number(id).map(Question::Manager),
        ("contractor", Some(id)) => number(id).map(Question::Contractor),
        ("waiting", None) => Ok(Question::Waiting { region: parameters.get("region").cloned() }),
        ("paperwork", None) => {
            let open = parameters.get("open").map(String::as_str);
            match open {
                Some("true") => Ok(Question::Paperwork { open_only: true }),
                Some("false") | None => Ok(Question::Paperwork { open_only: false }),
                Some(other) => {
                    Err(Error::invalid(format!("found open = \"{other}\", wanted true or false")))
                }
            }
        }
        _ => Err(Error::invalid(format!(
            "found question \"{kind}\", wanted request/ID, manager/ID, contractor/ID, waiting or paperwork"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_questions_again() {
        let none = Query(BTreeMap::new());
        let with =
            |name: &str, value: &str| Query(BTreeMap::from([(name.to_owned(), value.to_owned())]));
        assert_eq!(question("request", Some("7"), &none).unwrap(), Question::Request(7));
        let region = Some("north".to_owned());
        let waiting = question("waiting", None, &with("region", "north")).unwrap();
        assert_eq!(waiting, Question::Waiting { region });
        let open = question("paperwork", None, &with("open", "true")).unwrap();
        assert_eq!(open, Question::Paperwork { open_only: true });
        for (kind, id, parameters) in [
            ("request", Some("seven"), &none),
            ("request", None, &none),
            ("waiting", Some("7"), &none),
            ("paperwork", None, &with("open", "maybe")),
            ("nothing", None, &none),
        ] {
            let error = question(kind, id, parameters).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
    }
}
