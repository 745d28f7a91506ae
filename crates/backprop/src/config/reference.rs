//! The reference of configurations, written from their schema.

use super::schema::json_schema;
use serde_json::{Map, Value};
use std::{collections::BTreeSet, fmt::Write};

const INTRODUCTION: &str = "# Configuration

Made by `cargo xtask reference` from the types that read the files; a test fails when it is out of date. The same as a JSON schema for
editors: [backprop.schema.json](backprop.schema.json), printed by `backprop schema`. With the line

```toml
#:schema docs/backprop.schema.json
```

at the top of a configuration (the path or address of that file), editors with Taplo or Even Better TOML complete and check keys.

A configuration has the tables `[data]`, `[[layers]]` (once per layer), `[loss]`, `[optimizer]`, and may have `[schedule]` and `[train]`.
`backprop train --set KEY=VALUE` replaces one value, as in `--set train.epochs=5` or `--set layers.0.out_features=64`. Unknown keys and
numbers out of range are errors that show the line. `format = 1` at the top is the version of the format; without it, it is 1.
";

/// The sections in the order a configuration has them, each with its heading.
const SECTIONS: [(&str, &str); 6] = [
    ("data", "`[data]`: data sources"),
    ("layers", "`[[layers]]`: layers"),
    ("loss", "`[loss]`: losses"),
    ("optimizer", "`[optimizer]`: optimizers"),
    ("schedule", "`[schedule]`: learning-rate schedules"),
    ("train", "`[train]`: training, metrics, checkpoints"),
];

/// The configuration reference in Markdown: every section, every alternative, every key with type, default and meaning.
pub fn reference() -> String {
    let schema = json_schema();
    let mut page = Page { schema: &schema, out: INTRODUCTION.into(), named: BTreeSet::new() };
    for (section, heading) in SECTIONS {
        page.section(section, heading);
    }
    page.types();
    page.out
}

struct Page<'a> {
    schema: &'a Value,
    out: String,
    /// Definitions that were referred to.
    named: BTreeSet<&'a str>,
}

impl<'a> Page<'a> {
    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn definition(&self, value: &'a Value) -> Option<(&'a str, &'a Value)> {
        let name = value.get("$ref")?.as_str()?.trim_start_matches("#/$defs/");
        Some((name, self.schema["$defs"].get(name)?))
    }

    fn section(&mut self, section: &str, heading: &str) {
        let property = &self.schema["properties"][section];
        let property = property.get("items").unwrap_or(property);
        let Some((_, definition)) = self.definition(property) else { return };
        self.line(&format!("\n## {heading}\n"));
        self.line(text(definition));
        if definition.get("properties").is_some() {
            self.keys(definition, &[]);
        }
        for alternative in alternatives(definition) {
            let Some((tag, name)) = tag(alternative) else { continue };
            self.line(&format!("\n### `{tag} = \"{name}\"`\n"));
            self.line(text(alternative));
            self.keys(alternative, &[tag]);
        }
    }

    /// The table of keys of an object, but those of `except`.
    fn keys(&mut self, object: &'a Value, except: &[&str]) {
        let Some(Value::Object(properties)) = object.get("properties") else { return };
        let mut keys: Vec<(&String, &Value)> = properties.iter().filter(|(key, _)| !except.contains(&key.as_str())).collect();
        let required = |key: &str| object["required"].as_array().is_some_and(|r| r.iter().any(|k| k == key));
        keys.sort_by_key(|(key, _)| !required(key));
        if keys.is_empty() {
            return;
        }
        self.line("\n| Key | Type | Default | Meaning |\n|---|---|---|---|");
        for (key, property) in keys {
            let default = match property.get("default") {
                _ if required(key) => "required".into(),
                Some(default) => format!("`{}`", toml(default)),
                None => "–".into(),
            };
            let (ty, meaning) = (self.ty(property), text(property).replace('\n', " "));
            let row = [&format!("`{key}`"), &ty, &default, &meaning].map(|cell| cell.replace('|', "\\|"));
            self.line(&format!("| {} |", row.join(" | ")));
        }
    }

    /// A type in words.
    fn ty(&mut self, value: &'a Value) -> String {
        if let Some((name, definition)) = self.definition(value) {
            if let Some(words) = words(definition) {
                return words;
            }
            if name == "LayerSpec" {
                return "[layer](#layers-layers)".into();
            }
            self.named.insert(name);
            return format!("[{name}](#{})", name.to_lowercase());
        }
        if let Some(any) = value.get("anyOf").or_else(|| value.get("oneOf")).and_then(Value::as_array) {
            return any.iter().map(|a| self.ty(a)).collect::<Vec<_>>().join(" or ");
        }
        if let Some(constant) = value.get("const") {
            return format!("`{}`", toml(constant));
        }
        match value.get("type").and_then(Value::as_str) {
            Some("string") => "text".into(),
            Some("boolean") => "`true` or `false`".into(),
            Some("integer") => format!("whole number{}", range(value)),
            Some("number") => format!("number{}", range(value)),
            Some("array") => self.list(value),
            Some("object") => self.object(value),
            _ => "any".into(),
        }
    }

    fn list(&mut self, value: &'a Value) -> String {
        let items = value.get("items").map_or("any".into(), |items| self.ty(items));
        let items = match items.as_str() {
            "text" => "texts".into(),
            "any" => "values".into(),
            // The range follows the word.
            words if words.starts_with("whole number") || words.starts_with("number") => words.replacen("number", "numbers", 1),
            _ => items,
        };
        match value.get("minItems").and_then(Value::as_u64) {
            Some(length) if value.get("maxItems") == value.get("minItems") => format!("list of {length} {items}"),
            _ => format!("list of {items}"),
        }
    }

    fn object(&mut self, value: &'a Value) -> String {
        if let Some(entries) = value.get("additionalProperties").filter(|a| a.is_object()) {
            return format!("table of {}", self.ty(entries));
        }
        let properties = value.get("properties").and_then(Value::as_object).into_iter().flatten();
        let keys: Vec<String> = properties.map(|(key, v)| format!("`{key}`: {}", self.ty(v))).collect();
        if keys.is_empty() { "table".into() } else { format!("{{ {} }}", keys.join(", ")) }
    }

    /// The definitions that were referred to, and those they refer to.
    fn types(&mut self) {
        self.line("\n## Types\n\nWhat the types that the tables above name can hold.");
        let mut done: BTreeSet<&str> = BTreeSet::new();
        while let Some(name) = self.named.difference(&done).next().copied() {
            done.insert(name);
            let definition = &self.schema["$defs"][name];
            self.line(&format!("\n### {name}\n\n{}", text(definition)));
            if definition.get("properties").is_some() {
                self.keys(definition, &[]);
            }
            let mut list = String::new();
            for alternative in alternatives(definition) {
                let (ty, meaning) = (self.ty(alternative), text(alternative));
                let colon = if meaning.is_empty() { "" } else { ": " };
                // Writing to a string cannot fail.
                let _ = write!(list, "\n- {ty}{colon}{}", meaning.replace('\n', " "));
            }
            if !list.is_empty() {
                self.line(&list);
            }
        }
    }
}

fn text(value: &Value) -> &str {
    let text = value.get("description").and_then(Value::as_str).unwrap_or_default();
    // Names of types alone say nothing to readers of TOML.
    if text.starts_with('`') && text.ends_with('`') && !text.contains(' ') { "" } else { text }
}

fn alternatives(value: &Value) -> impl Iterator<Item = &Value> {
    value.get("oneOf").or_else(|| value.get("anyOf")).and_then(Value::as_array).into_iter().flatten()
}

/// The key and the word that tell an alternative apart.
fn tag(alternative: &Value) -> Option<(&'static str, &str)> {
    let word = |key| alternative.get("properties")?.get(key)?.get("const")?.as_str();
    ["source", "type"].into_iter().find_map(|key| Some((key, word(key)?)))
}

/// The words of a definition that is a choice of words only.
fn words(definition: &Value) -> Option<String> {
    if let Some(words) = definition.get("enum").and_then(Value::as_array) {
        return Some(words.iter().map(|w| format!("`{}`", toml(w))).collect::<Vec<_>>().join(", "));
    }
    let words: Option<Vec<String>> = alternatives(definition).map(|a| Some(format!("`{}`", toml(a.get("const")?)))).collect();
    words.filter(|w| !w.is_empty()).map(|w| w.join(", "))
}

/// The bounds of a number: `, above 0`.
fn range(value: &Value) -> String {
    let number = |key: &str| value.get(key).map(toml);
    let low = match (number("minimum"), number("exclusiveMinimum")) {
        (Some(low), _) => format!(" from {low}"),
        (None, Some(low)) => format!(" above {low}"),
        (None, None) => String::new(),
    };
    let high = match (number("maximum"), number("exclusiveMaximum")) {
        (Some(high), _) => format!(" to {high}"),
        (None, Some(high)) => format!(" to below {high}"),
        (None, None) => String::new(),
    };
    low + &high
}

/// A value as TOML writes it.
fn toml(value: &Value) -> String {
    let table = |map: &Map<String, Value>| map.iter().map(|(k, v)| format!("{k} = {}", toml(v))).collect::<Vec<_>>().join(", ");
    match value {
        Value::Object(map) if map.is_empty() => "{}".into(),
        Value::Object(map) => format!("{{ {} }}", table(map)),
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
