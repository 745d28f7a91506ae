//! The JSON schema and the reference are current, and the schema accepts what the program accepts.

use backprop::config::{Config, json_schema, reference};
use serde_json::{Map, Value};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(file: impl AsRef<Path>) -> String {
    let file = root().join(file);
    fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

#[test]
fn the_schema_and_the_reference_are_current() {
    let current: Value = serde_json::from_str(&read("docs/backprop.schema.json")).unwrap();
    assert!(current == json_schema(), "docs/backprop.schema.json is out of date: run cargo xtask reference");
    assert!(read("docs/configuration.md") == reference(), "docs/configuration.md is out of date: run cargo xtask reference");
}

#[test]
fn the_models_of_the_repository_fit_the_schema() {
    let schema = json_schema();
    let mut models = 0;
    for folder in ["models", "examples", "bench/cpu"] {
        for entry in fs::read_dir(root().join(folder)).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "toml") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(problem(&schema, &toml::from_str(&text).unwrap()), None, "{}", path.display());
            // Written out with every default, it still fits.
            let config = Config::parse("m", &text, Path::new(""), &[]).unwrap();
            assert_eq!(problem(&schema, &toml::from_str(&config.to_toml().unwrap()).unwrap()), None, "{}", path.display());
            models += 1;
        }
    }
    assert!(models >= 5);
}

#[test]
fn the_schema_refuses_what_the_program_refuses() {
    let schema = json_schema();
    let good = read("models/mlp-digits.toml");
    for (from, to) in [
        ("out_features = 64", "out_feature = 64"),
        ("out_features = 64", "out_features = \"64\""),
        ("out_features = 64", "out_features = 0"),
        ("type = \"relu\"", "type = \"rleu\""),
        ("source = \"digits\"", "source = \"digit\""),
        ("source = \"digits\"", "source = \"digits\"\npath = \"x\""),
        ("momentum = 0.9", "momentum = 1.0"),
        ("epochs = 30", "epoch = 30"),
        ("[train]", "[training]"),
        ("type = \"cross_entropy\"", ""),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        assert!(Config::parse("m", &text, Path::new(""), &[]).is_err(), "the program accepts {to}");
        assert!(problem(&schema, &toml::from_str(&text).unwrap()).is_some(), "the schema accepts {to}");
    }
}

/// What is wrong with a value by a schema, or nothing. Knows the keywords that our schema has, and refuses others.
fn problem(schema: &Value, value: &Value) -> Option<String> {
    let mut known = BTreeSet::new();
    check(schema, schema, value, &mut known).err()
}

/// Checks a value; `seen` gets the keys of the object that were described.
fn check(root: &Value, schema: &Value, value: &Value, seen: &mut BTreeSet<String>) -> Result<(), String> {
    let Value::Object(schema) = schema else {
        return if schema == false { Err(format!("nothing allows {value}")) } else { Ok(()) };
    };
    for (keyword, argument) in schema {
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "pattern" => {}
            "$ref" => {
                let pointer = argument.as_str().unwrap().trim_start_matches('#');
                check(root, root.pointer(pointer).expect("a definition"), value, seen)?;
            }
            "oneOf" | "anyOf" => one_of(root, argument, value, seen, keyword == "oneOf")?,
            "type" => {
                let types = argument.as_array().cloned().unwrap_or_else(|| vec![argument.clone()]);
                require(types.iter().any(|t| is(value, t.as_str().unwrap())), value, &format!("is not of type {argument}"))?;
            }
            "const" => require(value == argument, value, &format!("is not {argument}"))?,
            "enum" => require(argument.as_array().unwrap().contains(value), value, &format!("is none of {argument}"))?,
            "properties" | "required" | "additionalProperties" | "unevaluatedProperties" => {}
            "items" => value.as_array().into_iter().flatten().try_for_each(|v| check(root, argument, v, &mut BTreeSet::new()))?,
            "minItems" => {
                require(value.as_array().is_none_or(|a| a.len() as u64 >= argument.as_u64().unwrap()), value, "is too short")?
            }
            "maxItems" => {
                require(value.as_array().is_none_or(|a| a.len() as u64 <= argument.as_u64().unwrap()), value, "is too long")?
            }
            "minLength" | "maxLength" => {}
            "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum" => {
                let (Some(number), limit) = (value.as_f64(), argument.as_f64().unwrap()) else { continue };
                let fits = match keyword.as_str() {
                    "minimum" => number >= limit,
                    "exclusiveMinimum" => number > limit,
                    "maximum" => number <= limit,
                    _ => number < limit,
                };
                require(fits, value, &format!("breaks {keyword} {argument}"))?;
            }
            other => panic!("the schema has the keyword {other}, which this check does not know"),
        }
    }
    if let Value::Object(object) = value { keys(root, schema, object, seen) } else { Ok(()) }
}

fn one_of(root: &Value, schemas: &Value, value: &Value, seen: &mut BTreeSet<String>, only: bool) -> Result<(), String> {
    let mut why = Vec::new();
    let mut fitting = 0;
    for schema in schemas.as_array().unwrap() {
        let mut keys = BTreeSet::new();
        match check(root, schema, value, &mut keys) {
            Ok(()) => {
                fitting += 1;
                seen.extend(keys);
            }
            Err(e) => why.push(e),
        }
    }
    let enough = if only { fitting == 1 } else { fitting > 0 };
    if enough { Ok(()) } else { Err(format!("{value} fits {fitting} alternatives: {}", why.join("; "))) }
}

fn keys(
    root: &Value,
    schema: &Map<String, Value>,
    object: &Map<String, Value>,
    seen: &mut BTreeSet<String>,
) -> Result<(), String> {
    let properties = schema.get("properties").and_then(Value::as_object);
    for key in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        if !object.contains_key(key.as_str().unwrap()) {
            return Err(format!("the key {key} is missing"));
        }
    }
    for (key, value) in object {
        if let Some(property) = properties.and_then(|p| p.get(key)) {
            check(root, property, value, &mut BTreeSet::new()).map_err(|e| format!("{key}: {e}"))?;
            seen.insert(key.clone());
        } else if let Some(additional) = schema.get("additionalProperties") {
            check(root, additional, value, &mut BTreeSet::new()).map_err(|e| format!("unknown key {key}: {e}"))?;
            seen.insert(key.clone());
        }
    }
    match (schema.get("unevaluatedProperties"), object.keys().find(|key| !seen.contains(*key))) {
        (Some(Value::Bool(false)), Some(key)) => Err(format!("unknown key {key}")),
        _ => Ok(()),
    }
}

fn require(fits: bool, value: &Value, why: &str) -> Result<(), String> {
    if fits { Ok(()) } else { Err(format!("{value} {why}")) }
}

fn is(value: &Value, ty: &str) -> bool {
    match ty {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|v| v.fract() == 0.0),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => value.is_null(),
    }
}
