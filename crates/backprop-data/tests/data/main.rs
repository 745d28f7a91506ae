//! The crate as its users see it.

mod fill;
mod idx;
mod image;
mod npy;
mod on_disk;
mod order;
mod scale;
mod series;
mod sources;
mod split;
mod table;
mod text;

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

/// An IDX file: header, then `body`.
fn idx_file(code: u8, sizes: &[u32], body: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, code, sizes.len() as u8];
    file.extend(sizes.iter().flat_map(|s| s.to_be_bytes()));
    file.extend_from_slice(body);
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
