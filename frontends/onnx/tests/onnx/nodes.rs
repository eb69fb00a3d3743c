//! Operators against ONNX's own cases: each is imported, evaluated by the interpreter and compared.

use std::fs;

use libtest_mimic::Trial;
use qcc_interpreter::{Interpreter, Precision};

use crate::cases::{Case, read};
use crate::compare::same;
use crate::vectors;

/// Cases that cannot be imported or run, with what the error must say. A case that works after all fails its test.
const REFUSED: &[(&str, &str)] = &[
    ("test_attention_3d_diff_heads_sizes_softcap", "softcap"),
    ("test_attention_3d_gqa_softcap", "softcap"),
    ("test_attention_3d_softcap", "softcap"),
    ("test_attention_4d_diff_heads_sizes_softcap", "softcap"),
    ("test_attention_4d_gqa_softcap", "softcap"),
    ("test_attention_4d_softcap", "softcap"),
    ("test_attention_4d_softcap_neginf_mask", "softcap"),
    ("test_attention_4d_softcap_neginf_mask_poison", "softcap"),
    ("test_batchnorm_epsilon_training_mode", "training mode"),
    ("test_batchnorm_example_training_mode", "training mode"),
    ("test_maxpool_with_argmax_2d_precomputed_pads", "output 1 of the MaxPool"),
    ("test_maxpool_with_argmax_2d_precomputed_strides", "output 1 of the MaxPool"),
    ("test_resize_downsample_scales_cubic", "`cubic`"),
    ("test_resize_downsample_scales_cubic_A_n0p5_exclude_outside", "`exclude_outside`"),
    ("test_resize_downsample_scales_cubic_align_corners", "`cubic`"),
    ("test_resize_downsample_scales_cubic_antialias", "`antialias`"),
    ("test_resize_downsample_scales_linear_antialias", "`antialias`"),
    ("test_resize_downsample_scales_linear_half_pixel_symmetric", "half_pixel_symmetric"),
    ("test_resize_downsample_sizes_cubic", "`cubic`"),
    ("test_resize_downsample_sizes_cubic_antialias", "`antialias`"),
    ("test_resize_downsample_sizes_linear_antialias", "`antialias`"),
    ("test_resize_downsample_sizes_nearest_not_larger", "`not_larger`"),
    ("test_resize_downsample_sizes_nearest_not_smaller", "`not_smaller`"),
    ("test_resize_tf_crop_and_resize", "tf_crop_and_resize"),
    ("test_resize_tf_crop_and_resize_axes_2_3", "tf_crop_and_resize"),
    ("test_resize_tf_crop_and_resize_axes_3_2", "tf_crop_and_resize"),
    ("test_resize_tf_crop_and_resize_extrapolation_value", "tf_crop_and_resize"),
    ("test_resize_upsample_scales_cubic", "`cubic`"),
    ("test_resize_upsample_scales_cubic_A_n0p5_exclude_outside", "`exclude_outside`"),
    ("test_resize_upsample_scales_cubic_align_corners", "`cubic`"),
    ("test_resize_upsample_scales_cubic_asymmetric", "`cubic`"),
    ("test_resize_upsample_scales_linear_half_pixel_symmetric", "half_pixel_symmetric"),
    ("test_resize_upsample_sizes_cubic", "`cubic`"),
    ("test_resize_upsample_sizes_nearest_not_larger", "`not_larger`"),
    ("test_resize_upsample_sizes_nearest_not_smaller", "`not_smaller`"),
    ("test_training_dropout", "training mode"),
    ("test_training_dropout_default", "training mode"),
    ("test_training_dropout_default_mask", "training mode"),
    ("test_training_dropout_mask", "training mode"),
    ("test_training_dropout_zero_ratio", "training mode"),
    ("test_training_dropout_zero_ratio_mask", "training mode"),
    ("test_wrap_pad", "`wrap`"),
    // Here ONNX's reference divides by the unrounded output size, ONNX Runtime and the IR by the size of the output.
    ("test_resize_downsample_scales_linear_align_corners", "expected 3.142857"),
];

pub fn trials() -> Vec<Trial> {
    let folder = vectors().join("node");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the packed cases are committed")
        .map(|entry| entry.expect("a folder that can be listed").path())
        .collect();
    files.sort();
    let mut trials = Vec::new();
    for file in files {
        let op = file.file_stem().expect("a file name").to_string_lossy().into_owned();
        for case in read(&fs::read(&file).expect("a file that can be read")) {
            trials.push(Trial::test(format!("node/{op}/{}", case.name), move || Ok(check(&case)?)));
        }
    }
    trials
}

fn check(case: &Case) -> Result<(), String> {
    let outcome = run(case);
    match REFUSED.iter().find(|(name, _)| *name == case.name) {
        None => outcome,
        Some((_, why)) => match outcome {
            Ok(()) => Err("it works; take it off the table of refused cases".into()),
            Err(message) if message.contains(why) => Ok(()),
            Err(message) => Err(format!("it must be refused with `{why}`, but: {message}")),
        },
    }
}

fn run(case: &Case) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = folder.path().join("model.onnx");
    fs::write(&file, &case.model).map_err(|e| e.to_string())?;
    let imported = qcc_onnx::import(&file).map_err(|e| e.to_string())?;
    qcc_ir::verify::verify(&imported.module, qcc_ir::verify::Options::default())
        .map_err(|e| format!("{e:?}"))?;
    let function = imported.module.entry().ok_or("no function")?;
    let got = Interpreter::new(Precision::F32)
        .run(function, &imported.parameters, &case.inputs)
        .map_err(|e| e.to_string())?;
    if got.len() != case.outputs.len() {
        return Err(format!("{} outputs, expected {}", got.len(), case.outputs.len()));
    }
    got.iter().zip(&case.outputs).try_for_each(|(got, expected)| same(got, expected))
}
