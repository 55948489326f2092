//! The JSON Schema (2020-12) of the documents, made of the same types: for editors that complete and check while one types.
//!
//! OpenAPI 3.1's schemas are JSON Schema already; what is added is the root, which says how documents stand in a file, and
//! `kind`.

use super::{KINDS, NodeDocument, Size, TemplateDocument, VmDocument};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, OneOfBuilder, RefOr, Schema, SchemaFormat, Type},
};

/// A document for a guest within a document: a text, a mapping, or bytes.
#[derive(Debug)]
pub(super) struct Inline;

impl PartialSchema for Inline {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .item(ObjectBuilder::new().schema_type(Type::String).description(Some("The document, byte for byte.")))
            .item(ObjectBuilder::new().schema_type(Type::Object).description(Some(
                "The document as a mapping, or with the one key `base64` its bytes in standard base64 with padding.",
            )))
            .into()
    }
}

impl ToSchema for Inline {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("InlineDocument")
    }
}

impl PartialSchema for Size {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .description(Some("A number of bytes: 512M, 1.5G, or the number."))
            .item(
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .pattern(Some(r"^\s*[0-9]+(\.[0-9]+)?\s*([KkMmGgTt]([Ii]?[Bb])?|[Bb])?\s*$")),
            )
            .item(
                ObjectBuilder::new()
                    .schema_type(Type::Integer)
                    .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
                    .minimum(Some(0)),
            )
            .into()
    }
}

impl ToSchema for Size {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Size")
    }
}

/// The schema of a file for `waifuctl apply`: one document, a list of them, or lists by kind.
#[must_use]
pub fn json_schema() -> Value {
    let schemas = [VmDocument::schema(), TemplateDocument::schema(), NodeDocument::schema()];
    let mut parts: Vec<_> = KINDS.map(str::to_owned).into_iter().zip(schemas).collect();
    VmDocument::schemas(&mut parts);
    TemplateDocument::schemas(&mut parts);
    NodeDocument::schemas(&mut parts);
    // What cannot be written as JSON is not in these types; were it, the test below would say so.
    let mut defs: Map<String, Value> =
        parts.into_iter().filter_map(|(name, part)| Some((name, serde_json::to_value(part).ok()?))).collect();
    for kind in KINDS {
        if let Some(properties) = defs.get_mut(kind).and_then(|part| part.get_mut("properties")?.as_object_mut()) {
            properties.insert("kind".to_owned(), json!({ "const": kind, "description": "What this describes." }));
        }
    }
    let of = |kind: &str| json!({ "$ref": format!("#/$defs/{kind}") });
    let document = json!({ "required": ["kind"], "oneOf": KINDS.map(of) });
    let lists: Map<_, _> = KINDS
        .map(|kind| {
            (kind.to_owned(), json!({ "type": "array", "items": of(kind), "description": "Documents of this kind." }))
        })
        .into_iter()
        .collect();
    defs.insert("document".to_owned(), document);
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "waifuctl apply",
        "description": "VMs, templates and labels of nodes as they shall be.",
        "oneOf": [
            { "$ref": "#/$defs/document" },
            { "type": "array", "items": { "$ref": "#/$defs/document" } },
            { "type": "object", "properties": lists, "additionalProperties": false, "minProperties": 1 },
        ],
        "$defs": defs,
    });
    moved(&mut schema);
    schema
}

/// Has references point to where the parts are here.
fn moved(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(to) if key == "$ref" => *to = to.replace("#/components/schemas/", "#/$defs/"),
                    other => moved(other),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(moved),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let schema = json_schema();
        let mut found = Vec::new();
        references(&schema, &mut found);
        assert!(found.len() > 8, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(schema.pointer(pointer).is_some(), "{reference}");
        }
        for kind in KINDS {
            let part = &schema["$defs"][kind];
            assert_eq!(part["additionalProperties"], json!(false), "{kind}");
            assert_eq!(part["properties"]["kind"]["const"], json!(kind));
        }
        assert_eq!(schema["$defs"]["vm"]["required"], json!(["name", "template"]));
    }
}
