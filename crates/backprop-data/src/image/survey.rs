//! What images a folder holds, by their headers alone.

use std::path::Path;

use super::{ImageFolder, decode, files};
use crate::{DataError, open};

/// The images of a folder, before they are brought to one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    /// How many there are.
    pub images: usize,
    /// Height and width of the image with the fewest pixels.
    pub smallest: [usize; 2],
    /// Height and width of the image with the most pixels.
    pub largest: [usize; 2],
    /// The middle one of all shorter sides.
    pub median: usize,
}

impl ImageFolder {
    /// Reads the headers of all images in and below the folder.
    ///
    /// # Errors
    /// A folder that cannot be read or has no images; files that are no images though they are called so.
    pub fn survey(&self, base: &Path) -> Result<Survey, DataError> {
        let mut sizes = Vec::new();
        for path in files(&base.join(&self.path))? {
            let header = decode::header(&path.display().to_string(), &open::bytes(&path)?)?;
            sizes.push([header.height, header.width]);
        }
        sizes.sort_by_key(|[height, width]| (height * width, *height));
        let mut sides: Vec<usize> = sizes.iter().map(|[height, width]| *height.min(width)).collect();
        sides.sort_unstable();
        let ([smallest, ..], [.., largest]) = (sizes.as_slice(), sizes.as_slice()) else {
            return Err(DataError::Folder { folder: self.path.display().to_string(), why: "has no PNG or JPEG images".into() });
        };
        Ok(Survey { images: sizes.len(), smallest: *smallest, largest: *largest, median: sides[sides.len() / 2] })
    }
}
