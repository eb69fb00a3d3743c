//! Preprocessing against `reference/onnx_top1.py`: hashes are of its `load` as little-endian f32.

use super::*;
use crate::reference::{hash, noise, shared};

fn prepared(preprocess: Preprocess, image: &RgbImage, size: u32, layout: Layout) -> Vec<f32> {
    let mut input = vec![f32::NAN; (size * size * 3) as usize];
    preprocess.write(image, size, size, layout, &mut input);
    input
}

fn hash_f32(values: &[f32]) -> u64 {
    hash(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

#[test]
fn noise_is_scaled_cropped_and_normalised_to_the_same_bits() {
    for (source, size, imagenet, tf) in [
        ((61, 47), 32, 0x9cd6818427f189e4, 0x49189ae5a2df620b),
        ((47, 90), 24, 0x1005681f17ab6430, 0xe948025ecc0bb5d4),
        ((32, 32), 32, 0x7ea2ee62e7c5ab6e, 0x2b71dcb06047824d),
        ((300, 200), 224, 0x91619bfea0b53f17, 0xfb88f3126f792d74),
    ] {
        let image = noise(source.0, source.1);
        assert_eq!(
            hash_f32(&prepared(Preprocess::IMAGENET, &image, size, Layout::Chw)),
            imagenet,
            "{source:?}"
        );
        assert_eq!(hash_f32(&prepared(Preprocess::TF, &image, size, Layout::Chw)), tf, "{source:?}");
    }
}

#[test]
fn a_png_of_another_size_is_prepared_to_the_same_bits() {
    let Some(path) = shared("data/cifar10-2000/images/00007.png") else { return };
    let image = RgbImage::read(path).unwrap();
    for (size, expected) in [(32, 0xedd2ab196f6a1683), (24, 0x337c3eecc8a2017a)] {
        assert_eq!(hash_f32(&prepared(Preprocess::IMAGENET, &image, size, Layout::Chw)), expected, "{size}");
    }
}

#[test]
fn photographs_have_the_same_statistics() {
    let Some(folder) = shared("data/imagenet-1000/images") else { return };
    for (name, means, deviations) in [
        ("n01440764.jpg", [-0.03339774, -0.04278425, -0.23505518], [0.44617358, 0.33395538, 0.23226283]),
        ("n02669723.jpg", [0.06938989, -0.01906953, -0.04572787], [0.8518803, 0.82812184, 0.8278512]),
        ("n04243546.jpg", [0.01757329, -0.09752943, -0.22703531], [0.5334998, 0.49986243, 0.4070488]),
    ] {
        let input = prepared(Preprocess::TF, &RgbImage::read(folder.join(name)).unwrap(), 192, Layout::Chw);
        for (channel, values) in input.chunks(192 * 192).enumerate() {
            let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len() as f64;
            let square =
                values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / values.len() as f64;
            assert!((mean - means[channel]).abs() < 1e-3, "{name} {channel}: {mean}");
            assert!(
                (square.sqrt() - deviations[channel]).abs() < 1e-3,
                "{name} {channel}: {}",
                square.sqrt()
            );
        }
    }
}

#[test]
fn every_byte_is_normalised_as_numpy_does() {
    for byte in 0..256usize {
        let x = byte as f32;
        assert_eq!(Preprocess::UNIT.tables()[0][byte], x / 255.0);
        assert_eq!(Preprocess::TF.tables()[1][byte], x / 127.5 - 1.0);
        assert_eq!(Preprocess::IMAGENET.tables()[2][byte], (x / 255.0 - 0.406) / 0.225);
    }
}

#[test]
fn the_layout_orders_the_same_numbers() {
    let image = noise(5, 5);
    let chw = prepared(Preprocess::UNIT, &image, 5, Layout::Chw);
    let hwc = prepared(Preprocess::UNIT, &image, 5, Layout::Hwc);
    for at in 0..25 {
        for channel in 0..3 {
            assert_eq!(chw[channel * 25 + at], hwc[at * 3 + channel]);
        }
    }
    assert_eq!(hwc[0], f32::from(image.pixels()[0]) / 255.0);
}

#[test]
fn inputs_that_are_not_square_are_covered() {
    let image = RgbImage::new(10, 40, vec![255; 1200]).unwrap();
    for (width, height) in [(8, 4), (4, 8), (7, 224)] {
        let mut input = vec![f32::NAN; (width * height * 3) as usize];
        Preprocess::UNIT.write(&image, width, height, Layout::Chw, &mut input);
        assert!(input.iter().all(|&value| value == 1.0));
    }
}

#[test]
fn a_name_or_a_table_is_read() {
    #[derive(Deserialize)]
    struct Input {
        preprocess: Preprocess,
    }
    let read =
        |text: &str| toml::from_str::<Input>(text).map(|input| input.preprocess).map_err(|e| e.to_string());
    assert_eq!(read("preprocess = \"tf\""), Ok(Preprocess::TF));
    let custom = Preprocess { scale: 1.0, mean: [103.0, 116.0, 123.0], std: [1.0; 3] };
    assert_eq!(read("[preprocess]\nscale = 1\nmean = [103, 116, 123]"), Ok(custom));
    assert_eq!(read("[preprocess]"), Ok(Preprocess::UNIT));
    assert!(read("preprocess = \"imagnet\"").unwrap_err().contains("did you mean `imagenet`?"));
    assert!(read("[preprocess]\nmeans = [1, 2, 3]").unwrap_err().contains("unknown field `means`"));
    assert!(read("[preprocess]\nstd = [1, 0, 1]").unwrap_err().contains("`std` must be"));
    assert!(read("[preprocess]\nscale = 0").unwrap_err().contains("`scale` is 0"));
}

#[test]
fn what_is_written_is_read_back() {
    for preprocess in [Preprocess::IMAGENET, Preprocess::TF, Preprocess::UNIT] {
        let json = serde_json::to_string(&preprocess).unwrap();
        assert_eq!(serde_json::from_str::<Preprocess>(&json).unwrap(), preprocess);
    }
}

#[test]
fn the_option_takes_a_name_or_a_file() {
    assert_eq!(Preprocess::from_name_or_file("unit").unwrap(), Preprocess::UNIT);
    let error = Preprocess::from_name_or_file("imagnet").unwrap_err().to_string();
    assert!(
        error.contains("`imagnet` is not a preprocessing") && error.contains("did you mean `imagenet`?"),
        "{error}"
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.toml");
    let name = path.to_str().unwrap();
    assert!(matches!(Preprocess::from_name_or_file(name), Err(DataError::Read { .. })));
    std::fs::write(&path, "# mine\nscale = 0.5\nstd = [2, 2, 2]\n").unwrap();
    let custom = Preprocess { scale: 0.5, mean: [0.0; 3], std: [2.0; 3] };
    assert_eq!(Preprocess::from_name_or_file(name).unwrap(), custom);
    std::fs::write(&path, "scale = 0.5\nmean = [1, 2]\n").unwrap();
    let error = Preprocess::from_name_or_file(name).unwrap_err().to_string();
    assert!(error.contains("p.toml:2: "), "{error}");
}
