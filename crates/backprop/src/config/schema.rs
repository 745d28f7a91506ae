//! The JSON schema of configurations, for editors: derived from the types, with the ranges of `range.rs`.

use super::{Config, range};
use serde_json::{Map, Value, json};

/// The JSON schema (draft 2020-12) of configurations. Its descriptions are those of this documentation without links and examples.
///
/// ```
/// let schema = backprop::config::json_schema();
/// assert_eq!(schema["required"][0], "data");
/// ```
pub fn json_schema() -> Value {
    let mut schema = Value::from(schemars::schema_for!(Config));
    tidy(&mut schema);
    schema["title"] = "Configuration of backprop".into();
    // What a file must have; a configuration that is written out has all.
    schema["required"] = json!(["data", "layers", "loss", "optimizer"]);
    schema["additionalProperties"] = false.into();
    let sections: Vec<(String, String)> = match &schema["properties"] {
        Value::Object(sections) => sections.iter().filter_map(|(name, s)| Some((name.clone(), definition(s)?))).collect(),
        _ => Vec::new(),
    };
    let Some(Value::Object(definitions)) = schema.get_mut("$defs") else { return schema };
    for definition in definitions.values_mut().filter_map(Value::as_object_mut) {
        // Alternatives beside common keys: what neither knows is a mistake.
        if definition.contains_key("oneOf") && definition.contains_key("properties") {
            definition.insert("unevaluatedProperties".into(), false.into());
        }
    }
    for (section, definition) in sections {
        definitions.get_mut(&definition).into_iter().for_each(|d| bound(d, &section));
    }
    schema
}

/// The name of the definition that a section, or each of its entries, refers to.
fn definition(section: &Value) -> Option<String> {
    let reference = section.get("$ref").or_else(|| section.get("items")?.get("$ref"))?;
    Some(reference.as_str()?.trim_start_matches("#/$defs/").into())
}

/// Adds the ranges of a section's keys, alternatives included.
fn bound(definition: &mut Value, section: &str) {
    for (key, property) in definition.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        let Some(bounds) = range::bounds(section, key) else { continue };
        let target = if property.get("items").is_some() { &mut property["items"] } else { property };
        // `minimum: 0` of an unsigned integer may already be there, and be too low.
        target.as_object_mut().into_iter().for_each(|p| p.extend(bounds.clone()));
    }
    for alternative in definition.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten() {
        bound(alternative, section);
    }
}

/// Descriptions as plain text, no widths of machine numbers, no `null`, which TOML does not have.
fn tidy(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(object) => {
            object.values_mut().for_each(tidy);
            // A key called `description` or `format` has an object here.
            if let Some(text) = object.get("description").and_then(Value::as_str).map(plain) {
                object.insert("description".into(), text.into());
            }
            if object.get("format").is_some_and(Value::is_string) {
                object.remove("format");
            }
            without_null(object);
        }
        _ => {}
    }
}

fn without_null(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|t| t != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".into(), only);
        }
    }
    let Some(Value::Array(any)) = object.get_mut("anyOf") else { return };
    any.retain(|a| a.get("type").is_none_or(|t| t != "null"));
    if let [Value::Object(only)] = any.as_slice() {
        let only = only.clone();
        object.remove("anyOf");
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}

/// A description without examples and links.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for (i, part) in text.split("```").enumerate() {
        // Code stands between the first and the second mark, the third and the fourth, ….
        if i.is_multiple_of(2) {
            out.push_str(part);
        }
    }
    let mut rest = out.as_str();
    let mut plain = String::new();
    while let Some((before, link)) = rest.split_once("[`") {
        let Some((name, after)) = link.split_once("`]") else { break };
        plain.push_str(before);
        plain.push_str(&format!("`{name}`"));
        rest = match after.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_, after)) => after,
            None => after,
        };
    }
    plain.push_str(rest);
    // Readers of TOML have no use for pointers into the code.
    if let Some((before, after)) = plain.split_once(": see `")
        && let Some((_, after)) = after.split_once('`')
    {
        plain = format!("{before}{after}");
    }
    let paragraphs = plain.split("\n\n").map(|p| p.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.filter(|p| !p.is_empty()).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_plain() {
        let text = "Reads [`text`](crate::text) and [`Other`],\nas is.\n\n```\ncode\n```\n";
        assert_eq!(plain(text), "Reads `text` and `Other`, as is.");
        assert_eq!(plain("IDX files: see [`idx`](crate::idx)."), "IDX files.");
    }

    #[test]
    fn ranges_are_in_the_schema() {
        let schema = json_schema();
        let train = &schema["$defs"]["TrainConfig"]["properties"];
        assert_eq!(train["epochs"]["minimum"], 1);
        assert_eq!(train["clip_norm"]["exclusiveMinimum"], 0);
        assert_eq!(train["clip_norm"]["type"], "number");
        let [adam] = schema["$defs"]["OptimizerConfig"]["oneOf"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|o| o["properties"]["type"]["const"] == "adam")
            .collect::<Vec<_>>()[..]
        else {
            panic!("one adam")
        };
        assert_eq!(adam["properties"]["betas"]["items"]["exclusiveMaximum"], 1);
    }
}
