//! A server that keeps documents for guests as a real one does: with a generation, and refusing what was overtaken or cannot
//! be right.

use super::{Fake, Reply, ok, problem, refuse};
use http::{Method, request::Parts};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard};
use waifud_api::problem::{Problem, ProblemCode};

/// What it keeps.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) documents: Value,
    pub(crate) generation: u64,
    /// The queries of all that was taken.
    pub(crate) taken: Vec<String>,
    /// What somebody else saves just before the next write.
    pub(crate) meanwhile: Option<Value>,
    /// What every write is refused with.
    pub(crate) refusing: Option<ProblemCode>,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Store(Arc<Mutex<Kept>>);

impl Store {
    /// At generation 7.
    pub(crate) fn new(documents: Value) -> Self {
        Self(Arc::new(Mutex::new(Kept { documents, generation: 7, ..Kept::default() })))
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }

    pub(crate) fn user_data(&self) -> String {
        self.kept().documents["user_data"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn serve(&self) -> Fake {
        let store = self.clone();
        Fake::serve_whole(move |head, body| {
            assert!(head.uri.path().ends_with("/cloud-init"), "{}", head.uri);
            let mut kept = store.kept();
            if head.method == Method::PUT { kept.put(head, body) } else { tagged(kept.generation, &kept.documents) }
        })
    }
}

impl Kept {
    fn put(&mut self, head: &Parts, body: &[u8]) -> Reply {
        assert!(head.headers.contains_key("idempotency-key"));
        if let Some(code) = self.refusing {
            return refuse(code);
        }
        if let Some(documents) = self.meanwhile.take() {
            self.documents = documents;
            self.generation += 1;
        }
        if head.headers["if-match"] != format!("\"{}\"", self.generation) {
            return refuse(ProblemCode::Stale);
        }
        let documents: Value = serde_json::from_slice(body).unwrap();
        let text = documents["user_data"].as_str().unwrap_or_default();
        let line = |word: &str| text.lines().position(|line| line.contains(word)).map(|n| n + 1);
        if let Some(line) = line("broken") {
            let why = format!("line {line}, column 1: it is not YAML");
            let detail = format!("user_data: {why}");
            return problem(&Problem::new(ProblemCode::Invalid, detail).with_field("user_data", why));
        }
        let odd = line("pakages").map(|n| format!("user_data: line {n}: cloud-init does not know `pakages`"));
        let query = head.uri.query().unwrap_or_default();
        if !query.contains("dry_run") {
            self.documents = documents.clone();
            self.generation += 1;
            self.taken.push(query.to_owned());
        }
        let saved = json!({ "generation": self.generation, "instance_id": "i-7-2", "warnings": Vec::from_iter(odd) });
        tagged(self.generation, &saved)
    }
}

fn tagged(generation: u64, value: &Value) -> Reply {
    let mut reply = ok(value.clone());
    reply.headers_mut().insert("etag", format!("\"{generation}\"").parse().unwrap());
    reply
}
