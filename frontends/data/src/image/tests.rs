//! Decoding against Pillow: each `fixtures/NAME.rgb.png` holds what `Image.open(NAME).convert("RGB")` gives.

use super::*;
use crate::reference::{damaged, hash, shared};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/", $name)).as_slice()
    };
}

fn decoded(bytes: &[u8]) -> RgbImage {
    RgbImage::decode(bytes).unwrap()
}

/// Mean and largest absolute difference of two images of the same size.
fn difference(a: &RgbImage, b: &RgbImage) -> (f64, u8) {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    let differences = a.pixels().iter().zip(b.pixels()).map(|(a, b)| a.abs_diff(*b));
    (
        differences.clone().map(f64::from).sum::<f64>() / a.pixels().len() as f64,
        differences.max().unwrap_or(0),
    )
}

#[test]
fn png_kinds_give_pillows_pixels() {
    for (bytes, expected) in [
        (fixture!("alpha.png"), fixture!("alpha.rgb.png")),
        (fixture!("grey-alpha.png"), fixture!("grey-alpha.rgb.png")),
        (fixture!("palette.png"), fixture!("palette.rgb.png")),
        (fixture!("bilevel.png"), fixture!("bilevel.rgb.png")),
    ] {
        assert_eq!(decoded(bytes), decoded(expected));
    }
}

#[test]
fn jpeg_kinds_come_near_libjpeg_turbo() {
    for (bytes, expected) in [
        (fixture!("subsampled.jpg"), fixture!("subsampled.rgb.png")),
        (fixture!("progressive.jpg"), fixture!("progressive.rgb.png")),
        (fixture!("cmyk.jpg"), fixture!("cmyk.rgb.png")),
        (fixture!("grey.jpg"), fixture!("grey.rgb.png")),
    ] {
        let (mean, largest) = difference(&decoded(bytes), &decoded(expected));
        assert!(mean < 0.15 && largest <= 4, "mean {mean} largest {largest}");
    }
}

#[test]
fn cifar_pixels_are_exact() {
    let Some(folder) = shared("data/cifar10-2000/images") else { return };
    let image = RgbImage::read(folder.join("00007.png")).unwrap();
    assert_eq!((image.width(), image.height()), (32, 32));
    assert_eq!(hash(image.pixels()), 0x50bd2f3118f9a3aa);
}

#[test]
fn photographs_come_near_libjpeg_turbo() {
    let Some(folder) = shared("data/imagenet-1000/images") else { return };
    // Size, channel means and the pixels at (0, 0), (60, 50), (200, 120), (10, 255) from Pillow.
    let photographs = [
        (
            "n01440764.jpg",
            (341, 256),
            [106.549, 111.256, 94.903],
            [[67, 82, 79], [90, 105, 100], [236, 192, 71], [59, 71, 71]],
        ),
        (
            "n02669723.jpg",
            (256, 360),
            [170.464, 164.299, 162.432],
            [[255, 255, 255], [255, 255, 255], [255, 245, 242], [255, 255, 255]],
        ),
        (
            "n04243546.jpg",
            (256, 304),
            [121.099, 108.112, 91.955],
            [[148, 154, 150], [230, 233, 120], [22, 27, 57], [73, 69, 44]],
        ),
    ];
    for (name, size, means, points) in photographs {
        let image = RgbImage::read(folder.join(name)).unwrap();
        assert_eq!((image.width(), image.height()), size);
        for (channel, expected) in means.into_iter().enumerate() {
            let values = image.pixels().iter().skip(channel).step_by(3);
            let mean = values.map(|&value| f64::from(value)).sum::<f64>() / f64::from(size.0 * size.1);
            assert!((mean - expected).abs() < 0.2, "{name} channel {channel}: {mean} instead of {expected}");
        }
        for ((x, y), expected) in [(0, 0), (60, 50), (200, 120), (10, 255)].into_iter().zip(points) {
            let pixel = &image.pixels()[(y * size.0 as usize + x) * 3..][..3];
            let near = pixel.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 5);
            assert!(near, "{name} ({x}, {y}): {pixel:?} instead of {expected:?}");
        }
    }
}

#[test]
fn a_truncated_file_is_an_error() {
    for whole in [fixture!("subsampled.jpg"), fixture!("progressive.jpg"), fixture!("alpha.png")] {
        for length in [whole.len() / 2, whole.len() * 3 / 4, 20] {
            assert!(RgbImage::decode(&whole[..length]).is_err(), "{length} bytes of {}", whole.len());
        }
    }
}

#[test]
fn the_error_names_the_file_and_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.jpg");
    std::fs::write(&path, "GIF89a").unwrap();
    let error = RgbImage::read(&path).unwrap_err().to_string();
    assert!(error.ends_with("x.jpg: neither a JPEG nor a PNG image; convert it to one of them"), "{error}");
}

#[test]
fn a_huge_size_is_refused_before_its_pixels_are_allocated() {
    let mut jpeg = fixture!("grey.jpg").to_vec();
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xff);
    assert!(RgbImage::decode(&jpeg).unwrap_err().starts_with("an image of 65535 x 65535 pixels"));

    let mut png = fixture!("alpha.png").to_vec();
    png[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    assert!(RgbImage::decode(&png).is_err());
}

#[test]
fn damaged_files_never_panic() {
    for whole in [
        fixture!("subsampled.jpg"),
        fixture!("progressive.jpg"),
        fixture!("cmyk.jpg"),
        fixture!("grey.jpg"),
        fixture!("alpha.png"),
        fixture!("palette.png"),
    ] {
        for seed in 0..400 {
            // Either outcome is right: a changed coefficient still is an image.
            let _ = RgbImage::decode(&damaged(whole, seed));
        }
    }
}

#[test]
fn an_image_has_as_many_pixels_as_it_says() {
    assert!(RgbImage::new(2, 1, vec![0; 6]).is_some());
    assert!(RgbImage::new(2, 1, vec![0; 5]).is_none());
    assert!(RgbImage::new(0, 1, vec![]).is_none());
}
