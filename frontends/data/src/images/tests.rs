//! Listing, labelling and batching of image folders.

use super::*;
use crate::reference::shared;

const IMAGE: &[u8] = include_bytes!("../image/fixtures/alpha.png");

fn folder(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        fs::write(folder.path().join(name), IMAGE).unwrap();
    }
    folder
}

fn names(entries: &[ImageEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

fn input() -> ImageInput {
    ImageInput { width: 27, height: 19, layout: Layout::Chw, preprocess: Preprocess::UNIT }
}

#[test]
fn images_are_listed_by_name_and_other_files_passed_over() {
    let folder = folder(&["b.PNG", "a10.jpg", "a2.jpeg", "labels.txt", "noextension"]);
    assert_eq!(names(&list(folder.path()).unwrap()), ["a10.jpg", "a2.jpeg", "b.PNG"]);
}

#[test]
fn a_folder_without_images_is_an_error() {
    let folder = folder(&["labels.txt"]);
    assert!(
        list(folder.path()).unwrap_err().to_string().ends_with("no .jpg, .jpeg or .png file in this folder")
    );
    assert!(matches!(list(&folder.path().join("absent")), Err(DataError::Read { .. })));
}

#[test]
fn labels_keep_their_order_and_names_may_have_spaces() {
    let folder = folder(&["a.png", "a b.png"]);
    let labels = folder.path().join("labels.txt");
    fs::write(&labels, "a b.png 3\n\n  a.png\t0\r\n").unwrap();
    let entries = labelled(folder.path(), &labels).unwrap();
    assert_eq!(names(&entries), ["a b.png", "a.png"]);
    assert_eq!(entries.iter().map(|entry| entry.class).collect::<Vec<_>>(), [Some(3), Some(0)]);
}

#[test]
fn label_errors_have_a_line() {
    let folder = folder(&["a.png"]);
    let labels = folder.path().join("labels.txt");
    let error = |text: &str| {
        fs::write(&labels, text).unwrap();
        let error = labelled(folder.path(), &labels).unwrap_err().to_string();
        error.rsplit_once("labels.txt").unwrap().1.to_string()
    };
    let form = "write `image-file-name class-index`";
    assert_eq!(error("a.png 1\n\na.png\n"), format!(":3: `a.png` has no class; {form}"));
    assert_eq!(error("a.png -1"), format!(":1: `-1` is not a class index; {form}"));
    assert_eq!(error("a.png 1\na.png dog"), format!(":2: `dog` is not a class index; {form}"));
    assert_eq!(error("\n"), ": no labels; write lines of `image-file-name class-index`");
    fs::write(&labels, "a.png 1\nb.png 2").unwrap();
    let error = labelled(folder.path(), &labels).unwrap_err().to_string();
    assert!(error.contains("labels.txt:2: ") && error.ends_with("has no image `b.png`"), "{error}");
}

#[test]
fn calibration_takes_every_nth() {
    let all: Vec<usize> = (0..1000).collect();
    let chosen = every_nth(&all, 64);
    assert_eq!((chosen.len(), chosen[1], chosen[63]), (64, 15, 945));
    assert_eq!(every_nth(&all[..10], 64), all[..10]);
    assert_eq!(every_nth(&all[..100], 64), all[..64]);
    assert_eq!(every_nth(&all, 0), Vec::<usize>::new());
    assert_eq!(every_nth(&all[..0], 64), Vec::<usize>::new());
}

#[test]
fn batches_hold_the_images_in_order() {
    let folder = folder(&["a.png", "b.png", "c.png"]);
    let white = include_bytes!("../image/fixtures/bilevel.png");
    fs::write(folder.path().join("b.png"), white).unwrap();
    let entries = list(folder.path()).unwrap();
    let batches: Vec<_> = input().batches(&entries, 2).unwrap().map(Result::unwrap).collect();
    assert_eq!(
        batches.iter().map(|batch| names(batch.entries)).collect::<Vec<_>>(),
        [vec!["a.png", "b.png"], vec!["c.png"]]
    );
    let elements = input().elements().unwrap();
    let single: Vec<_> = entries.iter().map(|entry| input().read(&entry.path).unwrap()).collect();
    assert_ne!(single[0], single[1]);
    assert_eq!(batches[0].data, [single[0].clone(), single[1].clone()].concat());
    assert_eq!(batches[1].data, single[2]);
    assert_eq!(elements, 27 * 19 * 3);
}

#[test]
fn the_first_unreadable_image_ends_the_batches() {
    let folder = folder(&["a.png", "b.png", "c.png", "d.png"]);
    for broken in ["b.png", "c.png"] {
        fs::write(folder.path().join(broken), &IMAGE[..100]).unwrap();
    }
    let entries = list(folder.path()).unwrap();
    let mut batches = input().batches(&entries, 4).unwrap();
    let error = batches.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("b.png: damaged or unsupported PNG"), "{error}");
    assert!(batches.next().is_none());
}

#[test]
fn impossible_inputs_are_refused() {
    assert!(input().batches(&[], 0).is_err());
    assert!(ImageInput { width: 0, ..input() }.elements().is_err());
    assert!(ImageInput { width: u32::MAX, height: u32::MAX, ..input() }.elements().is_err());
}

#[test]
fn the_shared_data_sets_are_readable() {
    for (set, count) in [("imagenet-1000", 1000), ("cifar10-2000", 2000)] {
        let Some(folder) = shared(&format!("data/{set}")) else { return };
        let entries = labelled(&folder.join("images"), &folder.join("labels.txt")).unwrap();
        let listed = list(&folder.join("images")).unwrap();
        assert_eq!((entries.len(), listed.len()), (count, count));
        let chosen = every_nth(&listed, 16);
        let input = ImageInput { width: 32, height: 32, ..input() };
        let read: usize = input.batches(&chosen, 7).unwrap().map(|batch| batch.unwrap().entries.len()).sum();
        assert_eq!(read, 16);
    }
}
