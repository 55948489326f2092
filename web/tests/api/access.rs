//! Nobody gets anywhere without being known, and nobody further than their role.

use crate::house::{House, get, json};
use http::{Method, StatusCode};
use serde_json::Value;
use waifud_model::token::Role;

/// What needs no caller.
const PUBLIC: [&str; 2] = ["/healthz", "/readyz"];

/// What an operator may change; everything else that changes something takes an admin.
const OPERATORS: [&str; 3] = ["/api/v1/vms", "/api/v1/templates", "/api/v1/vms/"];

/// Every operation of the API, as it describes itself.
async fn operations(house: &House) -> Vec<(Method, String)> {
    let document: Value = house.nodes[0].get("/api/v1/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let path = path.replace("{kind}", "vm").replace("{name}", "web-1").replace("{id}", "0000000000000001");
        let methods = item.as_object().unwrap().keys().filter_map(|m| m.to_uppercase().parse().ok());
        methods.map(|method| (method, path.clone())).collect::<Vec<(Method, String)>>()
    };
    paths.iter().flat_map(of_path).collect()
}

#[tokio::test]
async fn strangers_get_nothing_but_what_is_public() {
    let house = House::start(1).await;
    let operations = operations(&house).await;
    assert!(operations.len() > 20, "{operations:?}");
    for (method, path) in operations {
        let answer = house.nodes[0].send(json(method.clone(), &path, "{}")).await;
        if PUBLIC.contains(&path.as_str()) {
            assert_eq!(answer.status, StatusCode::OK, "{method} {path}");
        } else {
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"waifud\"");
            assert_eq!(answer.header("waifu-applied"), "", "{method} {path} tells nothing about the state");
        }
    }
    assert_eq!(house.nodes[0].send(get("/api/v1/openapi.json")).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn roles_end_where_they_end() {
    let house = House::start(1).await;
    let node = &house.nodes[0];
    for (method, path) in operations(&house).await {
        let looks = method == Method::GET;
        let secrets = path.ends_with("tokens") || path.ends_with("audit");
        let documents = path.ends_with("cloud-init");
        // What a guest shows is its owner's, and a console is a way in.
        let lines = ["/console", "/vnc", "/logs"].iter().any(|end| path.ends_with(end));
        let viewer = node.call_as(Role::Viewer, json(method.clone(), &path, "{}")).await.status;
        assert_eq!(
            viewer == StatusCode::FORBIDDEN,
            !looks && !PUBLIC.contains(&path.as_str()) || secrets || documents || lines,
            "viewer {method} {path}"
        );
        let operator = node.call_as(Role::Operator, json(method.clone(), &path, "{}")).await.status;
        let may = looks && !secrets || OPERATORS.iter().any(|prefix| path.starts_with(prefix));
        assert_eq!(operator == StatusCode::FORBIDDEN, !may, "operator {method} {path}");
    }
}

#[tokio::test]
async fn viewers_get_the_schema_of_the_files_they_apply() {
    let house = House::start(1).await;
    let answer = house.nodes[0].call_as(Role::Viewer, get("/api/v1/schema/apply.json")).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/schema+json"));
    assert_eq!(answer.json(), waifud_api::document::json_schema());
}

/// All references of a document.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("$ref").and_then(Value::as_str));
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_holds_all_that_it_refers_to() {
    let house = House::start(1).await;
    let document: Value = house.nodes[0].get("/api/v1/openapi.json").await.json();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 100, "{}", found.len());
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
}
