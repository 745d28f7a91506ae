//! Texts: an LSTM that predicts the next character.

use super::{
    Proposal, ProposeError, Request, Usage, epochs, load, training,
    write::{Writer, int},
};
use backprop_data::{Source, coding::TargetCoding};
use std::{fs::File, io::Read, path::Path};
use toml::Value;

/// Steps of a training.
const STEPS: u64 = 2_000;

pub(super) fn propose(request: &Request) -> Result<Proposal, ProposeError> {
    let file = request.data.display().to_string();
    let error = |why: String| ProposeError::Kind { file: file.clone(), why };
    let bytes =
        std::fs::metadata(&request.data).map_err(|source| backprop_data::DataError::Io { file: file.clone(), source })?.len();
    let sequence = match bytes {
        0..2_000 => 16,
        2_000..20_000 => 32,
        _ => 64,
    };
    let small = bytes < 2_000;
    let (validation, test) = if small { (0.0, 0.0) } else { (0.1, 0.1) };
    let keys = serde_json::json!({ "source": "text", "path": request.data, "sequence": sequence, "test": test });
    let source: Source = serde_json::from_value(keys).map_err(|e| error(e.to_string()))?;
    let loaded = load(&source, None, validation)?;
    let TargetCoding::Token { vocabulary } = &loaded.coding.target else { return Err(error("was not read as a text".into())) };
    let (rows, tokens) = (loaded.parts.train.len() as u64, vocabulary.len());
    if tokens < 2 {
        return Err(error("has one character only, again and again: there is nothing to predict; give another text".into()));
    }
    let hidden = match bytes {
        0..20_000 => 64,
        20_000..500_000 => 128,
        _ => 256,
    };
    if file.ends_with(".gz") {
        return Err(error("is compressed; unpack it, so that its size tells which network fits".into()));
    }
    let mut w = Writer::new(&format!("Which character comes next? Written by backprop init for {file}."));
    w.table("[data]");
    w.set("source", "text");
    w.set("path", request.written.display().to_string());
    w.comment(
        "Characters that are read at a time: what the network can remember. A long text has enough samples of this length.",
    );
    w.set("sequence", int(sequence));
    if small {
        w.comment("So short a text is all trained on: nothing is left to measure on.");
    } else {
        w.comment("Shares from the end of the text that are kept apart.");
    }
    w.set("validation", validation);
    w.set("test", test);
    let why = format!("The text has {tokens} different characters; each becomes a learnt row of numbers.");
    w.layer_because(&why, "embedding", [("num_embeddings", int(tokens)), ("embedding_dim", int(32))]);
    w.layer_because("Larger for longer texts, which can teach more.", "lstm", [("hidden_size", int(hidden))]);
    if bytes < 500_000 {
        w.layer_because("Against learning the text by heart.", "dropout", [("p", Value::Float(0.2))]);
    }
    w.layer_because("One score for each character.", "linear", [("out_features", int(tokens))]);
    w.table("[loss]");
    w.set("type", "cross_entropy");
    let batch = 32.min(rows.max(1));
    training(&mut w, rows, batch, epochs(rows, batch, STEPS, 5, 50), validation > 0.0);
    let mut found = vec![format!("{file}: {bytes} bytes of text, {tokens} different characters")];
    found.extend(loaded.findings.iter().cloned());
    let chosen = format!("prediction of the next character by an LSTM of {hidden} units over {sequence} characters");
    Ok(Proposal { found, chosen, toml: w.finish(), usage: Usage::Generate { prompt: first_word(&request.data) } })
}

/// The first word of a file, or nothing if it begins with none.
fn first_word(file: &Path) -> String {
    let mut beginning = Vec::new();
    let read = File::open(file).and_then(|f| f.take(256).read_to_end(&mut beginning));
    let text = String::from_utf8_lossy(&beginning);
    let words = || text.split(|c: char| !c.is_alphanumeric()).find(|w| !w.is_empty());
    read.ok().and_then(|_| words()).unwrap_or_default().into()
}
