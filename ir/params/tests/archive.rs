//! Archives as they should be, and as nobody should write them: each of those is an error that names the file.

use std::os::unix::fs::symlink;
use std::path::Path;

use half::{bf16, f16};
use qcc_ir::{ElementType, TensorType};
use qcc_params::{ArchiveError, Data, Parameters, Source, Tensor, open_external, open_safetensors};
use safetensors::tensor::{Dtype, TensorView, serialize};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn put(folder: &TempDir, name: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(folder.path().join(name), bytes).expect("written");
}

/// A file of this header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + data, 7);
    file
}

/// One f32 vector of the given name.
fn shard(name: &str) -> Vec<u8> {
    file(&format!(r#"{{"{name}":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}}"#), 8)
}

fn index(entries: &[(&str, &str)]) -> String {
    let entries: Vec<String> = entries.iter().map(|(name, file)| format!(r#""{name}":"{file}""#)).collect();
    format!(r#"{{"metadata":{{}},"weight_map":{{{}}}}}"#, entries.join(","))
}

fn refused(path: &Path) -> String {
    open_safetensors(path).expect_err("it must be refused").to_string()
}

fn refused_file(bytes: impl AsRef<[u8]>) -> String {
    let folder = folder();
    put(&folder, "model.safetensors", bytes);
    let message = refused(folder.path());
    assert!(message.contains("model.safetensors"), "{message}");
    message
}

#[test]
fn elements_of_every_type_are_read() {
    let tensors = [
        ("half", Dtype::F16, Data::F16([1.5, -0.25].map(f16::from_f32).to_vec())),
        ("brain", Dtype::BF16, Data::BF16([3.0, -1e30].map(bf16::from_f32).to_vec())),
        ("single", Dtype::F32, Data::F32(vec![1e-40, f32::INFINITY])),
        ("long", Dtype::I64, Data::I64(vec![i64::MIN, 7])),
        ("int", Dtype::I32, Data::I32(vec![-1, i32::MAX])),
        ("signed", Dtype::I8, Data::I8(vec![-128, 127])),
        ("unsigned", Dtype::U8, Data::U8(vec![0, 255])),
        ("truth", Dtype::BOOL, Data::Bool(vec![true, false])),
    ];
    let element = |dtype| match dtype {
        Dtype::F16 => ElementType::F16,
        Dtype::BF16 => ElementType::BF16,
        Dtype::F32 => ElementType::F32,
        Dtype::I64 => ElementType::I64,
        Dtype::I32 => ElementType::I32,
        Dtype::I8 => ElementType::I8,
        Dtype::U8 => ElementType::U8,
        _ => ElementType::Bool,
    };
    let tensors = tensors.map(|(name, dtype, data)| {
        (name, dtype, Tensor::new(vec![1, 2], element(dtype), data).expect("two elements"))
    });
    let bytes: Vec<_> = tensors.iter().map(|(name, dtype, t)| (*name, *dtype, t.to_le_bytes())).collect();
    let views = bytes.iter().map(|(n, d, b)| (*n, TensorView::new(*d, vec![1, 2], b).expect("a view")));
    let folder = folder();
    put(&folder, "model.safetensors", serialize(views, None).expect("serialized"));

    let archive = open_safetensors(folder.path()).expect("opens");
    assert_eq!(archive.files(), [folder.path().join("model.safetensors")]);
    let mut parameters = Parameters::new();
    archive.add_to(&mut parameters, "checkpoint").expect("no name is taken");
    assert_eq!(parameters.len(), tensors.len());
    for (name, _, tensor) in &tensors {
        let (ty, bytes) = archive.get(name).expect(name);
        assert_eq!(Tensor::from_le_bytes(&ty, bytes.as_slice()).as_ref(), Ok(tensor));
        let name = format!("checkpoint::{name}");
        assert_eq!(parameters.ty(&name), Some(&tensor.ty()));
        assert!(matches!(parameters.source(&name), Some(Source::Bytes(_))));
    }
    assert!(archive.add_to(&mut parameters, "checkpoint").is_err());
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = shard("w");
    let folder = folder();
    let path = folder.path().join("model.safetensors");
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).expect("written");
        assert!(matches!(
            open_safetensors(&path),
            Err(ArchiveError::File { .. } | ArchiveError::Tensor { .. })
        ));
    }
    std::fs::write(&path, &whole).expect("written");
    assert_eq!(open_safetensors(&path).expect("whole").tensors().count(), 1);
    std::fs::write(&path, [whole, vec![0]].concat()).expect("written");
    assert!(refused(&path).contains("its tensors end at 8, its data at 9"));
}

#[test]
fn any_byte_may_be_wrong() {
    let whole = shard("w");
    let folder = folder();
    let path = folder.path().join("model.safetensors");
    for at in 0..whole.len() {
        for flip in [1, 0x20, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            std::fs::write(&path, bytes).expect("written");
            if let Ok(archive) = open_safetensors(&path) {
                archive.tensors().for_each(|(name, _)| assert!(archive.get(name).is_some()));
            }
        }
    }
}

#[test]
fn headers_that_lie() {
    let two = |first: &str, second: &str| {
        let tensor = |at: &str| format!(r#"{{"dtype":"U8","shape":[4],"data_offsets":{at}}}"#);
        file(&format!(r#"{{"a":{},"b":{}}}"#, tensor(first), tensor(second)), 8)
    };
    let one = |shape: &str, at: &str| {
        file(&format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{at}}}}}"#), 8)
    };
    let most = u64::MAX;
    for (bytes, expected) in [
        (two("[0,4]", "[2,6]"), "tensor `b`: its data at 2 to 6 overlaps the tensor before"),
        (two("[0,4]", "[5,9]"), "tensor `b`: its data at 5 to 9 leaves a gap"),
        (two("[0,4]", "[0,4]"), "overlaps"),
        (one("[2]", "[0,4]"), "tensor `a`: tensor<2xf32> needs 8 bytes"),
        (one("[2]", "[8,0]"), "needs 8 bytes"),
        (one("[3]", "[0,12]"), "its data ends at 12, the file has 8: it was cut off"),
        (one("[1]", "[0,4]"), "its tensors end at 4, its data at 8"),
        (one(&format!("[{most}]"), &format!("[0,{most}]")), "larger than memory can be"),
        (one("[4294967296,4294967296,2]", "[0,8]"), "larger than memory can be"),
        (one(&format!("[{most},0]"), "[0,0]"), "larger than memory can be"),
        (one(&format!("[{}]", vec!["1"; 40].join(",")), "[0,4]"), "has 40 axes, at most 32"),
        (one("[-1]", "[0,8]"), "its header is damaged"),
        (file(r#"{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,8]}}"#, 8), "elements of type F4"),
        (file(r#"{"a":7}"#, 8), "its header is damaged"),
        (file("[]", 0), "its header is damaged"),
        (most.to_le_bytes().to_vec(), "are too many for a header"),
        (200_000_000u64.to_le_bytes().to_vec(), "are too many for a header"),
        (64u64.to_le_bytes().to_vec(), "it should have 64 bytes, the file has 0 more"),
        (vec![], "it is cut off"),
        (file(&"[".repeat(100_000), 0), "its header is damaged"),
        (file(&format!(r#"{{"__metadata__":{}}}"#, "[".repeat(100_000)), 0), "its header is damaged"),
    ] {
        let message = refused_file(bytes);
        assert!(message.contains(expected), "{message}\nwhere `{expected}` is expected");
    }
    let twice = r#""a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    let message = refused_file(file(&format!("{{{twice},{twice}}}"), 0));
    assert!(message.contains("tensor `a` stands twice"), "{message}");
}

#[test]
fn sums_of_sizes_do_not_wrap() {
    // Each is possible alone; eight of them reach the largest number there is.
    let size = 1u64 << 61;
    let tensors = (0..8).map(|i| {
        let (begin, end) =
            (i * size, u64::try_from((u128::from(i) + 1) * u128::from(size)).unwrap_or(u64::MAX));
        format!(r#""{i}":{{"dtype":"U8","shape":[{}],"data_offsets":[{begin},{end}]}}"#, end - begin)
    });
    let header = format!("{{{}}}", tensors.collect::<Vec<_>>().join(","));
    assert!(refused_file(file(&header, 8)).contains("it was cut off"));
}

#[test]
fn empty_archives_and_tensors() {
    let folder = folder();
    put(&folder, "model.safetensors", file("{}", 0));
    assert_eq!(open_safetensors(folder.path()).expect("opens").tensors().count(), 0);
    let header = r#"{"__metadata__":{"format":"pt"},"z":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
        "a":{"dtype":"F32","shape":[0,3],"data_offsets":[8,8]},"b":{"dtype":"F32","shape":[5,0],"data_offsets":[0,0]}}   "#;
    put(&folder, "model.safetensors", file(header, 8));
    let archive = open_safetensors(folder.path()).expect("opens");
    let types: Vec<_> = archive.tensors().map(|(name, ty)| (name, ty.clone())).collect();
    let f32 = |dims: &[i64]| TensorType::new(dims.iter().copied(), ElementType::F32);
    assert_eq!(types, [("a", f32(&[0, 3])), ("b", f32(&[5, 0])), ("z", f32(&[2]))]);
}

#[test]
fn shards_are_one_archive() {
    let folder = folder();
    put(&folder, "one.safetensors", shard("a"));
    put(&folder, "two.safetensors", shard("b"));
    let both = index(&[("a", "one.safetensors"), ("b", "two.safetensors")]);
    put(&folder, "model.safetensors.index.json", both);
    let archive = open_safetensors(folder.path()).expect("opens");
    assert_eq!(archive.tensors().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(archive.files().len(), 3);
    // The same name in both.
    put(&folder, "two.safetensors", shard("a"));
    let message = refused(folder.path());
    assert!(message.contains("two.safetensors`: tensor `a`: another file"), "{message}");
    // A name that no shard has.
    put(&folder, "two.safetensors", shard("c"));
    let message = refused(folder.path());
    assert!(message.contains("lists tensor `b`, which no shard has"), "{message}");
    std::fs::remove_file(folder.path().join("two.safetensors")).expect("removed");
    assert!(refused(folder.path()).contains("two.safetensors"));
    put(&folder, "model.safetensors.index.json", r#"{"weight_map":{"a":["#);
    assert!(refused(folder.path()).contains("index.json"));
}

#[test]
fn names_of_files_stay_inside_the_folder() {
    let (folder, outside) = (folder(), folder());
    put(&outside, "secret.safetensors", shard("a"));
    let secret = outside.path().join("secret.safetensors");
    let up =
        format!("../{}/secret.safetensors", outside.path().file_name().expect("a name").to_string_lossy());
    symlink(&secret, folder.path().join("link.safetensors")).expect("linked");
    symlink(outside.path(), folder.path().join("door")).expect("linked");
    std::fs::create_dir(folder.path().join("inner")).expect("made");
    let absolute = secret.to_string_lossy();
    let names =
        [&*absolute, &up, "link.safetensors", "door/secret.safetensors", "inner/../one", "", "..", "/"];
    for name in names {
        put(&folder, "model.safetensors.index.json", index(&[("a", name)]));
        let message = refused(folder.path());
        assert!(message.contains("refuses the file name"), "`{name}`: {message}");
        let message = open_external(folder.path(), name, 0, None).expect_err(name).to_string();
        assert!(message.contains("refuses the file name"), "`{name}`: {message}");
    }
    // A folder, or nothing, is no file.
    for name in ["inner", ".", "absent.bin", "nul\0"] {
        assert!(open_external(folder.path(), name, 0, None).is_err(), "{name:?}");
    }
    // A link within the folder is a file of it, and so is a file of a folder in it.
    put(&folder, "inner/real.safetensors", shard("a"));
    symlink("inner/real.safetensors", folder.path().join("near.safetensors")).expect("linked");
    for name in ["near.safetensors", "./inner/real.safetensors"] {
        put(&folder, "model.safetensors.index.json", index(&[("a", name)]));
        assert!(open_safetensors(folder.path()).is_ok(), "{name}");
    }
}

#[test]
fn a_snapshot_of_the_hugging_face_cache_links_to_its_blobs() {
    let cache = folder();
    let snapshot = cache.path().join("models--x/snapshots/abc");
    std::fs::create_dir_all(&snapshot).expect("made");
    std::fs::create_dir(cache.path().join("models--x/blobs")).expect("made");
    std::fs::write(cache.path().join("models--x/blobs/0123"), shard("a")).expect("written");
    symlink("../../blobs/0123", snapshot.join("model.safetensors")).expect("linked");
    assert!(open_safetensors(&snapshot).is_ok());
}

#[test]
fn regions_of_external_files() {
    let folder = folder();
    put(&folder, "data.bin", [0, 1, 2, 3, 4, 5, 6, 7]);
    put(&folder, "empty.bin", []);
    let open = |name, offset, length| {
        open_external(folder.path(), name, offset, length).map(|bytes| bytes.as_slice().to_vec())
    };
    assert_eq!(open("data.bin", 2, Some(3)), Ok(vec![2, 3, 4]));
    assert_eq!(open("data.bin", 6, None), Ok(vec![6, 7]));
    assert_eq!(open("data.bin", 8, None), Ok(vec![]));
    assert_eq!(open("empty.bin", 0, Some(0)), Ok(vec![]));
    for (name, offset, length) in [
        ("data.bin", 9, None),
        ("data.bin", 8, Some(1)),
        ("data.bin", 0, Some(9)),
        ("data.bin", u64::MAX, Some(u64::MAX)),
        ("data.bin", 1, Some(u64::MAX)),
        ("empty.bin", 0, Some(1)),
    ] {
        let message = open(name, offset, length).expect_err("outside").to_string();
        assert!(message.contains(name) && message.contains("was cut off"), "{message}");
    }
}

#[test]
fn other_checkpoints_are_named() {
    let folder = folder();
    put(&folder, "pytorch_model.bin", "");
    let message = refused(folder.path());
    assert!(message.contains("must be saved as safetensors first"), "{message}");
}
