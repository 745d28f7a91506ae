//! Data that stay in their files give the bits of data in memory.

use std::{fs, path::Path};

use backprop_data::{Normalise, Parts, Scale, Source};

use crate::{gzip, idx_file};

fn load(folder: &Path, code: u8, stream: &str) -> Result<Parts, String> {
    let text = format!("source = 'idx'\nimages = 'images'\nlabels = 'labels'\nstream = {stream}");
    let source: Source = toml::from_str(&text).map_err(|e| e.to_string())?;
    source.parts(folder).map_err(|e| format!("{code}: {e}"))
}

#[test]
fn streamed_images_are_the_bits_of_images_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    // Samples of 5,000 elements are larger than a block that is read at once.
    for (code, size) in [(8, 1), (9, 1), (0xb, 2), (0xc, 4), (0xd, 4), (0xe, 8)] {
        let body: Vec<u8> = match size {
            4 if code == 0xd => (0..20 * 5000).flat_map(|i| (i as f32 * 0.37 - 9.0).to_be_bytes()).collect(),
            8 => (0..20 * 5000).flat_map(|i| (f64::from(i) * 0.37 - 9.0).to_be_bytes()).collect(),
            _ => (0..20 * 5000 * size).map(|i| (i * 7 % 251) as u8).collect(),
        };
        fs::write(folder.path().join("images"), idx_file(code, &[20, 50, 100], &body)).unwrap();
        fs::write(folder.path().join("labels"), idx_file(8, &[20], &[0, 1, 2, 1, 0].repeat(4))).unwrap();
        let (memory, disk) = (load(folder.path(), code, "false").unwrap(), load(folder.path(), code, "true").unwrap());
        let auto = load(folder.path(), code, "'auto'").unwrap();
        assert_eq!(memory.train.columns(), disk.train.columns());
        let scale = Scale::fit(&*memory.train, 0, Normalise::Feature).unwrap();
        let rows = [3, 0, 7];
        let fill = |parts: &Parts| {
            let (mut x, mut y) = (vec![0.0; 3 * 5000], vec![0; 3]);
            parts.train.fill_f32(0, &rows, &scale, &mut x).unwrap();
            parts.train.fill_i32(1, &rows, &mut y).unwrap();
            (x.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), y)
        };
        assert!(fill(&memory) == fill(&disk) && fill(&memory) == fill(&auto), "element type {code:#x}");
    }
}

#[test]
fn what_cannot_be_streamed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let images = idx_file(8, &[4, 2, 2], &[1; 16]);
    fs::write(folder.path().join("labels"), idx_file(8, &[4], &[0, 1, 0, 1])).unwrap();
    fs::write(folder.path().join("images"), gzip(&images)).unwrap();
    assert!(load(folder.path(), 8, "true").map(drop).unwrap_err().contains("a gzipped file cannot be streamed; unpack it"));
    assert!(load(folder.path(), 8, "'auto'").is_ok());
    fs::write(folder.path().join("images"), &images[..images.len() - 1]).unwrap();
    assert!(load(folder.path(), 8, "true").map(drop).unwrap_err().contains("get the file again"));
    fs::write(folder.path().join("images"), [&images[..], &[0]].concat()).unwrap();
    assert!(load(folder.path(), 8, "true").map(drop).unwrap_err().contains("more than 16"));
    assert!(load(folder.path(), 8, "'maybe'").is_err());
}
