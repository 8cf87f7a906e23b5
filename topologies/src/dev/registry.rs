//! The embedded schema registry: the contracts, served through the calls of Confluent's REST interface that clients need.
//!
//! Read-only: a schema that is there already can be "registered" again, everything else that would change something is
//! refused, as a real registry in read-only mode does. Loopback only, no authentication.
//! Source: <https://docs.confluent.io/platform/current/schema-registry/develop/api.html>.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use kstreams::serdes::{FULL_TRANSITIVE, MemoryRegistry, RegisteredSchema, SchemaRegistry};
use kstreams::{Error, ErrorKind};
use serde::Deserialize;
use serde_json::{Value, json};

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
const READ_ONLY: &str = "this registry is read-only and holds the contracts of this program's version; \
     to change contracts use a real registry and `aggregator schemas push`";

type Registry = State<Arc<MemoryRegistry>>;
type Answer = Result<Json, Refusal>;

/// The routes.
pub(super) fn router(registry: Arc<MemoryRegistry>) -> Router {
    Router::new()
        .route("/", get(async || Json(json!({}))))
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(look_up).delete(refuse))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version).delete(refuse))
        .route("/subjects/{subject}/versions/{version}/schema", get(version_schema))
        .route("/schemas/types", get(async || Json(json!(["AVRO"]))))
        .route("/schemas/ids/{id}", get(schema))
        .route("/schemas/ids/{id}/schema", get(bare_schema))
        .route("/schemas/ids/{id}/subjects", get(subjects_of))
        .route("/schemas/ids/{id}/versions", get(versions_of))
        .route("/compatibility/subjects/{subject}/versions", post(compatible_with_all))
        .route("/compatibility/subjects/{subject}/versions/{version}", post(compatible))
        .route("/config", get(async || Json(level())).put(refuse).delete(refuse))
        .route("/config/{subject}", get(config).put(refuse).delete(refuse))
        .route("/mode", get(async || Json(json!({"mode": "READONLY"}))).put(refuse))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, 404, "no such resource"))
        .with_state(registry)
}

/// A body with Confluent's content type.
struct Json(Value);

impl IntoResponse for Json {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, CONTENT_TYPE)], self.0.to_string()).into_response()
    }
}

/// An answer other than 200, with Confluent's error code.
struct Refusal {
    status: StatusCode,
    code: u32,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn no_subject(subject: &str) -> Self {
        let message = format!("Subject '{subject}' not found.");
        Self::new(StatusCode::NOT_FOUND, 40401, message)
    }

    fn no_version(version: &str) -> Self {
        let message = format!("Version {version} not found.");
        Self::new(StatusCode::NOT_FOUND, 40402, message)
    }

    fn no_schema() -> Self {
        Self::new(StatusCode::NOT_FOUND, 40403, "Schema not found")
    }

    fn unprocessable(code: u32, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"error_code": self.code, "message": self.message});
        (self.status, Json(body)).into_response()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Invalid => Self::unprocessable(42201, error.message()),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, 50001, error.message()),
        }
    }
}

#[derive(Deserialize, Default)]
struct Filter {
    #[serde(rename = "subjectPrefix", default)]
    prefix: String,
}

async fn refuse() -> Refusal {
    Refusal::unprocessable(42205, READ_ONLY)
}

async fn subjects(State(registry): Registry, Query(filter): Query<Filter>) -> Answer {
    let mut subjects = registry.subjects()?;
    subjects.retain(|subject| subject.starts_with(&filter.prefix));
    Ok(Json(json!(subjects)))
}

fn known_versions(
    registry: &MemoryRegistry,
    subject: &str,
) -> Result<Vec<RegisteredSchema>, Refusal> {
    let versions = registry.versions(subject)?;
    if versions.is_empty() { Err(Refusal::no_subject(subject)) } else { Ok(versions) }
}

async fn versions(State(registry): Registry, Path(subject): Path<String>) -> Answer {
    let versions = known_versions(&registry, &subject)?;
    Ok(Json(json!(versions.iter().map(|known| known.version).collect::<Vec<_>>())))
}

fn find_version(
    registry: &MemoryRegistry,
    subject: &str,
    version: &str,
) -> Result<RegisteredSchema, Refusal> {
    let versions = known_versions(registry, subject)?;
    let found = match version {
        "latest" | "-1" => versions.into_iter().next_back(),
        number => {
            let number: u32 =
                number.parse().ok().filter(|number| *number > 0).ok_or_else(|| {
                    let text =
                        format!("The specified version '{number}' is not a valid version id.");
                    Refusal::unprocessable(42202, text)
                })?;
            versions.into_iter().find(|known| known.version == number)
        }
    };
    found.ok_or_else(|| Refusal::no_version(version))
}

fn described(known: &RegisteredSchema) -> Json {
    Json(json!({
        "subject": known.subject,
        "version": known.version,
        "id": known.id,
        "schema": &*known.schema,
    }))
}

async fn version(
    State(registry): Registry,
    Path((subject, version)): Path<(String, String)>,
) -> Answer {
    find_version(&registry, &subject, &version).map(|known| described(&known))
}

async fn version_schema(
    State(registry): Registry,
    Path((subject, version)): Path<(String, String)>,
) -> Answer {
    parsed(&find_version(&registry, &subject, &version)?.schema)
}

fn parsed(schema: &str) -> Answer {
    serde_json::from_str(schema).map(Json).map_err(|_| Refusal::no_schema())
}

fn schema_text(registry: &MemoryRegistry, id: &str) -> Result<Arc<str>, Refusal> {
    let id = id.parse().map_err(|_| Refusal::no_schema())?;
    registry.schema_by_id(id)?.ok_or_else(Refusal::no_schema)
}

async fn schema(State(registry): Registry, Path(id): Path<String>) -> Answer {
    Ok(Json(json!({"schema": &*schema_text(&registry, &id)?})))
}

async fn bare_schema(State(registry): Registry, Path(id): Path<String>) -> Answer {
    parsed(&schema_text(&registry, &id)?)
}

fn uses_of(registry: &MemoryRegistry, id: &str) -> Result<Vec<RegisteredSchema>, Refusal> {
    schema_text(registry, id)?;
    let mut uses = Vec::new();
    for subject in registry.subjects()? {
        let versions = registry.versions(&subject)?;
        uses.extend(versions.into_iter().filter(|known| known.id.to_string() == id));
    }
    Ok(uses)
}

async fn subjects_of(State(registry): Registry, Path(id): Path<String>) -> Answer {
    let uses = uses_of(&registry, &id)?;
    Ok(Json(uses.iter().map(|known| known.subject.clone()).collect()))
}

async fn versions_of(State(registry): Registry, Path(id): Path<String>) -> Answer {
    let uses = uses_of(&registry, &id)?;
    let use_of =
        |known: &RegisteredSchema| json!({"subject": known.subject, "version": known.version});
    Ok(Json(uses.iter().map(use_of).collect()))
}

/// The schema of a request's body. Read as text, since clients send several content types.
fn given(body: &str) -> Result<String, Refusal> {
    #[derive(Deserialize)]
    struct Body {
        schema: String,
        #[serde(rename = "schemaType")]
        kind: Option<String>,
    }
    let invalid = |message: String| Refusal::unprocessable(42201, message);
    let body: Body = serde_json::from_str(body)
        .map_err(|error| invalid(format!("found a body that is no schema request: {error}")))?;
    match body.kind.as_deref() {
        None | Some("AVRO") => Ok(body.schema),
        Some(kind) => Err(invalid(format!("found schemaType {kind}, wanted AVRO"))),
    }
}

async fn look_up(State(registry): Registry, Path(subject): Path<String>, body: String) -> Answer {
    let versions = known_versions(&registry, &subject)?;
    let id = registry.id_of(&subject, &given(&body)?)?.ok_or_else(Refusal::no_schema)?;
    let known = versions.iter().find(|known| known.id == id).ok_or_else(Refusal::no_schema)?;
    Ok(described(known))
}

async fn register(State(registry): Registry, Path(subject): Path<String>, body: String) -> Answer {
    match registry.id_of(&subject, &given(&body)?)? {
        Some(id) => Ok(Json(json!({"id": id}))),
        None => Err(refuse().await),
    }
}

fn problems(registry: &MemoryRegistry, subject: &str, body: &str) -> Answer {
    let messages = registry.check_compatibility(subject, &given(body)?)?;
    Ok(Json(json!({"is_compatible": messages.is_empty(), "messages": messages})))
}

async fn compatible_with_all(
    State(registry): Registry,
    Path(subject): Path<String>,
    body: String,
) -> Answer {
    problems(&registry, &subject, &body)
}

/// Against one version; since the level is transitive, all versions are asked.
async fn compatible(
    State(registry): Registry,
    Path((subject, version)): Path<(String, String)>,
    body: String,
) -> Answer {
    find_version(&registry, &subject, &version)?;
    problems(&registry, &subject, &body)
}

fn level() -> Value {
    json!({"compatibilityLevel": FULL_TRANSITIVE})
}

async fn config(State(registry): Registry, Path(subject): Path<String>) -> Answer {
    match registry.compatibility(&subject)? {
        Some(level) => Ok(Json(json!({"compatibilityLevel": level}))),
        None => {
            let message =
                format!("Subject '{subject}' does not have subject-level compatibility configured");
            Err(Refusal::new(StatusCode::NOT_FOUND, 40408, message))
        }
    }
}
