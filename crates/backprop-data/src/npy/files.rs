//! Arrays as a data source.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Array, decode, error, from_archive, header::Header};
use crate::on_disk::{Element, ElementType, Records};
use crate::open::Input;
use crate::{Classes, Column, DataError, Dataset, InMemory, LabelKind, OnDisk, Parts, Stream, Values, split};

/// NumPy arrays: .npy files, or arrays of a .npz archive. The first axis counts the samples. Columns are called `input` and `target`.
///
/// Inputs of bytes with three axes are images and get a channel axis: `[n, height, width]` has samples of shape
/// `[height, width, 1]`. Targets of whole numbers are classes, of real numbers quantities. Without targets the data are for an
/// autoencoder: `target = "input"`.
///
/// ```
/// use backprop_data::Source;
///
/// let files: Source = toml::from_str("source = 'npy'\ninputs = 'x.npy'\ntargets = 'y.npy'")?;
/// let archive: Source = toml::from_str("source = 'npy'\npath = 'mnist.npz'\ninputs_name = 'x_train'\ntargets_name = 'y_train'")?;
/// assert!(matches!((files, archive), (Source::Npy(_), Source::Npy(_))));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NpyFiles {
    /// A .npz archive that holds all arrays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Name of the inputs in `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs_name: Option<String>,
    /// Name of the targets in `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets_name: Option<String>,
    /// Name of the inputs of the test part in `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_inputs_name: Option<String>,
    /// Name of the targets of the test part in `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_targets_name: Option<String>,
    /// A .npy file of inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<PathBuf>,
    /// A .npy file of targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<PathBuf>,
    /// A .npy file of inputs of the test part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_inputs: Option<PathBuf>,
    /// A .npy file of targets of the test part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_targets: Option<PathBuf>,
    /// What the targets are; by default classes if they are whole numbers, one per sample.
    #[serde(default)]
    pub label_kind: LabelKind,
    /// Names of the classes; without them the classes are numbered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Share of the rows that is the test part where no arrays are given for it.
    #[serde(default = "default_test")]
    pub test: f64,
    /// Whether inputs stay in their .npy file and are read as they are needed: `true`, `false`, or by their size.
    #[serde(default)]
    pub stream: Stream,
}

fn default_test() -> f64 {
    0.2
}

/// Most classes that targets without names may have: more is taken for quantities saved as whole numbers.
const MAX_CLASSES: i64 = 1 << 20;

/// Inputs, in memory or in their file.
enum Inputs {
    Memory(Array),
    File { sizes: Vec<usize>, element: Element, records: Records },
}

impl Inputs {
    fn sizes(&self) -> &[usize] {
        match self {
            Inputs::Memory(array) => &array.sizes,
            Inputs::File { sizes, .. } => sizes,
        }
    }

    fn bytes(&self) -> bool {
        match self {
            Inputs::Memory(array) => matches!(array.values, Values::U8(_)),
            Inputs::File { element, .. } => element.ty == ElementType::U8,
        }
    }
}

/// Where an array is: its file, and its name in an archive.
struct Place {
    file: PathBuf,
    array: Option<String>,
}

impl Place {
    fn name(&self) -> String {
        let file = self.file.display();
        self.array.as_ref().map_or_else(|| file.to_string(), |a| format!("{file}, array {a}"))
    }

    fn read(&self) -> Result<Array, DataError> {
        let name = self.file.display().to_string();
        match &self.array {
            Some(array) => {
                let file = File::open(&self.file).map_err(|source| DataError::Io { file: name.clone(), source })?;
                from_archive(&name, BufReader::new(file), array)
            }
            None => {
                let mut input = Input::file(&self.file)?;
                let bound = input.bound;
                decode(&name, bound, &mut |count| input.take(count))
            }
        }
    }

    /// The array, left in its file where `stream` says so and it can be: not packed, in C order.
    fn open(&self, stream: Stream) -> Result<Inputs, DataError> {
        let name = self.name();
        let cannot =
            |why: &str| Err(error(&name, format!("{why} cannot be streamed; take data.stream = false to read it into memory")));
        if self.array.is_some() {
            return if stream == Stream::Set(true) { cannot("an array of an archive") } else { Ok(Inputs::Memory(self.read()?)) };
        }
        let mut input = Input::file(&self.file)?;
        if !stream.applies_to(input.bound) {
            return Ok(Inputs::Memory(self.read()?));
        }
        let (packed, bound) = (input.packed, input.bound);
        let header = Header::read(&name, &mut |count| input.take(count))?;
        let fortran = header.fortran && header.sizes.len() > 1;
        match (packed || fortran, stream.is_auto()) {
            (true, true) => return Ok(Inputs::Memory(self.read()?)),
            (true, false) => return cannot(if packed { "a gzipped file" } else { "an array in Fortran order" }),
            _ => {}
        }
        let bytes = header.body(&name, bound)?;
        let Header { element, sizes, length, .. } = header;
        let rows = sizes.first().copied().unwrap_or(1);
        let records = Records::in_file(&self.file, length as u64, bytes / rows, rows)?;
        Ok(Inputs::File { sizes, element, records })
    }
}

impl NpyFiles {
    /// The paths, for making relative ones absolute.
    pub(crate) fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        let Self { path, inputs, targets, test_inputs, test_targets, .. } = self;
        [path, inputs, targets, test_inputs, test_targets].into_iter().filter_map(Option::as_mut).collect()
    }

    pub(crate) fn load(&self, base: &Path) -> Result<Parts, DataError> {
        let [inputs, targets, test_inputs, test_targets] = self.places(base)?;
        let Some(inputs) = inputs else {
            let (given, missing) = ("source = \"npy\"", "inputs (a .npy file), or path and inputs_name (a .npz archive)");
            return Err(DataError::Incomplete { given, missing });
        };
        let name = inputs.name();
        let given = (!self.classes.is_empty()).then(|| Classes::named(self.classes.iter().map(String::as_str)));
        let (train, classes) = self.dataset(&name, &inputs, targets.as_ref(), given)?;
        match (test_inputs, test_targets) {
            (None, None) => Parts::shuffled(train).with_test(self.test, split::TEST_SEED),
            (Some(test_inputs), test_targets) if test_targets.is_some() == targets.is_some() => {
                let (test, _) =
                    self.dataset(&format!("{} (test)", test_inputs.name()), &test_inputs, test_targets.as_ref(), classes)?;
                if let Some((a, b)) = train.columns().iter().zip(test.columns()).find(|(a, b)| a.shape != b.shape) {
                    let (first, second) = (name, test_inputs.name());
                    return Err(DataError::ShapesDiffer {
                        first,
                        first_shape: a.shape.clone(),
                        second,
                        second_shape: b.shape.clone(),
                    });
                }
                Ok(Parts::shuffled(train).with_test_set(test))
            }
            (Some(_), _) => Err(DataError::Incomplete { given: "test_inputs", missing: "test_targets" }),
            (None, Some(_)) => Err(DataError::Incomplete { given: "test_targets", missing: "test_inputs" }),
        }
    }

    /// Inputs, targets, and both of the test part.
    fn places(&self, base: &Path) -> Result<[Option<Place>; 4], DataError> {
        let files = [&self.inputs, &self.targets, &self.test_inputs, &self.test_targets];
        let names = [&self.inputs_name, &self.targets_name, &self.test_inputs_name, &self.test_targets_name];
        let Some(path) = &self.path else {
            return match names.iter().any(|n| n.is_some()) {
                true => Err(DataError::Incomplete { given: "a name of an array", missing: "path, the archive" }),
                false => Ok(files.map(|f| f.as_ref().map(|f| Place { file: base.join(f), array: None }))),
            };
        };
        if files.iter().any(|f| f.is_some()) {
            let why = "give either path with the names of its arrays, or .npy files as inputs and targets, not both";
            return Err(error(&base.join(path).display().to_string(), why));
        }
        Ok(names.map(|n| n.as_ref().map(|n| Place { file: base.join(path), array: Some(n.clone()) })))
    }

    fn dataset(
        &self,
        name: &str,
        inputs: &Place,
        targets: Option<&Place>,
        classes: Option<Classes>,
    ) -> Result<(Arc<dyn Dataset>, Option<Classes>), DataError> {
        let found = inputs.open(self.stream)?;
        let mut shape = found.sizes().get(1..).unwrap_or_default().to_vec();
        if shape.is_empty() || (shape.len() == 2 && found.bytes()) {
            shape.push(1);
        }
        let input = Column::input("input", &shape);
        let rows = found.sizes().first().copied().unwrap_or(1);
        let target = targets.map(|t| self.target(t, &inputs.name(), rows, classes)).transpose()?;
        let classes = target.as_ref().and_then(|(column, _)| match &column.kind {
            crate::Kind::Class(classes) => Some(classes.clone()),
            _ => None,
        });
        let data: Arc<dyn Dataset> = match found {
            Inputs::Memory(array) => {
                let data = InMemory::new(name).with_column(input, array.values)?;
                match target {
                    Some((column, values)) => Arc::new(data.with_column(column, values)?),
                    None => Arc::new(data),
                }
            }
            Inputs::File { element, records, .. } => {
                let data = OnDisk::new(name).with_column(input, Arc::new(records), element)?;
                match target {
                    Some((column, values)) => {
                        let (bytes, element) = values.to_bytes();
                        let records = Records::in_memory(name, bytes, element.size() * column.elements());
                        Arc::new(data.with_column(column, Arc::new(records), element)?)
                    }
                    None => Arc::new(data),
                }
            }
        };
        Ok((data, classes))
    }

    /// The column of the targets and their values.
    fn target(&self, place: &Place, inputs: &str, rows: usize, classes: Option<Classes>) -> Result<(Column, Values), DataError> {
        let Array { sizes, values } = place.read()?;
        let name = place.name();
        let found = sizes.first().copied().unwrap_or(1);
        if found != rows {
            return Err(DataError::RowsDiffer { first: inputs.into(), first_rows: rows, second: name, second_rows: found });
        }
        let single = values.len() == found;
        let whole = !matches!(values, Values::F32(_));
        let is_class = match self.label_kind {
            LabelKind::Auto => single && whole,
            LabelKind::Class => true,
            LabelKind::Number => false,
        };
        if !is_class {
            if let Values::F32(v) = &values
                && let Some(i) = v.iter().position(|v| !v.is_finite())
            {
                let (column, row) = ("target".into(), i / (v.len() / found).max(1));
                return Err(DataError::NotFinite { data: name, column, row, value: v[i] });
            }
            let shape = if single { &[] } else { &sizes[1..] };
            return Ok((Column::target("target", shape), values));
        }
        if !single || !whole {
            let kind = if whole { "whole" } else { "real" };
            return Err(DataError::NotLabels { file: name, found: format!("{kind} numbers of sizes {sizes:?}") });
        }
        let classes = classes.map_or_else(|| count(&name, &values), Ok)?;
        Ok((Column::label("target", classes), values))
    }
}

/// The classes of numbered labels: as many as the largest label needs.
fn count(name: &str, values: &Values) -> Result<Classes, DataError> {
    let labels = || (0..values.len()).filter_map(|i| values.integer(i));
    match (labels().min(), labels().max()) {
        (Some(0..), Some(max @ ..MAX_CLASSES)) => Ok(Classes::numbered(max as usize + 1)),
        (min, max) => {
            let why = format!(
                "labels from {} to {} are not classes; number classes from 0, or take label_kind = \"number\" for quantities",
                min.unwrap_or(0),
                max.unwrap_or(0)
            );
            Err(error(name, why))
        }
    }
}
