//! From the bytes of a PNG or JPEG file to pixels.

use std::io::Cursor;

use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;
use zune_jpeg::{JpegDecoder, errors::DecodeErrors};

use super::orient;
use crate::DataError;

/// Most pixels of an image: 100 megapixels, 300 MB in colour. A file that declares more is refused before memory is taken.
pub(super) const MAX_PIXELS: usize = 100_000_000;

/// Deflate's best case, see [`Input`](crate::open::Input): a PNG that declares more data than that is damaged.
const DEFLATE_LIMIT: usize = 1032;

const PNG_MAGIC: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
const JPEG_MAGIC: [u8; 3] = [0xff, 0xd8, 0xff];

/// Pixels in rows from the top, channel-last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pixels {
    pub height: usize,
    pub width: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    pub values: Vec<u8>,
}

/// What the header of an image says, the orientation taken into account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Pixels {
    /// The same image with 1 or 3 channels. Grey is the luma of ITU-R BT.601, as PIL and OpenCV form it.
    pub(super) fn with_channels(self, channels: usize) -> Pixels {
        let Pixels { height, width, values, .. } = self;
        let values = match (self.channels, channels) {
            (1, 3) => values.iter().flat_map(|&v| [v; 3]).collect(),
            (3, 1) => values.as_chunks::<3>().0.iter().map(|&rgb| luma(rgb)).collect(),
            _ => values,
        };
        Pixels { height, width, channels, values }
    }
}

fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b) + 500) / 1000) as u8
}

/// Reads the header of an image; `name` stands in messages.
pub(crate) fn header(name: &str, bytes: &[u8]) -> Result<Header, DataError> {
    match format(name, bytes)? {
        Format::Png => {
            let reader = png_reader(name, bytes)?;
            let info = reader.info();
            let grey = matches!(info.color_type, png::ColorType::Grayscale | png::ColorType::GrayscaleAlpha);
            let turn = info.exif_metadata.as_deref().map_or(1, orient::tag);
            Ok(turned(turn, info.height as usize, info.width as usize, if grey { 1 } else { 3 }))
        }
        Format::Jpeg => {
            let (decoder, [height, width], channels) = jpeg_decoder(name, bytes)?;
            Ok(turned(decoder.exif().map_or(1, |e| orient::tag(e)), height, width, channels))
        }
    }
}

fn turned(orientation: u8, height: usize, width: usize, channels: usize) -> Header {
    let (height, width) = if orientation >= 5 { (width, height) } else { (height, width) };
    Header { height, width, channels }
}

/// Decodes an image, turned as its EXIF data say; `name` stands in messages. Transparency is dropped, 16 bits become 8.
///
/// # Errors
/// Neither PNG nor JPEG, damaged, cut short, larger than [`MAX_PIXELS`].
pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Pixels, DataError> {
    match format(name, bytes)? {
        Format::Png => decode_png(name, bytes),
        Format::Jpeg => decode_jpeg(name, bytes),
    }
}

enum Format {
    Png,
    Jpeg,
}

/// The format by the content: names lie.
fn format(name: &str, bytes: &[u8]) -> Result<Format, DataError> {
    if bytes.starts_with(&PNG_MAGIC) {
        return Ok(Format::Png);
    }
    if bytes.starts_with(&JPEG_MAGIC) {
        return Ok(Format::Jpeg);
    }
    let found = match bytes {
        [] => "the file is empty".into(),
        [b'G', b'I', b'F', ..] => "it is a GIF file".into(),
        [b'R', b'I', b'F', b'F', ..] => "it is a WebP file".into(),
        [b'B', b'M', ..] => "it is a BMP file".into(),
        _ => format!("it begins with {}", bytes[..bytes.len().min(8)].escape_ascii()),
    };
    Err(error(name, format!("neither a PNG nor a JPEG file ({found}); convert it to PNG or remove it")))
}

pub(super) fn error(name: &str, why: impl Into<String>) -> DataError {
    DataError::Image { file: name.into(), why: why.into() }
}

fn check_size(name: &str, height: usize, width: usize) -> Result<(), DataError> {
    let pixels = height.saturating_mul(width);
    if pixels == 0 || pixels > MAX_PIXELS {
        let why = format!("declares {width}×{height} pixels; images of 1 to {MAX_PIXELS} pixels are read");
        return Err(error(name, why));
    }
    Ok(())
}

fn png_reader<'a>(name: &str, bytes: &'a [u8]) -> Result<png::Reader<Cursor<&'a [u8]>>, DataError> {
    let limits = png::Limits { bytes: MAX_PIXELS * 8 };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    // Palettes and 1, 2 and 4 bits become 8 bits.
    decoder.set_transformations(png::Transformations::EXPAND);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let damaged = |e: png::DecodingError| png_error(name, &e);
    let (height, width, bits) = {
        let info = decoder.read_header_info().map_err(damaged)?;
        (info.height as usize, info.width as usize, info.bits_per_pixel())
    };
    check_size(name, height, width)?;
    let needed = (width.saturating_mul(bits) / 8).saturating_mul(height);
    if needed > bytes.len().saturating_mul(DEFLATE_LIMIT) {
        return Err(error(
            name,
            format!("declares {width}×{height} pixels, which {} bytes cannot hold; it is damaged", bytes.len()),
        ));
    }
    decoder.read_info().map_err(damaged)
}

fn png_error(name: &str, e: &png::DecodingError) -> DataError {
    error(name, format!("the PNG data are damaged or cut short ({e}); get the file again or remove it"))
}

fn decode_png(name: &str, bytes: &[u8]) -> Result<Pixels, DataError> {
    let mut reader = png_reader(name, bytes)?;
    let Some(size) = reader.output_buffer_size() else { return Err(error(name, "is larger than memory can address")) };
    let mut buffer = vec![0; size];
    let output = reader.next_frame(&mut buffer).map_err(|e| png_error(name, &e))?;
    buffer.truncate(output.buffer_size());
    if output.bit_depth == png::BitDepth::Sixteen {
        // v / 257, rounded to the nearest: 65,535 becomes 255.
        let (wide, _) = buffer.as_chunks::<2>();
        buffer = wide.iter().map(|&v| ((u32::from(u16::from_be_bytes(v)) * 255 + 32_767) / 65_535) as u8).collect();
    }
    let (channels, values) = match output.color_type {
        png::ColorType::GrayscaleAlpha => (1, buffer.as_chunks::<2>().0.iter().map(|v| v[0]).collect()),
        png::ColorType::Rgba => (3, buffer.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect()),
        png::ColorType::Rgb => (3, buffer),
        _ => (1, buffer),
    };
    let pixels = Pixels { height: output.height as usize, width: output.width as usize, channels, values };
    let turn = reader.info().exif_metadata.as_deref().map_or(1, orient::tag);
    Ok(orient::turn(pixels, turn))
}

type Jpeg<'a> = JpegDecoder<zune_jpeg::zune_core::bytestream::ZCursor<&'a [u8]>>;

/// A decoder that has read the header, the size and the number of channels that it will give.
fn jpeg_decoder<'a>(name: &str, bytes: &'a [u8]) -> Result<(Jpeg<'a>, [usize; 2], usize), DataError> {
    if !ends_after_scan(bytes) {
        return Err(error(name, "the JPEG data are cut short; get the file again or remove it"));
    }
    // The plain path: vector code could give other bits on other processors.
    let options = DecoderOptions::default().set_use_unsafe(false).set_max_width(1 << 16).set_max_height(1 << 16);
    let options = options.jpeg_set_out_colorspace(ColorSpace::RGB);
    let new = |options| JpegDecoder::new_with_options(zune_jpeg::zune_core::bytestream::ZCursor::new(bytes), options);
    let mut decoder = new(options);
    decoder.decode_headers().map_err(|e| jpeg_error(name, &e))?;
    let (Some((width, height)), Some(space)) = (decoder.dimensions(), decoder.input_colorspace()) else {
        return Err(error(name, "the JPEG file has no image; get the file again or remove it"));
    };
    check_size(name, height, width)?;
    if space != ColorSpace::Luma {
        return Ok((decoder, [height, width], 3));
    }
    let mut decoder = new(options.jpeg_set_out_colorspace(ColorSpace::Luma));
    decoder.decode_headers().map_err(|e| jpeg_error(name, &e))?;
    Ok((decoder, [height, width], 1))
}

/// Whether the image ends: after the first scan comes an end marker. The decoder would fill what is missing with grey.
fn ends_after_scan(bytes: &[u8]) -> bool {
    let mut at = 2;
    // Segments before the scan are skipped by their length: a preview inside them has markers of its own.
    while let Some(&[mark, kind]) = bytes.get(at..).and_then(|b| b.first_chunk::<2>()) {
        if mark != 0xff || kind == 0xff {
            at += 1;
        } else if kind == 0xda {
            // At the end of the file, as nearly always, or before what somebody appended.
            let scan = &bytes[at..];
            return scan.ends_with(&[0xff, 0xd9]) || scan.windows(2).any(|pair| pair == [0xff, 0xd9]);
        } else {
            let length = bytes.get(at + 2..).and_then(|b| b.first_chunk::<2>());
            at += 2 + length.map_or(0, |&l| usize::from(u16::from_be_bytes(l)));
        }
    }
    false
}

fn jpeg_error(name: &str, e: &DecodeErrors) -> DataError {
    let said = format!("{e:?}");
    error(name, format!("the JPEG data are damaged ({}); get the file again or remove it", said.trim_matches('"')))
}

fn decode_jpeg(name: &str, bytes: &[u8]) -> Result<Pixels, DataError> {
    let (mut decoder, [height, width], channels) = jpeg_decoder(name, bytes)?;
    let values = decoder.decode().map_err(|e| jpeg_error(name, &e))?;
    if values.len() != height * width * channels {
        return Err(error(name, "the JPEG data do not fill the image; get the file again or remove it"));
    }
    let turn = decoder.exif().map_or(1, |e| orient::tag(e));
    Ok(orient::turn(Pixels { height, width, channels, values }, turn))
}
