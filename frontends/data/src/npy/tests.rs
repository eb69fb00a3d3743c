//! Reading, writing and refusing `.npy` files.

use super::*;
use crate::reference::damaged;

/// A version 1 file of this header and these values.
fn file(header: &str, values: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}

fn read(bytes: &[u8]) -> Result<NpyArray> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    fs::write(&path, bytes).unwrap();
    NpyArray::read(&path)
}

fn refusal(bytes: &[u8]) -> String {
    let error = read(bytes).unwrap_err().to_string();
    error.split_once("a.npy: ").expect("the file is named").1.to_string()
}

#[test]
fn every_element_type_is_written_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for data in [
        NpyData::Bool(vec![true, false, true, true, false, false]),
        NpyData::I8(vec![-128, 127, 0, 1, 2, 3]),
        NpyData::U8(vec![255, 0, 1, 2, 3, 4]),
        NpyData::I16(vec![i16::MIN, i16::MAX, 0, 1, 2, 3]),
        NpyData::U16(vec![u16::MAX, 0, 1, 2, 3, 4]),
        NpyData::I32(vec![i32::MIN, i32::MAX, 0, 1, 2, 3]),
        NpyData::U32(vec![u32::MAX, 0, 1, 2, 3, 4]),
        NpyData::I64(vec![i64::MIN, i64::MAX, 0, 1, 2, 3]),
        NpyData::U64(vec![u64::MAX, 0, 1, 2, 3, 4]),
        NpyData::F16([0.5, -1.0, 65504.0, 0.0, 2.0, 3.0].map(f16::from_f32).to_vec()),
        NpyData::F32(vec![0.1, -1.0, f32::MAX, 0.0, 2.0, f32::INFINITY]),
        NpyData::F64(vec![0.1, -1.0, f64::MAX, 0.0, 2.0, 3.0]),
    ] {
        for shape in [vec![6], vec![2, 3], vec![1, 6, 1]] {
            let array = NpyArray::new(shape, data.clone()).unwrap();
            array.write(&path).unwrap();
            assert_eq!(NpyArray::read(&path).unwrap(), array);
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the file");
}

#[test]
fn the_written_bytes_are_numpys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for (shape, written) in [(vec![], "()"), (vec![1], "(1,)"), (vec![1, 1], "(1, 1)")] {
        NpyArray::new(shape, NpyData::F32(vec![1.0])).unwrap().write(&path).unwrap();
        // As `numpy.save` writes it: padded with spaces to 128 bytes in all.
        let literal = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {written}, }}");
        let expected = file(&format!("{literal:117}\n"), &1.0f32.to_le_bytes());
        assert_eq!(fs::read(&path).unwrap(), expected);
    }
}

#[test]
fn empty_and_scalar_arrays_are_read() {
    let empty = read(&file("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4), }", &[])).unwrap();
    assert_eq!(empty, NpyArray::new(vec![0, 4], NpyData::F32(vec![])).unwrap());
    let scalar = read(&file("{'shape': (), 'descr': '|u1', 'fortran_order': False}", &[7])).unwrap();
    assert_eq!(scalar, NpyArray::new(vec![], NpyData::U8(vec![7])).unwrap());
}

#[test]
fn fortran_order_and_big_endian_are_converted() {
    let values: Vec<u8> = [1i16, 4, 2, 5, 3, 6].iter().flat_map(|value| value.to_be_bytes()).collect();
    let array = read(&file("{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }", &values)).unwrap();
    assert_eq!(array, NpyArray::new(vec![2, 3], NpyData::I16(vec![1, 2, 3, 4, 5, 6])).unwrap());
    let cube: Vec<u8> = (0..24).collect();
    let array = read(&file("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3, 4), }", &cube)).unwrap();
    let NpyData::U8(values) = array.data() else { panic!("{array:?}") };
    for (at, value) in values.iter().enumerate() {
        let (i, j, k) = (at / 12, at / 4 % 3, at % 4);
        assert_eq!(usize::from(*value), i + 2 * j + 6 * k);
    }
}

#[test]
fn an_empty_array_in_fortran_order_has_no_strides_to_overflow() {
    let header = |shape: &str| format!("{{'descr': '<f4', 'fortran_order': True, 'shape': {shape}}}");
    assert!(read(&file(&header("(4, 0)"), &[])).unwrap().data().is_empty());
    assert!(refusal(&file(&header("(9223372036854775807, 9, 0)"), &[])).ends_with("is larger than memory"));
}

#[test]
fn lengths_must_fit_the_shape() {
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
    for values in [&[0; 11][..], &[0; 13], &[]] {
        assert_eq!(
            refusal(&file(header, values)),
            format!(
                "the shape [3] of f4 takes 12 bytes but the file has {} after its header; write it again",
                values.len()
            )
        );
    }
    let whole = file(header, &[0; 12]);
    for length in 0..whole.len() {
        assert!(read(&whole[..length]).is_err(), "{length} bytes of {}", whole.len());
    }
}

#[test]
fn a_shape_larger_than_memory_is_refused() {
    for shape in ["(4294967296, 4294967296, 2)", "(0, 9223372036854775807, 9)", "(9223372036854775807,)"] {
        let reason = refusal(&file(
            &format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"),
            &[0; 12],
        ));
        assert!(reason.ends_with("is larger than memory"), "{reason}");
    }
    let reason =
        refusal(&file("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}", &[0; 12]));
    assert!(reason.contains("takes 4000000000000 bytes but the file has 12"), "{reason}");
}

#[test]
fn a_huge_header_is_refused_before_it_is_read() {
    let mut bytes = MAGIC.to_vec();
    bytes.extend([2, 0, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(
        refusal(&bytes),
        "not a usable .npy file: a header of 4294967295 bytes is longer than the 65536 allowed"
    );
}

#[test]
fn headers_of_another_form_are_refused() {
    let reason = |header: &str| refusal(&file(header, &[0; 8])).replacen("not a usable .npy file: ", "", 1);
    assert!(reason("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}").contains("element type `|O`"));
    assert!(reason("{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}").contains("element type `<c8`"));
    assert!(reason("{'descr': '\u{e9}f4', 'fortran_order': False, 'shape': (1,)}").contains("element type"));
    assert!(reason("{'descr': [('a', '<f4')], }").contains("structured arrays are not supported"));
    assert_eq!(reason("{'descr': '<f4', 'shape': (2,)}"), "the header lacks `fortran_order`");
    assert!(reason("{'descr': '<f4', 'fortran_order': Maybe}").contains("`True` or `False`"));
    assert!(reason("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}").contains("an extent"));
    assert!(reason(&format!("{{'shape': ({})}}", "1,".repeat(65))).contains("more than 64 axes"));
    assert!(reason(&"(".repeat(60000)).contains("`{` should be"));
    assert!(reason("{'descr': '<f4").contains("a closed string"));
    assert_eq!(reason("{'magic': 'x'}"), "the header has an unknown key `magic`");
    assert!(refusal(b"PK\x03\x04 an .npz").contains("save the array with numpy.save"));
}

#[test]
fn damaged_files_never_panic() {
    let whole = file("{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2), }", &[1; 24]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for seed in 0..2000 {
        fs::write(&path, damaged(&whole, seed)).unwrap();
        if let Ok(array) = NpyArray::read(&path) {
            assert_eq!(element_count(array.shape()), Some(array.data().len()));
        }
    }
}

#[test]
fn an_array_has_as_many_elements_as_its_shape() {
    assert!(NpyArray::new(vec![2, 3], NpyData::U8(vec![0; 5])).is_err());
    assert!(NpyArray::new(vec![usize::MAX, 2], NpyData::U8(vec![])).is_err());
}

#[test]
fn only_integers_are_token_ids() {
    let ids = |data: NpyData| NpyArray::new(vec![data.len()], data).unwrap().token_ids();
    assert_eq!(ids(NpyData::U16(vec![65535, 3])).unwrap(), [65535, 3]);
    assert_eq!(ids(NpyData::I64(vec![4294967295])).unwrap(), [u32::MAX]);
    let error = ids(NpyData::I64(vec![0, 4294967296])).unwrap_err().to_string();
    assert_eq!(error, "element 1 is 4294967296, which is not a token id");
    let error = ids(NpyData::F32(vec![1.0])).unwrap_err().to_string();
    assert_eq!(error, "elements are float32, but token ids are integers; convert the array");
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("taken");
    fs::create_dir_all(path.join("inside")).unwrap();
    let array = NpyArray::new(vec![1], NpyData::U8(vec![1])).unwrap();
    assert!(matches!(array.write(&path), Err(DataError::Write { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
