use std::fs;
use std::path::Path;

use backprop_data::npy::{Array, parse, parse_npz};
use backprop_data::{Dataset, Kind, Parts, Scale, Source, Values};
use proptest::prelude::*;
use tempfile::TempDir;

fn archive() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/arrays/arrays.npz")).unwrap()
}

fn floats(values: &Values) -> Vec<f32> {
    match values {
        Values::U8(v) => v.iter().map(|&v| v.into()).collect(),
        Values::I16(v) => v.iter().map(|&v| v.into()).collect(),
        Values::I32(v) => v.iter().map(|&v| v as f32).collect(),
        Values::F32(v) => v.clone(),
    }
}

/// A .npy file of version 1.
fn npy(descr: &str, shape: &str, body: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(body);
    file
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn every_type_byte_order_and_memory_order_of_numpy_is_read() {
    let archive = archive();
    for kind in ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"] {
        for name in ["little_c", "little_fortran", "big_c", "big_fortran"] {
            let Array { sizes, values } = parse_npz("file", &archive, &format!("{kind}_{name}")).unwrap();
            assert_eq!((sizes, floats(&values)), (vec![2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), "{kind} {name}");
            assert_eq!(matches!(values, Values::F32(_)), kind.starts_with('f'), "{kind}");
        }
    }
    assert_eq!(parse_npz("file", &archive, "b1").unwrap().values, Values::U8(vec![0, 0, 0, 1, 1, 1]));
    let cube = parse_npz("file", &archive, "cube").unwrap();
    assert_eq!((cube.sizes, floats(&cube.values)), (vec![2, 3, 4], (0..24_i16).map(f32::from).collect()));
    assert_eq!(parse_npz("file", &archive, "large").unwrap().values, Values::F32(vec![2_f32.powi(40), -1.0]));
}

#[test]
fn messages_say_what_is_wrong_and_what_to_do() {
    let archive = archive();
    let said = |array: &str| parse_npz("a.npz", &archive, array).unwrap_err().to_string();
    assert_eq!(said("objects"), "a.npz, array objects: holds Python objects; convert it with array.astype(numpy.float32)");
    assert_eq!(said("text"), "a.npz, array text: holds text; save numbers, classes as whole numbers from 0");
    assert_eq!(said("fields"), "a.npz, array fields: holds records of several fields; save each field as an array of numbers");
    assert_eq!(said("complex"), "a.npz, array complex: holds complex numbers; save real and imaginary parts as two values");
    assert!(said("x_train").starts_with("a.npz: has no array \"x_train\"; it has u1_little_c, u1_little_fortran, "));
    let said = |bytes: &[u8]| parse("x.npy", bytes).unwrap_err().to_string();
    assert_eq!(said(b"PK\x03\x04rest"), "x.npy: not a .npy file: it begins with PK\\x03\\x04re; write arrays with numpy.save");
    assert_eq!(said(b"\x93NUM"), "x.npy: the file ends within its header; it is cut short");
    assert_eq!(said(b"\x93NUMPY\x09\x00"), "x.npy: version 9 of the .npy format; versions 1 to 3 are read");
    assert_eq!(
        said(&npy("<f4", "2, 2", &[0; 15])),
        "x.npy: sizes [2, 2] of 4-byte elements need 16 bytes after the header; there are 15; write the file again"
    );
    assert!(said(&npy("<f4", "2, 2", &[0; 17])).contains("there are more than 16"));
    assert_eq!(said(&npy("<f4", "0, 2", &[])), "x.npy is empty");
    assert!(said(&npy("éi4", "2", &[0; 8])).contains("holds elements of type \"éi4\""));
    let huge = npy("<f8", "4611686018427387904, 4611686018427387904", &[0; 8]);
    assert!(said(&huge).contains("write the file again"));
    assert!(said(&npy("<f8", "9000000000000", &[0; 8])).contains("need 72000000000000 bytes"));
}

fn load(place: &TempDir, settings: &str) -> Result<Parts, String> {
    let source: Source = toml::from_str(&format!("source = 'npy'\ntest = 0.0\n{settings}")).unwrap();
    source.parts(place.path()).map_err(|e| e.to_string().replace(&place.path().display().to_string(), "DIR"))
}

fn batch(data: &dyn Dataset, column: usize) -> Vec<f32> {
    let rows: Vec<usize> = (0..data.len()).rev().collect();
    let mut out = vec![0.0; rows.len() * data.columns()[column].elements()];
    data.fill_f32(column, &rows, &Scale::from_mean_std(&[1.0], &[2.0]).unwrap(), &mut out).unwrap();
    out
}

#[test]
fn files_of_inputs_and_targets() {
    let place = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| fs::write(place.path().join(name), bytes).unwrap();
    write("x.npy", npy("<f4", "3, 2", &f32s(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])));
    write("y.npy", npy("|u1", "3,", &[2, 0, 1]));
    let files = "inputs = 'x.npy'\ntargets = 'y.npy'";
    let data = load(&place, files).unwrap().train;
    assert_eq!(data.columns()[0].shape, [2]);
    assert!(matches!(&data.columns()[1].kind, Kind::Class(c) if c.count() == 3));
    for streamed in ["true", "false"] {
        let again = load(&place, &format!("{files}\nstream = {streamed}")).unwrap().train;
        assert_eq!(again.in_memory(), streamed == "false");
        assert_eq!(batch(&*again, 0), batch(&*data, 0));
        let mut labels = [0; 3];
        again.fill_i32(1, &[0, 1, 2], &mut labels).unwrap();
        assert_eq!(labels, [2, 0, 1]);
    }
    // The same numbers as quantities, and two quantities per sample.
    let data = load(&place, &format!("{files}\nlabel_kind = 'number'")).unwrap().train;
    assert_eq!((data.columns()[1].kind.clone(), data.columns()[1].shape.clone()), (Kind::Number, vec![]));
    let data = load(&place, "inputs = 'y.npy'\ntargets = 'x.npy'").unwrap().train;
    assert_eq!((data.columns()[0].shape.clone(), data.columns()[1].shape.clone()), (vec![1], vec![2]));
    write("y.npy", npy("<f4", "3,", &f32s(&[0.5, f32::NAN, 1.0])));
    assert!(load(&place, files).err().unwrap().contains("row 1: the value NaN is not finite"));
    write("y.npy", npy("|u1", "2,", &[2, 0]));
    assert_eq!(load(&place, files).err().unwrap(), "DIR/x.npy has 3 rows, DIR/y.npy has 2; they must be equal");
    write("y.npy", npy("|i1", "3,", &[2, 255, 0]));
    assert!(load(&place, files).err().unwrap().contains("labels from -1 to 2 are not classes; number classes from 0"));
}

#[test]
fn arrays_of_an_archive() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("a.npz"), archive()).unwrap();
    let parts = load(&place, "path = 'a.npz'\ninputs_name = 'cube'\ntest_inputs_name = 'cube'").unwrap();
    assert_eq!((parts.train.len(), parts.test.unwrap().len(), parts.train.columns().len()), (2, 2, 1));
    assert_eq!(parts.train.columns()[0].shape, [3, 4], "no images: not bytes");
    let error = |settings: &str| load(&place, settings).err().unwrap();
    assert!(error("path = 'a.npz'").contains("inputs_name"));
    assert!(error("inputs_name = 'cube'").contains("path, the archive"));
    assert!(error("path = 'a.npz'\ninputs = 'x.npy'").contains("not both"));
    assert!(error("path = 'a.npz'\ninputs_name = 'cube'\nstream = true").contains("cannot be streamed"));
}

#[test]
fn images_of_bytes_get_a_channel_axis() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("x.npy"), npy("|u1", "2, 2, 3", &[7; 12])).unwrap();
    assert_eq!(load(&place, "inputs = 'x.npy'").unwrap().train.columns()[0].shape, [2, 3, 1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let damage = |mut bytes: Vec<u8>| {
            for (at, value) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        };
        let check = |array: Result<Array, _>| array.is_ok_and(|a| a.values.len() != a.sizes.iter().product::<usize>());
        prop_assert!(!check(parse("x", &damage(npy("<i4", "2, 3", &[1; 24])))));
        prop_assert!(!check(parse_npz("x", &damage(archive()), "f4_big_fortran")));
    }
}
