//! The parameter file and the manifest: what is written is read back, and what is damaged is refused.

use std::path::Path;

use crate::fixture::{bias, bytes, expected, kernels, program, ramp};
use crate::step;
use qcc_runtime::program::ParameterSlot;
use qcc_runtime::{Manifest, Model, PARAMETER_FILE, ParameterWriter, Parameters, State};

/// An artifact's directory, without code.
fn write_artifact(directory: &Path) {
    let mut file = Vec::new();
    let mut writer = ParameterWriter::new(&mut file, &program().parameters).unwrap();
    writer.write(&[1, 2, 3]).unwrap();
    writer.write(&bytes(&bias())).unwrap();
    let written = writer.finish().unwrap();
    assert_eq!(written.bytes, file.len() as u64);
    std::fs::write(directory.join(PARAMETER_FILE), file).unwrap();
    let manifest = serde_json::json!({
        "schema": 1, "features": [], "recipe": { "ignored": true },
        "files": { PARAMETER_FILE: { "bytes": written.bytes, "blake3": written.blake3 } },
    });
    std::fs::write(directory.join("manifest.json"), manifest.to_string()).unwrap();
}

fn open(directory: &Path) -> Result<Model, String> {
    // SAFETY: the kernels are those the program was written for.
    unsafe { Model::open(directory, program(), kernels()) }.map_err(|e| e.to_string())
}

fn edit(directory: &Path, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = directory.join(file);
    let mut contents = std::fs::read(&path).unwrap();
    change(&mut contents);
    std::fs::write(path, contents).unwrap();
}

/// The error of an artifact after a change.
fn refused(change: impl FnOnce(&Path)) -> String {
    let directory = tempfile::tempdir().unwrap();
    write_artifact(directory.path());
    open(directory.path()).unwrap();
    change(directory.path());
    open(directory.path()).unwrap_err()
}

#[test]
fn an_artifact_runs() {
    let directory = tempfile::tempdir().unwrap();
    write_artifact(directory.path());
    let mut state = State::new(&open(directory.path()).unwrap(), 2).unwrap();
    assert_eq!(step(&mut state, 3, &ramp(3)).unwrap(), expected(&ramp(3), 1));
    let contents = std::fs::read(directory.path().join(PARAMETER_FILE)).unwrap();
    let stock = safetensors::SafeTensors::deserialize(&contents).unwrap();
    assert_eq!(&stock.tensor("bias").unwrap().data()[..20], bytes(&bias()));
}

#[test]
fn damage_is_refused_with_its_place() {
    let truncated = refused(|d| edit(d, PARAMETER_FILE, |c| c.truncate(c.len() - 1)));
    assert!(truncated.contains("bytes where the manifest says"), "{truncated}");
    let flipped = refused(|d| edit(d, PARAMETER_FILE, |c| *c.last_mut().unwrap() ^= 1));
    assert!(flipped.contains(PARAMETER_FILE) && flipped.contains("hash differs"), "{flipped}");
    let missing = refused(|d| std::fs::remove_file(d.join(PARAMETER_FILE)).unwrap());
    assert!(missing.contains(PARAMETER_FILE), "{missing}");
    let gone = refused(|d| std::fs::remove_file(d.join("manifest.json")).unwrap());
    assert!(gone.contains("this is not a compiled model"), "{gone}");
    let cut = refused(|d| edit(d, "manifest.json", |c| c.truncate(20)));
    assert!(cut.contains("the file is damaged"), "{cut}");
}

fn rewrite_manifest(directory: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    edit(directory, "manifest.json", |c| {
        let mut manifest = serde_json::from_slice(c).unwrap();
        change(&mut manifest);
        *c = manifest.to_string().into_bytes();
    });
}

#[test]
fn the_manifest_is_checked() {
    let version = refused(|d| rewrite_manifest(d, |m| *m = serde_json::json!({ "schema": 7 })));
    assert!(version.contains("the artifact's version is 7"), "{version}");
    let features =
        refused(|d| rewrite_manifest(d, |m| m["features"] = serde_json::json!(["avx4096", "amx9"])));
    assert!(features.contains("this CPU lacks avx4096, amx9"), "{features}");
    let outside = serde_json::json!({ "../x": { "bytes": 0, "blake3": "" } });
    let outside = refused(|d| rewrite_manifest(d, |m| m["files"] = outside));
    assert!(outside.contains("not the name of a file of the artifact"), "{outside}");
    let unlisted = refused(|d| rewrite_manifest(d, |m| m["files"] = serde_json::json!({})));
    assert!(unlisted.contains("the manifest does not list it"), "{unlisted}");
    let hash = refused(|d| rewrite_manifest(d, |m| m["files"][PARAMETER_FILE]["blake3"] = "zz".into()));
    assert!(hash.contains("malformed"), "{hash}");
}

#[test]
fn headers_that_lie_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.safetensors");
    let file = |header: &str, data: usize| {
        let mut contents = (header.len() as u64).to_le_bytes().to_vec();
        contents.extend(header.as_bytes());
        contents.resize(contents.len() + data, 0);
        contents
    };
    let tensor = |begin: u64, end: u64, n: u64| {
        format!(r#"{{"a":{{"dtype":"U8","shape":[{n}],"data_offsets":[{begin},{end}]}}}}"#)
    };
    for contents in [
        vec![],
        vec![0xff; 7],
        vec![0xff; 64],
        file(&tensor(0, 64, 64), 63),
        file(&tensor(0, 64, 32), 64),
        file(&tensor(8, 64, 56), 64),
        file(&tensor(64, 0, 64), 64),
        file(&tensor(0, u64::MAX, u64::MAX), 64),
        file("{", 0),
        file("[1]", 0),
    ] {
        std::fs::write(&path, &contents).unwrap();
        assert!(Parameters::open(&path).is_err(), "{contents:?}");
    }
    assert!(Parameters::open(directory.path()).unwrap_err().to_string().contains("not a regular file"));
}

#[test]
fn unaligned_data_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    write_artifact(directory.path());
    let path = directory.path().join(PARAMETER_FILE);
    // One space more in the header moves all data by a byte.
    edit(directory.path(), PARAMETER_FILE, |c| {
        let header = u64::from_le_bytes(c[..8].try_into().unwrap()) + 1;
        c[..8].copy_from_slice(&header.to_le_bytes());
        c.insert(7 + header as usize, b' ');
    });
    let parameters = Parameters::open(&path).unwrap();
    // SAFETY: never run.
    let error = unsafe { Model::new(program(), kernels(), parameters) }.unwrap_err().to_string();
    assert!(
        error.contains("parameter `unused`: its data does not start at a multiple of 64 bytes"),
        "{error}"
    );
}

#[test]
fn writers_must_keep_what_they_announced() {
    let slots = [ParameterSlot { name: "a".into(), bytes: 2 }];
    let mut writer = ParameterWriter::new(Vec::new(), &slots).unwrap();
    assert!(writer.write(&[1]).unwrap_err().to_string().contains("1 bytes where 2 were announced"));
    let writer = ParameterWriter::new(Vec::new(), &slots).unwrap();
    assert!(writer.finish().unwrap_err().to_string().contains("`a`: it has not been written"));
    let twice = [slots[0].clone(), slots[0].clone()];
    assert!(ParameterWriter::new(Vec::new(), &twice).err().unwrap().to_string().contains("two of this name"));
    let mut writer = ParameterWriter::new(Vec::new(), &slots).unwrap();
    writer.write(&[1, 2]).unwrap();
    assert!(writer.write(&[1, 2]).is_err());
}

#[test]
fn sizes_of_all_listed_files_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    write_artifact(directory.path());
    std::fs::write(directory.path().join("tokenizer.json"), "{}").unwrap();
    let record = |bytes: u64| serde_json::json!({ "bytes": bytes, "blake3": "" });
    rewrite_manifest(directory.path(), |m| m["files"]["tokenizer.json"] = record(2));
    Manifest::open(directory.path()).unwrap();
    rewrite_manifest(directory.path(), |m| m["files"]["tokenizer.json"] = record(3));
    assert!(Manifest::open(directory.path()).unwrap_err().to_string().contains("tokenizer.json"));
}
