//! As much of JSON Schema 2020-12 as our own schema says. A word of a schema that is not known here ends the test: nothing is
//! taken for right because it was not understood.

use serde_json::{Map, Value};
use waifud_model::size::ByteSize;

/// What says nothing about validity.
const SILENT: [&str; 7] = ["$schema", "$defs", "title", "description", "format", "propertyNames", "default"];

/// What is wrong with `value`, with the way to it; none if it is as `schema`, a part of `root`, says.
pub(crate) fn faults(root: &Value, schema: &Value, value: &Value, way: &str) -> Vec<String> {
    let Some(words) = schema.as_object() else {
        return if *schema == Value::Bool(true) { Vec::new() } else { vec![format!("{way}: nothing is allowed here")] };
    };
    words
        .iter()
        .filter(|(word, _)| !SILENT.contains(&word.as_str()))
        .flat_map(|(word, means)| one(root, words, word, means, value, way))
        .collect()
}

fn one(root: &Value, schema: &Map<String, Value>, word: &str, means: &Value, value: &Value, way: &str) -> Vec<String> {
    let whether = |right: bool| if right { Vec::new() } else { vec![format!("{way}: {value} is not {word} {means}")] };
    let each = |key: &str, part: &Value, value: &Value| faults(root, part, value, &format!("{way}/{key}"));
    let fits = |part: &&Value| faults(root, part, value, way).is_empty();
    let parts = || means.as_array().unwrap().iter();
    match word {
        "$ref" => {
            let pointer = means.as_str().unwrap().strip_prefix('#').unwrap();
            faults(root, root.pointer(pointer).expect("a reference leads somewhere"), value, way)
        }
        "const" => whether(value == means),
        "enum" => whether(parts().any(|one| one == value)),
        "type" => whether(match means {
            Value::Array(types) => types.iter().any(|one| is(value, one.as_str().unwrap())),
            one => is(value, one.as_str().unwrap()),
        }),
        "oneOf" if parts().filter(fits).count() == 1 => Vec::new(),
        "oneOf" => {
            let why: Vec<_> = parts().flat_map(|part| faults(root, part, value, way)).collect();
            vec![format!("{way}: not exactly one of them: {}", why.join(" | "))]
        }
        "allOf" => parts().flat_map(|part| faults(root, part, value, way)).collect(),
        "required" => {
            whether(value.as_object().is_none_or(|map| parts().all(|key| map.contains_key(key.as_str().unwrap()))))
        }
        "minProperties" => whether(value.as_object().is_none_or(|map| map.len() as u64 >= means.as_u64().unwrap())),
        "minimum" => whether(value.as_f64().is_none_or(|number| number >= means.as_f64().unwrap())),
        // There is one, that of sizes.
        "pattern" => whether(value.as_str().is_none_or(|text| text.parse::<ByteSize>().is_ok())),
        "items" => {
            let items = value.as_array().into_iter().flatten().enumerate();
            items.flat_map(|(n, item)| each(&n.to_string(), means, item)).collect()
        }
        "properties" => {
            let known = value.as_object().into_iter().flatten();
            known
                .filter_map(|(key, value)| Some((key, means.get(key)?, value)))
                .flat_map(|(key, part, value)| each(key, part, value))
                .collect()
        }
        "additionalProperties" => {
            let known = |key: &str| schema.get("properties").is_some_and(|known| known.get(key).is_some());
            let others = value.as_object().into_iter().flatten().filter(|(key, _)| !known(key));
            others.flat_map(|(key, value)| each(key, means, value)).collect()
        }
        other => panic!("{way}: what {other:?} means in a schema is not known here"),
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("there is no type {other:?}"),
    }
}
