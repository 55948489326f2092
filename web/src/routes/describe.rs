//! What all operations have in common, put on the description of the API: headers in and out, the problems that any of them
//! may answer with, who may, and what names look like.
//!
//! In: the document as the handlers' annotations make it. Out: the same, whole. It goes by rules over method and path, so
//! that a handler that is added says only what is its own; what a rule cannot know (another success, another problem) the
//! annotation says, and it wins. Whether the server keeps to it is tried by `tests/lab/schemathesis.sh`.

use serde_json::{Map, Value, json};

/// What needs no caller, and so cannot answer that one is missing.
const PUBLIC: [&str; 2] = ["/healthz", "/readyz"];

/// What is looked at in the moment, and is nobody's state.
const LIVE: [&str; 1] = ["/api/v1/nodes/{name}/doctor"];

/// The parameter that a list has which can be taken part by part.
const AFTER: &str = "after";

/// The problems that an operation may answer with, by status.
const PROBLEMS: [(u16, &str); 15] = [
    (400, "The request does not read, or a field of it is outside its limits"),
    (401, "No token, or one that is unknown, expired or revoked"),
    (403, "The caller's role is not enough"),
    (404, "There is no such object"),
    (408, "The request came too slowly"),
    (409, "It cannot be done to the objects as they are"),
    (412, "It was changed since the ETag in `If-Match`"),
    (413, "The body is too large"),
    (415, "The body is of a media type that is not taken here"),
    (422, "The body reads and cannot be what is meant, or the Idempotency-Key was used for another request"),
    (429, "Too many requests; `Retry-After` says when the next one may come"),
    (500, "A fault of the server; its log has more under `request_id`"),
    (502, "The node that must do it answered nonsense, or a download did not succeed"),
    (503, "The node cannot do it at this moment: no quorum, no leader, too much to do"),
    (504, "It took too long; it may have been done"),
];

/// What the rules go by.
struct Operation<'a> {
    path: &'a str,
    writes: bool,
    has_body: bool,
    /// Reads something of the cluster's state, in JSON: it can be asked whether it is another than before.
    gives_json: bool,
}

impl Operation<'_> {
    fn is_public(&self) -> bool {
        PUBLIC.contains(&self.path)
    }

    fn is_api(&self) -> bool {
        self.path.starts_with("/api/")
    }

    /// Does it change one object that can be read?
    fn changes_one(&self) -> bool {
        self.writes
            && (self.path == "/api/v1/cluster/cloud-init"
                || (self.path.contains("{name}") && self.path != "/api/v1/templates/{name}/versions"))
    }

    fn may_answer(&self, status: u16) -> bool {
        match status {
            401 | 403 | 429 => !self.is_public(),
            400 => !self.is_public(),
            404 => self.writes || self.path.contains('{'),
            409 | 502 => self.writes,
            412 => self.changes_one(),
            408 | 413 | 415 => self.has_body,
            422 => self.writes || self.has_body,
            _ => true,
        }
    }
}

/// Puts everything on that the operations share.
pub(super) fn complete(document: &mut Value) {
    unsigned(document);
    components(document);
    let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) else { return };
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            let Some(operation) = operation.as_object_mut() else { continue };
            let writes = method != "get";
            let given = operation.get("responses").and_then(|all| all.get("200")?.get("content")?.as_object());
            let json = given.is_some_and(|content| content.keys().any(|kind| kind.ends_with("json")));
            let rules = Operation {
                path,
                writes,
                has_body: operation.contains_key("requestBody"),
                gives_json: json && !writes && !LIVE.contains(&path.as_str()),
            };
            if rules.gives_json
                && let Some(answers) = operation.get_mut("responses").and_then(Value::as_object_mut)
            {
                answers.insert("304".to_owned(), json!({}));
            }
            parameters(operation, &rules);
            answers(operation, &rules);
            let security = if rules.is_public() { json!([]) } else { json!([{ "bearer": [] }]) };
            operation.insert("security".to_owned(), security);
        }
    }
}

/// Numbers without a sign are described by the next format there is, which has one and ends at half of what they reach.
fn unsigned(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let most = match object.get("format").and_then(Value::as_str) {
                Some("int32") => Some(u64::from(u32::MAX)),
                Some("int64") => Some(u64::MAX),
                _ => None,
            };
            let counts = object.get("minimum").and_then(Value::as_u64).is_some();
            if let Some(most) = most.filter(|_| counts) {
                object.remove("format");
                object.entry("maximum").or_insert(most.into());
            }
            object.values_mut().for_each(unsigned);
        }
        Value::Array(items) => items.iter_mut().for_each(unsigned),
        _ => {}
    }
}

fn components(document: &mut Value) {
    let headers = json!({
        "X-Request-Id": { "schema": { "type": "string" }, "description": "Names the request in the logs of all nodes that it passes" },
        "Waifu-Applied": { "schema": { "type": "integer", "minimum": 0 }, "description": "The log index that the answering node had applied" },
        "Waifu-Age": { "schema": { "type": "integer", "minimum": 0 }, "description": "How many milliseconds ago the answering node last knew that it was up to date" },
        "Waifu-Stale": { "schema": { "type": "string", "enum": ["no_quorum", "lagging"] }, "description": "Present when the data may be out of date" },
        "Waifu-Node": { "schema": { "type": "string" }, "description": "The name of the node that answered" },
        "Waifu-Index": { "schema": { "type": "integer", "minimum": 0 }, "description": "The log index of the change. Sent back it is a minimum: the next answer is of a state that has it" },
        "ETag": { "schema": { "type": "string" }, "description": "Of one object: stands for what is wanted of it, and observations never change it; of a VM it is the generation. Of all else: stands for this very answer" },
        "Waifu-Next": { "schema": { "type": "string" }, "description": "There is more of this list: give this as `after`. Not there at the end" },
        "Retry-After": { "schema": { "type": "integer", "minimum": 1 }, "description": "In how many seconds to try again" },
    });
    let mut responses = Map::new();
    for (status, description) in PROBLEMS {
        let mut headers = json!({ "X-Request-Id": header("X-Request-Id") });
        if status == 429 {
            headers["Retry-After"] = header("Retry-After");
        }
        responses.insert(format!("Problem{status}"), problem(description, headers));
    }
    document["components"]["headers"] = headers;
    document["components"]["responses"] = responses.into();
    document["components"]["securitySchemes"] = json!({
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API token. On a node's local socket the kernel says who is there, and no token is needed"
        }
    });
}

fn problem(description: &str, headers: Value) -> Value {
    json!({
        "description": description,
        "headers": headers,
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } }
    })
}

fn header(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

fn parameters(operation: &mut Map<String, Value>, rules: &Operation<'_>) {
    let known = operation.entry("parameters").or_insert_with(|| json!([]));
    let Some(known) = known.as_array_mut() else { return };
    for parameter in known.iter_mut() {
        match parameter["in"].as_str() {
            Some("path") => name_of(parameter, rules.path),
            Some("query") if parameter["name"] == AFTER => after_of(parameter, rules.path),
            _ => {}
        }
    }
    let mut add = |place: &str, name: &str, schema: Value, description: &str| {
        known.push(
            json!({ "name": name, "in": place, "required": false, "schema": schema, "description": description }),
        );
    };
    add(
        "header",
        "X-Request-Id",
        json!({ "type": "string" }),
        "Names the request in answers and logs; made up if absent",
    );
    if !rules.is_api() {
        return;
    }
    let consistency = json!({ "type": "string", "enum": ["local", "linearizable"] });
    add(
        "header",
        "Waifu-Consistency",
        consistency.clone(),
        "`linearizable`: the answer holds every write acknowledged before",
    );
    add("query", "consistency", consistency, "The same, for those who cannot set headers");
    add(
        "header",
        "Waifu-Index",
        json!({ "type": "integer", "minimum": 0 }),
        "Answer from a state that has at least this much applied",
    );
    if rules.gives_json {
        add(
            "header",
            "If-None-Match",
            json!({ "type": "string" }),
            "ETags that the asker has the answers of: 304 if it would be one of them",
        );
    }
    if rules.changes_one() {
        add(
            "header",
            "If-Match",
            json!({ "type": "string" }),
            "The ETag of the object as the asker has seen it: 412 if it was changed since",
        );
    }
    if rules.writes {
        let key = json!({ "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" });
        add(
            "header",
            "Idempotency-Key",
            key,
            "A repetition with the same key and body gets the first one's answer, for 24 hours",
        );
    }
}

/// What the name in a path looks like.
fn name_of(parameter: &mut Value, path: &str) {
    let pattern = match parameter["name"].as_str() {
        Some("id") => "^[0-9a-f]{15}[1-9a-f]$",
        Some("name") if path.starts_with("/api/v1/templates") => r"^[a-z0-9]([a-z0-9.-]{0,30}[a-z0-9])?$",
        Some("name") if path.starts_with("/api/v1/history") => "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        Some("name") => "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$",
        _ => return,
    };
    parameter["schema"] = json!({ "type": "string", "pattern": pattern });
}

/// What the items of a list go by. Exact, for what is not listed may be named here.
fn after_of(parameter: &mut Value, path: &str) {
    parameter["schema"] = match path {
        "/api/v1/tokens" | "/api/v1/cluster/join-tokens" => {
            json!({ "type": "string", "pattern": "^[0-9a-f]{15}[1-9a-f]$" })
        }
        "/api/v1/templates" => {
            json!({ "type": "string", "maxLength": 63, "pattern": r"^[a-z0-9](([.]?[a-z0-9-])*[.]?[a-z0-9])?$" })
        }
        _ => json!({ "type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" }),
    };
}

fn answers(operation: &mut Map<String, Value>, rules: &Operation<'_>) {
    let listed = operation["parameters"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == AFTER));
    let answers = operation.entry("responses").or_insert_with(|| json!({}));
    let Some(answers) = answers.as_object_mut() else { return };
    // The annotations' short word for all that follows.
    answers.remove("4XX");
    for (status, answer) in answers.iter_mut().filter(|(status, _)| status.starts_with('2') || status.starts_with('3'))
    {
        if answer["description"].as_str().is_none_or(str::is_empty) {
            answer["description"] = success(status).into();
        }
        let mut headers = Map::new();
        headers.insert("X-Request-Id".to_owned(), header("X-Request-Id"));
        if rules.is_api() {
            for name in ["Waifu-Applied", "Waifu-Age", "Waifu-Stale", "Waifu-Node"] {
                headers.insert(name.to_owned(), header(name));
            }
            if rules.writes {
                headers.insert("Waifu-Index".to_owned(), header("Waifu-Index"));
            }
            if rules.gives_json || rules.changes_one() {
                headers.insert("ETag".to_owned(), header("ETag"));
            }
            if listed {
                headers.insert("Waifu-Next".to_owned(), header("Waifu-Next"));
            }
        }
        headers.extend(answer["headers"].as_object().cloned().into_iter().flatten());
        answer["headers"] = headers.into();
    }
    for (status, _) in PROBLEMS.iter().filter(|(status, _)| rules.may_answer(*status)) {
        let shared = json!({ "$ref": format!("#/components/responses/Problem{status}") });
        answers.entry(status.to_string()).or_insert(shared);
    }
}

fn success(status: &str) -> &'static str {
    match status {
        "201" => "It was made",
        "202" => "It was agreed, and its node is at work",
        "204" => "It is done",
        "304" => "It is as the asker knows it",
        _ => "What was asked for",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_add_and_annotations_win() {
        let mut document = json!({
            "components": { "schemas": { "Cpus": { "type": "integer", "format": "int32", "minimum": 0 } } },
            "paths": { "/api/v1/vms/{name}": { "put": {
                "requestBody": {},
                "parameters": [{ "name": "name", "in": "path", "schema": { "type": "string" } }],
                "responses": { "200": { "description": "", "headers": { "ETag": {} } }, "404": { "description": "mine" }, "4XX": {} }
            } } }
        });
        complete(&mut document);
        assert_eq!(
            document["components"]["schemas"]["Cpus"],
            json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
        );
        let operation = &document["paths"]["/api/v1/vms/{name}"]["put"];
        let statuses: Vec<&String> = operation["responses"].as_object().unwrap().keys().collect();
        let wanted = "200 400 401 403 404 408 409 412 413 415 422 429 500 502 503 504";
        assert_eq!(statuses, wanted.split(' ').collect::<Vec<_>>());
        assert_eq!(operation["responses"]["404"]["description"], "mine");
        assert!(operation["responses"]["200"]["headers"]["ETag"].is_object());
        assert!(operation["responses"]["200"]["headers"]["Waifu-Index"].is_object());
        assert!(operation["parameters"][0]["schema"]["pattern"].is_string());
    }
}
