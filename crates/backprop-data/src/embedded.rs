//! Data compiled into the program. Origin and licences: `data/SOURCES.txt` of this crate.

use std::sync::Arc;

use crate::open::Input;
use crate::{Classes, Column, DataError, Dataset, InMemory, Parts, idx, split, text};

/// What the labels of Fashion-MNIST mean (Xiao, Rasul and Vollgraf, 2017, table 2).
const FASHION_CLASSES: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

macro_rules! embedded {
    ($file:literal) => {
        (concat!("embedded ", $file), include_bytes!(concat!("../data/", $file)).as_slice())
    };
}

/// Fashion-MNIST, a class-balanced subset: 3,000 training and 1,000 test images.
///
/// Columns: `image` bytes of shape `[28, 28, 1]`, `label` of 10 named classes.
///
/// # Errors
/// None in an undamaged program.
///
/// ```
/// use backprop_data::Dataset;
///
/// let parts = backprop_data::fashion()?;
/// assert_eq!(parts.train.len(), 3000);
/// assert_eq!(parts.train.columns()[0].shape, [28, 28, 1]);
/// # Ok::<(), backprop_data::DataError>(())
/// ```
pub fn fashion() -> Result<Parts, DataError> {
    let read = |(name, bytes)| idx::parse(name, bytes);
    let classes = Classes::named(FASHION_CLASSES);
    let (images, labels) =
        (read(embedded!("fashion-4k/train-images-idx3-ubyte.gz"))?, read(embedded!("fashion-4k/train-labels-idx1-ubyte.gz"))?);
    let train = Arc::new(idx::dataset("Fashion-MNIST", images, labels, Some(classes.clone()))?);
    let (images, labels) =
        (read(embedded!("fashion-4k/t10k-images-idx3-ubyte.gz"))?, read(embedded!("fashion-4k/t10k-labels-idx1-ubyte.gz"))?);
    let test = Arc::new(idx::dataset("Fashion-MNIST (test)", images, labels, Some(classes))?);
    Ok(Parts::shuffled(train).with_test_set(test))
}

/// Share of the digits that is the test part: 359 of 1,797 rows.
const DIGITS_TEST_SHARE: f64 = 0.2;

/// UCI handwritten digits: 1,438 training and 359 test rows, each class in proportion.
///
/// Columns: `image` of shape `[8, 8, 1]`, grey values 0 to 16; `label` of 10 classes. The test part
/// is always the same.
///
/// # Errors
/// None in an undamaged program.
pub fn digits() -> Result<Parts, DataError> {
    let (name, bytes) = embedded!("digits.csv.gz");
    let csv = text::decode(Input::bytes(name, bytes)?)?;
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for line in csv.lines() {
        let numbers = line.split(',').map(str::parse::<u8>);
        let row: Result<Vec<u8>, _> = numbers.collect();
        let Ok([image @ .., label]) = row.as_deref() else {
            return Err(DataError::Shape { data: name.into(), column: "image".into(), values: line.len(), shape: vec![8, 8, 1] });
        };
        pixels.extend_from_slice(image);
        labels.push(*label);
    }
    let data = InMemory::new("UCI digits")
        .with_column(Column::input("image", &[8, 8, 1]), pixels)?
        .with_column(Column::label("label", Classes::numbered(10)), labels)?;
    let data: Arc<dyn Dataset> = Arc::new(data);
    Parts::shuffled(data).with_test(DIGITS_TEST_SHARE, split::TEST_SEED)
}

/// Shakespeare's Hamlet and Macbeth: 277,225 characters of 65 kinds, as plain text.
///
/// # Errors
/// None in an undamaged program.
pub fn shakespeare() -> Result<String, DataError> {
    let (name, bytes) = embedded!("shakespeare.txt.gz");
    text::decode(Input::bytes(name, bytes)?)
}
