//! From a folder to data sets: which files, which labels, decoded once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Frame, ImageFolder, decode, labels};
use crate::coding::{ImageCoding, InputCoding};
use crate::labels::error as label_error;
use crate::on_disk::{Element, ElementType, RecordWriter, Records};
use crate::parallel::in_order;
use crate::walk::{Walk, entries, folder_error};
use crate::{
    Classes, Column, DataError, Dataset, InMemory, LabelKind, LoadError, LoadOptions, Loaded, OnDisk, Parts, Values, open, split,
};

/// Endings of the files that are read.
const ENDINGS: &[&str] = &["png", "jpg", "jpeg"];

/// What files of other endings are not.
const NOT_IMAGES: &str = "PNG or JPEG images";

/// Names of folders that are parts of the data, not classes.
const PARTS: [&[&str]; 3] = [&["train", "training"], &["validation", "val", "valid"], &["test", "testing"]];

/// Images that a thread decodes before it hands them over.
const AT_ONCE: usize = 8;

/// A file as it is, or all images in and below a folder.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut walk = Walk::new(ENDINGS);
    walk.through(path)?;
    if walk.files.is_empty() {
        return Err(folder_error(path, "has no PNG or JPEG images"));
    }
    Ok(walk.files)
}

/// What a label is before classes are numbered.
#[derive(Clone)]
enum Label {
    None,
    Class(String),
    Number(f32),
}

type Labelled = Vec<(PathBuf, Label)>;

/// The files of all parts.
struct Files {
    train: Labelled,
    validation: Option<Labelled>,
    test: Option<Labelled>,
    /// A sentence about files that are not images.
    left_out: Option<String>,
    /// Images beside the folders of the classes.
    stray: usize,
}

impl ImageFolder {
    /// Reads the images, splits them, and measures the scale on the training part.
    ///
    /// # Errors
    /// Folders without images, images that are damaged, labels that do not fit; settings out of range.
    pub(crate) fn load(&self, options: &LoadOptions) -> Result<Loaded, LoadError> {
        let labelled = options.target != Some("image");
        let (parts, frame, findings) = self.open(options.base, labelled).map_err(at_key)?;
        let mut loaded = Loaded::from_parts(parts, options)?;
        if loaded.input == 0 {
            loaded.coding.input = InputCoding::Image(ImageCoding { frame, scale: loaded.scale.clone() });
        }
        loaded.findings.splice(0..0, findings);
        Ok(loaded)
    }

    /// The parts, the shape of the images, and what was found. Classes are not asked for where the target is the image itself.
    pub(crate) fn open(&self, base: &Path, labelled: bool) -> Result<(Parts, Frame, Vec<String>), DataError> {
        let root = base.join(&self.path);
        // Settings before files: a mistake in them is told at once.
        if let Some(size) = self.image_size {
            Frame::new(size.sides(), self.channels.unwrap_or(3), self.fit)?;
        }
        let files = self.files(base, &root)?;
        let classes = classes(&files, &root, labelled)?;
        let frame = self.frame(&files, &root)?;
        let name = root.display().to_string();
        let set = |part: &str, files: &Labelled| self.dataset(&format!("{name}{part}"), files, &frame, &classes);
        let mut parts = Parts::shuffled(set("", &files.train)?);
        parts.validation = files.validation.as_ref().map(|f| set(" (validation)", f)).transpose()?;
        parts.test = files.test.as_ref().map(|f| set(" (test)", f)).transpose()?;
        if parts.validation.is_none() && parts.test.is_none() {
            parts = parts.with_test(self.test, split::TEST_SEED)?;
        }
        let findings = findings(&files, &frame, &classes);
        Ok((parts, frame, findings))
    }

    fn files(&self, base: &Path, root: &Path) -> Result<Files, DataError> {
        if let Some(csv) = &self.labels {
            return self.files_by_csv(&base.join(csv), root);
        }
        if self.label_kind == LabelKind::Number {
            let why = "\"number\" needs data.labels, a CSV file of labels; folders are classes".into();
            return Err(DataError::ImageSetting { setting: "label_kind", why });
        }
        let folders: Vec<PathBuf> = entries(root)?.into_iter().filter(|p| p.is_dir()).collect();
        let part = |names: &[&str]| {
            let named = |p: &&PathBuf| p.file_name().is_some_and(|n| names.iter().any(|&name| n.eq_ignore_ascii_case(name)));
            folders.iter().find(named)
        };
        let [Some(train), validation, test] = PARTS.map(part) else {
            let mut walk = Walk::new(ENDINGS);
            let (train, stray) = by_class(root, &mut walk)?;
            return Ok(Files { train, validation: None, test: None, left_out: walk.left_out(NOT_IMAGES), stray });
        };
        let parts = [Some(train), validation, test];
        if let Some(other) = folders.iter().find(|f| !parts.contains(&Some(*f))) {
            let other = other.file_name().unwrap_or_default().display();
            let why = format!(
                "has a folder train, so that its folders are parts, but also {other}; name it validation or test, or move it"
            );
            return Err(folder_error(root, why));
        }
        let mut walk = Walk::new(ENDINGS);
        let mut stray = 0;
        let mut read = |folder: &PathBuf| {
            let (files, beside) = by_class(folder, &mut walk)?;
            stray += beside;
            Ok::<_, DataError>(files)
        };
        let train = read(train)?;
        let (validation, test) = (validation.map(&mut read).transpose()?, test.map(&mut read).transpose()?);
        Ok(Files { train, validation, test, left_out: walk.left_out(NOT_IMAGES), stray })
    }

    fn files_by_csv(&self, csv: &Path, root: &Path) -> Result<Files, DataError> {
        let labels::Labelled { files, numbers } = labels::read(self, csv, root)?;
        let label = |label: String, line| match label.parse::<f32>() {
            _ if !numbers => Ok(Label::Class(label)),
            Ok(value) if value.is_finite() => Ok(Label::Number(value)),
            _ => {
                let why = format!("the label {label:?} is not a number; correct it, or take label_kind = \"class\"");
                Err(label_error(csv, line, why))
            }
        };
        let labelled = |(path, l, line)| Ok((path, label(l, line)?));
        let train = files.into_iter().map(labelled).collect::<Result<_, DataError>>()?;
        Ok(Files { train, validation: None, test: None, left_out: None, stray: 0 })
    }

    /// The size and the channels: as set, or as all images have them.
    fn frame(&self, files: &Files, root: &Path) -> Result<Frame, DataError> {
        if let (Some(size), Some(channels)) = (self.image_size, self.channels) {
            return Frame::new(size.sides(), channels, self.fit);
        }
        let all: Vec<&PathBuf> = [Some(&files.train), files.validation.as_ref(), files.test.as_ref()]
            .into_iter()
            .flatten()
            .flat_map(|part| part.iter().map(|(path, _)| path))
            .collect();
        let mut first: Option<(decode::Header, &PathBuf)> = None;
        let mut channels = 1;
        in_order(
            &all,
            AT_ONCE,
            |path| decode::header(&path.display().to_string(), &open::bytes(path)?),
            |path, header| {
                channels = channels.max(header.channels);
                let (other, at) = *first.get_or_insert((header, *path));
                if self.image_size.is_none() && (other.height, other.width) != (header.height, header.width) {
                    let (a, b) = (at.display(), path.display());
                    let why = format!(
                        "has images of different sizes ({a}: {}×{}, {b}: {}×{}); say which they are brought to, as data.image_size = 64",
                        other.height, other.width, header.height, header.width
                    );
                    return Err(folder_error(root, why));
                }
                // Where the size is set, the first image in colour has told what is asked.
                Ok(self.image_size.is_none() || channels == 1)
            },
        )?;
        let Some((header, _)) = first else { return Err(folder_error(root, "has no PNG or JPEG images")) };
        let size = self.image_size.map_or([header.height, header.width], |s| s.sides());
        Frame::new(size, self.channels.unwrap_or(channels), self.fit)
    }

    /// Decodes the images of a part.
    fn dataset(&self, name: &str, files: &Labelled, frame: &Frame, classes: &Kinds) -> Result<Arc<dyn Dataset>, DataError> {
        let shape = frame.shape();
        let size: usize = shape.iter().product();
        let spilt = self.stream.applies_to((size as u64).saturating_mul(files.len() as u64));
        let mut memory: Vec<u8> = Vec::new();
        if !spilt {
            // Without room for all of it the error comes when the room is needed.
            let _ = memory.try_reserve_exact(size.saturating_mul(files.len()));
        }
        let mut file = spilt.then(|| RecordWriter::in_folder(name, size, self.spill.as_deref())).transpose()?;
        let decode = |(path, _): &(PathBuf, Label)| frame.decode(&path.display().to_string(), &open::bytes(path)?);
        in_order(files, AT_ONCE, decode, |_, image| {
            match &mut file {
                Some(file) => file.push(&image)?,
                None => memory.extend_from_slice(&image),
            }
            Ok(true)
        })?;
        let image = Column::input("image", &shape);
        let labels = classes.labels(name, files)?;
        let labels = labels.map(|values| (classes.column(), values));
        let Some(file) = file else {
            let data = InMemory::new(name).with_column(image, memory)?;
            return Ok(match labels {
                Some((column, values)) => Arc::new(data.with_column(column, values)?),
                None => Arc::new(data),
            });
        };
        let bytes = Element { ty: ElementType::U8, big_endian: false };
        let data = OnDisk::new(name).with_column(image, Arc::new(file.finish()?), bytes)?;
        Ok(match labels {
            Some((column, values)) => {
                let (bytes, element) = values.to_bytes();
                Arc::new(data.with_column(column, Arc::new(Records::in_memory(name, bytes, element.size())), element)?)
            }
            None => Arc::new(data),
        })
    }
}

/// The key of `[data]` that an error is about.
fn at_key(error: DataError) -> LoadError {
    let key = match &error {
        DataError::ImageSetting { setting, .. } => setting,
        DataError::Labels { .. } => "labels",
        DataError::Spill { .. } => "spill",
        DataError::Share { .. } | DataError::SplitEmpty { .. } => "test",
        _ => "path",
    };
    LoadError { key, error }
}

/// The images of a folder with one sub-folder per class; without sub-folders that hold images, images without labels. Also how
/// many images lie beside the sub-folders.
fn by_class(root: &Path, walk: &mut Walk) -> Result<(Labelled, usize), DataError> {
    let (mut labelled, mut beside, mut empty) = (Vec::new(), Vec::new(), None);
    for path in entries(root)? {
        if !path.is_dir() {
            walk.add(path);
            beside.append(&mut walk.files);
            continue;
        }
        walk.through(&path)?;
        let class = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if walk.files.is_empty() {
            empty = empty.or(Some(path));
        }
        labelled.extend(walk.files.drain(..).map(|image| (image, Label::Class(class.clone()))));
    }
    match (labelled.is_empty(), beside.is_empty(), empty) {
        (true, true, _) => {
            Err(folder_error(root, "has no PNG or JPEG images; put those of each class into a sub-folder of its name"))
        }
        (true, false, _) => Ok((beside.into_iter().map(|image| (image, Label::None)).collect(), 0)),
        (false, _, Some(folder)) => {
            let why = "is the folder of a class but has no PNG or JPEG images; put some into it or remove it";
            Err(folder_error(&folder, why))
        }
        (false, _, None) => Ok((labelled, beside.len())),
    }
}

/// What the labels of all parts are.
enum Kinds {
    None,
    Number,
    Class(Vec<String>),
}

impl Kinds {
    fn column(&self) -> Column {
        match self {
            Kinds::Class(names) => Column::label("label", Classes::named(names.iter().map(String::as_str))),
            _ => Column::target("label", &[]),
        }
    }

    fn labels(&self, data: &str, files: &Labelled) -> Result<Option<Values>, DataError> {
        let Kinds::Class(names) = self else {
            let number = |(_, label): &(PathBuf, Label)| if let Label::Number(v) = label { *v } else { 0.0 };
            return Ok(matches!(self, Kinds::Number).then(|| Values::F32(files.iter().map(number).collect())));
        };
        let index = |(path, label): &(PathBuf, Label)| match label {
            Label::Class(name) => names.binary_search(name).map(|i| i as i32).map_err(|_| DataError::Image {
                file: path.display().to_string(),
                why: format!("its class {name:?} is not in the training part of {data}"),
            }),
            _ => Err(folder_error(Path::new(data), "has images without a class; put them into the folder of their class")),
        };
        Ok(Some(Values::I32(files.iter().map(index).collect::<Result<_, _>>()?)))
    }
}

/// The classes of the training part, sorted by name, as torchvision's ImageFolder sorts them.
fn classes(files: &Files, root: &Path, labelled: bool) -> Result<Kinds, DataError> {
    if !labelled {
        return Ok(Kinds::None);
    }
    let names: BTreeSet<&String> =
        files.train.iter().filter_map(|(_, label)| if let Label::Class(name) = label { Some(name) } else { None }).collect();
    match (&files.train[0].1, names.len()) {
        (Label::Number(_), _) => Ok(Kinds::Number),
        (Label::None, _) => {
            let why = "has images without labels; put those of each class into a sub-folder, name a CSV file of labels with \
                       data.labels, or take data.target = \"image\" for an autoencoder";
            Err(folder_error(root, why))
        }
        (_, 1) => {
            let why = format!(
                "has images of one class only ({}); a classifier needs two, an autoencoder data.target = \"image\"",
                names.first().map_or("", |n| n.as_str())
            );
            Err(folder_error(root, why))
        }
        _ => Ok(Kinds::Class(names.into_iter().cloned().collect())),
    }
}

fn findings(files: &Files, frame: &Frame, kinds: &Kinds) -> Vec<String> {
    let mut found = Vec::new();
    let count =
        [Some(&files.train), files.validation.as_ref(), files.test.as_ref()].into_iter().flatten().map(Vec::len).sum::<usize>();
    found.push(match kinds {
        Kinds::Class(names) => {
            let of = |name: &String| files.train.iter().filter(|(_, l)| matches!(l, Label::Class(n) if n == name)).count();
            let shown: Vec<String> = names.iter().take(20).map(|n| format!("{n} {}", of(n))).collect();
            let more = if names.len() > 20 { ", …" } else { "" };
            format!("{count} images of {frame} in {} classes: {}{more}", names.len(), shown.join(", "))
        }
        _ => format!("{count} images of {frame}"),
    });
    found.extend(files.left_out.clone());
    if files.stray > 0 {
        let images = if files.stray == 1 { "1 image lies" } else { &format!("{} images lie", files.stray) };
        found.push(format!("{images} beside the folders of the classes and left out"));
    }
    found
}
