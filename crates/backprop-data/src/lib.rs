//! Data sources, formats, order and batching of the backprop training engine.
//!
//! A [`Source`] names data: something embedded in the program ([Fashion-MNIST](Source::Fashion),
//! [UCI digits](Source::Digits), [two plays](Source::Shakespeare)), [IDX files](Source::Idx), a
//! [folder of images](Source::Folder) or a [text](Source::Text). Loading it gives [`Parts`]: training, validation and test [`Dataset`]s. A
//! data set has typed columns and fills buffers that the caller owns with any rows of them, so a
//! training step allocates nothing. Which rows come when is an [`Order`], a pure function of seed,
//! epoch and position: training resumes anywhere without replaying what went before. Numbers are
//! brought to a common range by a [`Scale`], measured on the training part only.
//!
//! ```
//! use backprop_data::{Batches, Normalise, Order, Remainder, Scale, Source};
//! use std::path::Path;
//!
//! # fn main() -> Result<(), backprop_data::DataError> {
//! let parts = Source::Digits {}.parts(Path::new("."))?.with_validation(0.1, 42)?;
//! let train = &parts.train;
//! let (image, label) = (train.column("image")?, train.column("label")?);
//! let scale = Scale::fit(train.as_ref(), image, Normalise::Global)?;
//!
//! let mut batches = Batches::new(Order::new(42, 0, train.len()), 32, Remainder::Keep)?;
//! let mut rows = Vec::new();
//! let mut pixels = vec![0.0_f32; 32 * train.columns()[image].elements()];
//! let mut classes = vec![0_i32; 32];
//! while batches.next_into(&mut rows) {
//!     let n = rows.len();
//!     train.fill_f32(image, &rows, &scale, &mut pixels[..n * 64])?;
//!     train.fill_i32(label, &rows, &mut classes[..n])?;
//! }
//! # Ok(())
//! # }
//! ```

mod augment;
mod batches;
pub mod coding;
mod column;
mod dataset;
mod embedded;
mod error;
pub mod idx;
mod image;
mod labels;
mod load;
pub mod machine;
mod memory;
pub mod npy;
pub mod on_disk;
mod open;
mod order;
mod parallel;
mod parts;
mod scale;
pub mod series;
mod source;
pub mod split;
pub mod synthetic;
pub mod table;
pub mod text;
mod walk;

pub use augment::{Augment, Draw, Flip, Padding};
pub use batches::{Batches, Remainder};
pub use column::{BatchType, Classes, Column, Kind, Role, Values};
pub use dataset::{Dataset, Subset};
pub use embedded::{digits, fashion, shakespeare};
pub use error::DataError;
pub use image::{Fit, Frame, ImageFolder, ImageSize, Survey};
pub use labels::LabelKind;
pub use load::{LoadError, LoadOptions, Loaded, NormaliseTarget};
pub use memory::InMemory;
pub use npy::NpyFiles;
pub use on_disk::{OnDisk, Stream};
pub use order::Order;
pub use parts::Parts;
pub use scale::{Normalise, Scale};
pub use series::SeriesFiles;
pub use source::{IdxFiles, Source};
pub use table::CsvFiles;
pub use text::{LabelledText, TextFiles};
