//! Images: a small convolutional network sized to them.

use super::{
    Proposal, ProposeError, Request, Usage, batch_size, class_weights, epochs, load, shares,
    table::counts,
    training,
    write::{Writer, int},
};
use backprop_data::{
    Dataset, ImageFolder, Source,
    coding::{Coding, TargetCoding},
};
use std::path::{Path, PathBuf};
use toml::Value;

/// Sizes that images of different sizes are brought to.
const SIZES: [usize; 6] = [96, 64, 48, 32, 16, 8];

/// Larger images are made smaller: they would train slowly on a CPU.
const LARGEST: usize = 96;

/// Steps of a training.
const STEPS: u64 = 1_500;

pub(super) fn folder(request: &Request) -> Result<Proposal, ProposeError> {
    let mut source: ImageFolder = serde_json::from_value(serde_json::json!({ "path": request.data }))
        .map_err(|e| ProposeError::Kind { file: request.data.display().to_string(), why: e.to_string() })?;
    let survey = source.survey(Path::new(""))?;
    let (validation, test) = shares(survey.images as u64);
    source.test = test;
    let same = survey.smallest == survey.largest;
    if !same || survey.largest.iter().any(|side| *side > LARGEST) {
        let size = SIZES.into_iter().find(|s| *s <= survey.median).unwrap_or(SIZES[SIZES.len() - 1]);
        source.image_size = Some(backprop_data::ImageSize::Square(size));
    }
    let mut found = Vec::new();
    let [[a, b], [c, d]] = [survey.smallest, survey.largest];
    found.push(if same {
        format!("{}: {} images of {a}×{b} pixels", request.data.display(), survey.images)
    } else {
        format!("{}: {} images of {a}×{b} to {c}×{d} pixels", request.data.display(), survey.images)
    });
    let loaded = load(&Source::Folder(source.clone()), None, validation)?;
    let data = |w: &mut Writer| {
        w.set("source", "folder");
        w.set("path", request.written.display().to_string());
        if let Some(size) = source.image_size {
            let [size, _] = size.sides();
            w.comment(if same {
                "Smaller than the images are: large ones train slowly on a CPU. Raise it if details matter."
            } else {
                "The images have different sizes; all are brought to this one."
            });
            w.set("image_size", int(size));
        }
        split(w, validation);
        w.set("test", test);
    };
    propose(&request.data, loaded, found, validation, &data)
}

/// IDX images with the labels that lie beside them.
pub(super) fn idx(request: &Request) -> Result<Proposal, ProposeError> {
    let name = request.data.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = |path: &Path, name: String| path.with_file_name(name);
    let labels = name.replace("images", "labels").replace("idx3", "idx1");
    if labels == name || !beside(&request.data, labels.clone()).exists() {
        let why = "has no labels beside it: a file of the same name with labels instead of images, as train-labels-idx1-ubyte";
        return Err(ProposeError::Kind { file: request.data.display().to_string(), why: why.into() });
    }
    let mut keys = vec![("images", name.clone()), ("labels", labels.clone())];
    let tests = [name.replace("train", "t10k"), labels.replace("train", "t10k")];
    if tests[0] != name && tests.iter().all(|t| beside(&request.data, t.clone()).exists()) {
        keys.extend(["test_images", "test_labels"].into_iter().zip(tests));
    }
    let json = keys.iter().map(|(key, name)| ((*key).into(), beside(&request.data, name.clone()).display().to_string().into()));
    let mut json: serde_json::Map<String, serde_json::Value> = json.collect();
    json.insert("source".into(), "idx".into());
    let source: Source = serde_json::from_value(json.into())
        .map_err(|e| ProposeError::Kind { file: request.data.display().to_string(), why: e.to_string() })?;
    let validation = 0.1;
    let loaded = load(&source, None, validation)?;
    let written: Vec<(&str, PathBuf)> = keys.iter().map(|(key, name)| (*key, beside(&request.written, name.clone()))).collect();
    let data = |w: &mut Writer| {
        w.set("source", "idx");
        for (key, path) in &written {
            w.set(key, path.display().to_string());
        }
        split(w, validation);
    };
    propose(&request.data, loaded, Vec::new(), validation, &data)
}

fn split(w: &mut Writer, validation: f64) {
    if validation == 0.0 {
        w.comment("So few images are all trained on: nothing is left to measure on. More would tell how good the model is.");
    } else {
        w.comment("Shares of the images that are kept apart: to choose the best epoch by, and to measure the result on.");
    }
    w.set("validation", validation);
}

fn propose(
    path: &Path,
    loaded: backprop_data::Loaded,
    mut found: Vec<String>,
    validation: f64,
    data: &dyn Fn(&mut Writer),
) -> Result<Proposal, ProposeError> {
    let Coding { target, .. } = &loaded.coding;
    let shape = loaded.parts.train.columns()[loaded.input].shape.clone();
    let kind = |why: &str| ProposeError::Kind { file: path.display().to_string(), why: why.into() };
    let &[height, width, channels] = shape.as_slice() else {
        return Err(kind("does not hold images of height, width and channels"));
    };
    let rows = loaded.parts.train.len() as u64;
    let class_names = match target {
        TargetCoding::Class { classes, .. } => Some(classes.clone()),
        _ => None,
    };
    let per_class = class_names.as_ref().map(|names| rows_per_class(loaded.parts.train.as_ref(), loaded.target, names.len()));
    found.extend(loaded.findings);
    if let (Some(names), Some(rows)) = (&class_names, &per_class) {
        found.push(format!("in training, {}", counts(names.iter().map(String::as_str).zip(rows.iter().copied()))));
    }
    let side = height.min(width);
    let mut w = Writer::new(&format!(
        "{} Written by backprop init for {}: {height}×{width} pixels, {}.",
        if class_names.is_some() { "Which class is an image of?" } else { "A number from an image." },
        path.display(),
        if channels == 1 { "grey" } else { "in colour" }
    ));
    w.table("[data]");
    data(&mut w);
    w.comment("Mean 0 and standard deviation 1 for each channel, measured on the training part.");
    w.set("normalize", "channel");
    augment(&mut w, side, channels);
    let outputs = class_names.as_ref().map_or(1, Vec::len);
    let blocks = layers(&mut w, side, outputs);
    w.table("[loss]");
    w.set("type", if class_names.is_some() { "cross_entropy" } else { "mse" });
    if let Some(weights) = per_class.as_deref().and_then(class_weights) {
        w.comment("Rare classes count more, as images ÷ (classes · images of the class), at most 10; classes in the order of their names.");
        w.set("weight", weights);
    }
    // Steps on images are dear: smaller batches than tables take.
    let batch = batch_size(rows).min(64);
    training(&mut w, rows, batch, epochs(rows, batch, STEPS, 5, 60), validation > 0.0);
    let chosen = match blocks {
        0 => "dense layers, as the images are too small to convolve".into(),
        1 => "a convolutional network of one block".into(),
        n => format!("a convolutional network of {n} blocks"),
    };
    let task = if class_names.is_some() { format!("classification into {outputs} classes") } else { "regression".into() };
    Ok(Proposal { found, chosen: format!("{task} by {chosen}"), toml: w.finish(), usage: Usage::Predict })
}

/// How many rows each class has.
fn rows_per_class(data: &dyn Dataset, column: usize, classes: usize) -> Vec<u64> {
    let (rows, mut labels) = ((0..data.len()).collect::<Vec<_>>(), vec![0; data.len()]);
    let mut counts = vec![0; classes];
    if data.fill_i32(column, &rows, &mut labels).is_err() {
        return counts;
    }
    for label in labels {
        if let Some(count) = usize::try_from(label).ok().and_then(|l| counts.get_mut(l)) {
            *count += 1;
        }
    }
    counts
}

fn augment(w: &mut Writer, side: usize, channels: usize) {
    if side < 16 {
        return;
    }
    let crop = side / 10;
    w.comment("Each epoch sees every image shifted anew, which is worth many more images.");
    if channels == 3 {
        w.comment("Photographs may be mirrored too; take flip out where left and right differ, as in writing.");
        w.line(&format!("augment = {{ crop = {crop}, flip = \"horizontal\" }}"));
    } else {
        w.comment("Add flip = \"horizontal\" where mirrored images are as good (not for letters or digits).");
        w.line(&format!("augment = {{ crop = {crop} }}"));
    }
}

/// Writes the layers; gives the number of convolutional blocks.
fn layers(w: &mut Writer, side: usize, outputs: usize) -> usize {
    let blocks = match side {
        0..8 => 0,
        8..16 => 1,
        16..24 => 2,
        24..64 => 3,
        _ => 4,
    };
    for block in 0..blocks {
        let why = "Each block halves the image and doubles the number of patterns it looks for.";
        let keys = [("out_channels", int(16 << block)), ("kernel_size", int(3)), ("padding", int(1)), ("bias", false.into())];
        w.layer_because(if block == 0 { why } else { "" }, "conv2d", keys);
        w.layer("batch_norm", []);
        w.layer("relu", []);
        w.layer("max_pool2d", [("kernel_size", int(2))]);
    }
    w.layer("flatten", []);
    if blocks > 0 {
        w.layer_because("Against learning the training images by heart.", "dropout", [("p", Value::Float(0.3))]);
    }
    w.layer("linear", [("out_features", int(if blocks == 0 { 32 } else { 128 }))]);
    w.layer("relu", []);
    w.layer_because(
        if outputs > 1 { "One score for each class." } else { "One number." },
        "linear",
        [("out_features", int(outputs))],
    );
    blocks
}
