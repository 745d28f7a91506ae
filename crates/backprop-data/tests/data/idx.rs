use backprop_data::{Classes, DataError, Dataset, Values, idx};
use proptest::prelude::*;

use crate::{gzip, idx_file};

const U8: u8 = 0x08;

fn values(code: u8, sizes: &[u32], body: &[u8]) -> Values {
    idx::parse("file", &idx_file(code, sizes, body)).unwrap().values
}

fn message(bytes: &[u8]) -> String {
    idx::parse("file", bytes).unwrap_err().to_string()
}

#[test]
fn every_element_type_is_read_big_endian() {
    assert_eq!(values(U8, &[2], &[1, 255]), Values::U8(vec![1, 255]));
    assert_eq!(values(0x09, &[2], &[1, 255]), Values::I16(vec![1, -1]));
    assert_eq!(values(0x0b, &[2], &[1, 2, 255, 254]), Values::I16(vec![258, -2]));
    assert_eq!(values(0x0c, &[1], &[0, 0, 1, 2]), Values::I32(vec![258]));
    let f = 1.5_f32.to_be_bytes();
    assert_eq!(values(0x0d, &[1], &f), Values::F32(vec![1.5]));
    let f = (-0.1_f64).to_be_bytes();
    assert_eq!(values(0x0e, &[1], &f), Values::F32(vec![-0.1]));
}

#[test]
fn gzip_is_told_by_content() {
    let plain = idx_file(U8, &[2, 3], &[1, 2, 3, 4, 5, 6]);
    let packed = idx::parse("file", &gzip(&plain)).unwrap();
    assert_eq!(packed, idx::parse("file", &plain).unwrap());
    assert_eq!(packed.sizes, [2, 3]);
}

#[test]
fn messages_say_what_is_wrong_and_where() {
    let good = idx_file(U8, &[2, 3], &[1, 2, 3, 4, 5, 6]);
    assert_eq!(
        message(b"PNG file"),
        "file: not an IDX file: it begins with 0x504e4720; an IDX file begins with 0x0000TTRR, \
         TT = element type (08, 09, 0b, 0c, 0d, 0e), RR = number of dimensions \
         (images of bytes: 0x00000803, labels: 0x00000801)"
    );
    assert_eq!(message(&good[..9]), "file: the file ends at byte 9, its header needs 12 bytes; it is cut short");
    assert_eq!(
        message(&good[..15]),
        "file: sizes [2, 3] of 1-byte elements need 6 bytes after the header of 12 bytes; \
         the file has 3; get the file again"
    );
    let mut long = good.clone();
    long.push(0);
    assert!(message(&long).contains("need 6 bytes after the header of 12 bytes; the file has more than 6"));
    assert_eq!(message(&idx_file(U8, &[0, 3], &[])), "file: the header at byte 4 gives the sizes [0, 3], which no data set has");
    let packed = gzip(&good);
    let cut = message(&packed[..packed.len() - 9]);
    assert!(cut.starts_with("file: the gzip data is damaged or cut short after "), "{cut}");
}

#[test]
fn sizes_are_checked_before_memory_is_taken() {
    let vast = idx_file(U8, &[u32::MAX, 1 << 10], &[1, 2, 3]);
    assert!(message(&vast).contains("the file has 3"));
    assert!(message(&gzip(&vast)).contains("(gzip)"));
    let overflowing = idx_file(0x0e, &[u32::MAX; 3], &[]);
    assert!(message(&overflowing).contains("which no data set has"));
}

/// Parses and, if that works, uses the result as images and as labels.
fn use_it(bytes: &[u8]) {
    let Ok(file) = idx::parse("file", bytes) else {
        return;
    };
    let elements: usize = file.sizes.iter().product();
    assert_eq!(elements, file.values.len());
    let labels = vec![0; file.sizes[0]];
    let labels = idx::parse("labels", &idx_file(U8, &[labels.len() as u32], &labels)).unwrap();
    let data = idx::dataset("file", file.clone(), labels, None).unwrap();
    assert_eq!(data.len(), file.sizes[0]);
    let _ = idx::dataset("file", file.clone(), file, None);
}

#[test]
fn every_prefix_and_every_changed_byte_gives_an_error_or_data() {
    let plain = idx_file(U8, &[2, 2, 2], &[0, 1, 2, 3, 4, 5, 6, 7]);
    for file in [gzip(&plain), plain] {
        for end in 0..file.len() {
            assert!(idx::parse("file", &file[..end]).is_err(), "prefix of {end}");
            for byte in 0..=255 {
                let mut changed = file.clone();
                changed[end] = byte;
                use_it(&changed);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        code in 0_u8..16,
        sizes in prop::collection::vec(prop_oneof![0_u32..5, any::<u32>()], 0..4),
        body in prop::collection::vec(any::<u8>(), 0..64),
        packed: bool,
    ) {
        let file = idx_file(code, &sizes, &body);
        use_it(&if packed { gzip(&file) } else { file });
    }
}

fn file(name: &str, sizes: &[u32], body: &[u8]) -> idx::Idx {
    idx::parse(name, &idx_file(U8, sizes, body)).unwrap()
}

fn join_error(images: idx::Idx, labels: idx::Idx, classes: Option<Classes>) -> String {
    let joined = idx::dataset("data", images, labels, classes);
    joined.map(|d| d.len()).unwrap_err().to_string()
}

#[test]
fn images_and_labels_must_fit_together() {
    let images = || file("images", &[3, 1, 2], &[0; 6]);
    assert_eq!(join_error(images(), file("labels", &[2], &[0, 1]), None), "images has 3 rows, labels has 2; they must be equal");
    assert_eq!(
        join_error(file("labels", &[3], &[0, 1, 2]), images(), None),
        "images: labels must be one whole number per sample, found sizes [3, 1, 2]; \
         are images and labels exchanged?"
    );
    assert_eq!(
        join_error(images(), file("labels", &[3], &[0, 1, 2]), Some(Classes::named(["cat", "dog"]))),
        "labels: label 2 in row 2 is outside 0..2"
    );
    let negative = idx::parse("labels", &idx_file(0x09, &[3], &[0, 255, 1])).unwrap();
    assert_eq!(join_error(images(), negative, None), "labels: label -1 in row 1 is outside 0..2");
    let absurd = idx::parse("labels", &idx_file(0x0c, &[1], &[127, 0, 0, 0])).unwrap();
    assert_eq!(join_error(file("images", &[1], &[0]), absurd, None), "labels: label 2130706432 in row 0 is outside 0..1048576");
}

#[test]
fn images_get_a_channel_axis_and_classes_are_counted() {
    let joined = idx::dataset("data", file("images", &[3, 1, 2], &[0; 6]), file("labels", &[3], &[0, 4, 2]), None).unwrap();
    assert_eq!(joined.columns()[0].shape, [1, 2, 1]);
    let backprop_data::Kind::Class(classes) = &joined.columns()[1].kind else {
        panic!("the label column must hold classes");
    };
    assert_eq!((classes.count(), &*classes.name(4)), (5, "4"));
    let colour = file("images", &[1, 1, 2, 3], &[0; 6]);
    let joined = idx::dataset("data", colour, file("labels", &[1], &[0]), None).unwrap();
    assert_eq!(joined.columns()[0].shape, [1, 2, 3]);
}

#[test]
fn a_missing_file_and_a_folder_are_errors_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_path_buf(), folder.path().join("nothing")] {
        let error = idx::read(&path).unwrap_err();
        assert!(matches!(error, DataError::Io { .. }));
        assert!(error.to_string().starts_with(&format!("cannot read {}", path.display())));
    }
}
