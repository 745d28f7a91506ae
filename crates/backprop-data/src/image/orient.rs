//! The orientation that cameras write beside the image: EXIF 2.3, tag 0x0112.

use super::decode::Pixels;

/// The orientation in EXIF data, 1 to 8; 1 (upright) where there is none or the data are damaged.
pub(super) fn tag(exif: &[u8]) -> u8 {
    find(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)).filter(|v| (1..=8).contains(v)).map_or(1, |v| v as u8)
}

/// Looks the tag up in the first directory of the TIFF structure.
fn find(tiff: &[u8]) -> Option<u16> {
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk::<2>()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk::<4>()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize)
    };
    let directory = long(4)?;
    // An entry is tag, type, count and value: 12 bytes.
    let entries = usize::from(short(directory)?);
    let entry = (0..entries).map(|i| directory + 2 + 12 * i).find(|&at| short(at) == Some(0x0112))?;
    short(entry + 8)
}

/// Brings an image of an orientation upright. 2 is mirrored, 3 upside down, 4 both; 5 to 8 are the same of the transpose.
pub(super) fn turn(pixels: Pixels, orientation: u8) -> Pixels {
    if orientation <= 1 {
        return pixels;
    }
    let Pixels { height, width, channels, .. } = pixels;
    let transposed = orientation >= 5;
    let (out_height, out_width) = if transposed { (width, height) } else { (height, width) };
    // In which directions the rows and columns of the stored image are read.
    let (up, left) = match orientation {
        2 => (false, true),
        3 => (true, true),
        4 => (true, false),
        6 => (true, false),
        7 => (true, true),
        8 => (false, true),
        _ => (false, false),
    };
    let mut values = Vec::with_capacity(pixels.values.len());
    for y in 0..out_height {
        for x in 0..out_width {
            let (row, column) = if transposed { (x, y) } else { (y, x) };
            let row = if up { height - 1 - row } else { row };
            let column = if left { width - 1 - column } else { column };
            let at = (row * width + column) * channels;
            values.extend_from_slice(&pixels.values[at..at + channels]);
        }
    }
    Pixels { height: out_height, width: out_width, channels, values }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the first pixel and its right neighbour of the stored image are shown, for each orientation of the standard.
    #[test]
    fn every_orientation_is_brought_upright() {
        let stored = || Pixels { height: 2, width: 3, channels: 1, values: vec![1, 2, 3, 4, 5, 6] };
        let expected: [(usize, [u8; 6]); 8] = [
            (3, [1, 2, 3, 4, 5, 6]),
            (3, [3, 2, 1, 6, 5, 4]),
            (3, [6, 5, 4, 3, 2, 1]),
            (3, [4, 5, 6, 1, 2, 3]),
            (2, [1, 4, 2, 5, 3, 6]),
            (2, [4, 1, 5, 2, 6, 3]),
            (2, [6, 3, 5, 2, 4, 1]),
            (2, [3, 6, 2, 5, 1, 4]),
        ];
        for (i, (width, values)) in expected.into_iter().enumerate() {
            let turned = turn(stored(), i as u8 + 1);
            assert_eq!((turned.width, turned.values.as_slice()), (width, &values[..]), "orientation {}", i + 1);
        }
    }

    #[test]
    fn the_tag_is_found_in_either_byte_order() {
        let little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        let big = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0";
        assert_eq!((tag(little), tag(big), tag(b"II*\0\xff\xff"), tag(b"")), (6, 8, 1, 1));
    }
}
