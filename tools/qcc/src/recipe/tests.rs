//! Recipes, flags and defaults as pipelines and messages.

use super::*;

fn settings(set: impl FnOnce(&mut CompileArgs)) -> Result<Settings, Failure> {
    let mut args = CompileArgs::default();
    set(&mut args);
    Settings::new(&args)
}

fn pipeline(set: impl FnOnce(&mut CompileArgs)) -> String {
    settings(set).expect("a valid recipe").pipeline()
}

fn error(set: impl FnOnce(&mut CompileArgs)) -> String {
    settings(set).expect_err("an error").message().unwrap_or_default().to_string()
}

/// The error of a recipe file.
fn file_error(text: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, text).expect("written");
    error(|a| a.recipe = Some(path.display().to_string()))
}

#[test]
fn without_a_recipe_the_model_stays_as_it_is() {
    assert_eq!(pipeline(|_| {}), "canonicalize");
}

#[test]
fn every_named_recipe_is_valid() {
    for (name, _) in NAMED {
        assert!(settings(|a| a.recipe = Some(name.into())).is_ok(), "{name}");
    }
}

#[test]
fn a_static_recipe_calibrates() {
    assert_eq!(
        pipeline(|a| a.recipe = Some("w8a8".into())),
        "canonicalize,calibrate{method=minmax},quantize{weights=int8:channel activations=int8:tensor},canonicalize,lower-quantized,canonicalize"
    );
    assert_eq!(
        pipeline(|a| a.recipe = Some("cnn-int8".into())),
        "canonicalize,fold-batch-norm,canonicalize,\
         equalize{weights=int8:channel activations=uint8:tensor:asym where=helps},canonicalize,\
         calibrate{method=percentile percentile=99.998},\
         quantize{weights=int8:channel activations=uint8:tensor:asym},canonicalize,lower-quantized,canonicalize"
    );
}

#[test]
fn a_copy_of_a_recipe_is_the_recipe() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in NAMED {
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, text).expect("written");
        let copied = pipeline(|a| a.recipe = Some(path.display().to_string()));
        assert_eq!(copied, pipeline(|a| a.recipe = Some(name.into())), "{name}");
    }
}

#[test]
fn equalizing_where_it_helps_takes_data_and_formats() {
    let helps = |a: &mut CompileArgs| {
        (a.recipe, a.transforms) = (Some("w8a8-dynamic".into()), Some("equalize{where=helps}".into()));
    };
    let settings = settings(helps).expect("valid");
    assert!(settings.needs_data().is_some());
    let expected = "equalize{weights=int8:channel activations=int8:token:dynamic where=helps}";
    assert!(settings.pipeline().contains(expected), "{}", settings.pipeline());
}

#[test]
fn a_flag_overrides_the_recipe() {
    let flagged = |a: &mut CompileArgs| {
        a.recipe = Some("w8a8".into());
        a.activations = Some("f32".into());
        a.weights = Some("int4:block=64".into());
        a.head = Some("int8".into());
    };
    assert_eq!(
        pipeline(flagged),
        "canonicalize,quantize{weights=int4:block=64 head=int8},canonicalize,lower-quantized,canonicalize"
    );
}

#[test]
fn a_file_sets_what_flags_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine.toml");
    let text = "[input]\npreprocess = \"tf\"\nlabel-offset = 1\n[quantize]\nweights = \"int8\"\nactivations = \"int8\"\n\
        [transforms]\napply = [\"fold-batch-norm\"]\n[calibration]\npercentile = 99.9\nsamples = 8\nseq-len = 32\n";
    std::fs::write(&path, text).expect("written");
    let settings = settings(|a| a.recipe = Some(path.display().to_string())).expect("valid");
    assert_eq!(
        settings.pipeline(),
        "canonicalize,fold-batch-norm,canonicalize,calibrate{method=percentile percentile=99.9},\
         quantize{weights=int8 activations=int8},canonicalize,lower-quantized,canonicalize"
    );
    assert_eq!((settings.samples, settings.seq_len), (Some(8), 32));
    assert_eq!(settings.input.label_offset(None), 1);
    assert_eq!(settings.input.preprocess(None).ok(), Some(qcc_data::Preprocess::TF));
    assert_eq!(settings.recipe, "mine.toml");
}

#[test]
fn unknown_names_come_with_the_nearest() {
    for (text, expected) in [
        ("[quantise]\n", "mine.toml:1: unknown field `quantise`"),
        ("[quantise]\n", "did you mean `quantize`?"),
        ("[quantize]\nweigths = \"int8\"\n", "mine.toml:2: unknown field `weigths`"),
        ("[quantize]\nweigths = \"int8\"\n", "did you mean `weights`?"),
        ("[calibration]\nmethod = \"min-max\"\n", "did you mean `minmax`?"),
        ("[transforms]\napply = [\"fold-batchnorm\"]\n", "did you mean `fold-batch-norm`?"),
        ("[quantize]\nweights = 8\n", "mine.toml:2"),
        ("[quantize\n", "mine.toml:1"),
    ] {
        let message = file_error(text);
        assert!(message.contains(expected), "{text}: {message}");
    }
    assert!(error(|a| a.recipe = Some("w8a8-dinamic".into())).contains("did you mean `w8a8-dynamic`?"));
    assert!(error(|a| a.rounding = Some("nearst".into())).contains("did you mean `nearest`?"));
}

#[test]
fn what_cannot_be_done_says_so() {
    assert!(error(|a| a.transforms = Some("aqw".into())).contains("did you mean `awq`"));
    assert!(error(|a| a.rounding = Some("decouple".into())).contains("did you mean `decoupleq`"));
    assert!(error(|a| a.bias_correction = true).contains("without a format of weights"));
    assert!(
        error(|a| a.kv_cache = Some("int8:tensor".into())).contains("use `:token`, `:block=N` or `:channel`")
    );
    assert!(error(|a| a.kv_cache = Some("K=int8,W=int8".into())).contains("`W=int8` is neither"));
    assert!(
        file_error("[[override]]\nlayers = \"*\"\nweights = \"int8\"\n")
            .contains("without a format of weights")
    );
    let quantized = "[quantize]\nweights = \"int8\"\n[[override]]\n";
    let override_error = |text: &str| file_error(&format!("{quantized}{text}"));
    assert!(override_error("layers = \"*\"\n").contains("`[[override]]` 1: say what they get"));
    assert!(override_error("weights = \"int8\"\n").contains("say which layers"));
    assert!(override_error("layer = \"*\"\n").contains("did you mean `layers`?"));
    assert!(override_error("layers = '\"'\nweights = \"int8\"\n").contains("no quotation marks"));
    assert!(override_error("layers = \"*\"\nweights = \"int9\"\n").contains("int9"));
}

#[test]
fn transforms_take_the_options_of_their_passes() {
    let pipeline = |transforms: &str| {
        let given = settings(|a| {
            (a.weights, a.activations) = (Some("int8:channel".into()), Some("int8:tensor".into()));
            a.transforms = Some(transforms.into());
        });
        given.expect("valid").pipeline()
    };
    let with = pipeline("rotate-residual{basis=hadamard}, smooth-state{axis=channel}");
    assert!(
        with.starts_with(
            "canonicalize,rotate-residual{weights=int8:channel activations=int8:tensor basis=hadamard},\
             canonicalize,smooth-state{axis=channel},canonicalize,"
        ),
        "{with}"
    );
    assert!(
        error(|a| a.transforms = Some("shift,smooth-state{alpha=1".into())).contains("`{` is not closed")
    );
    assert!(error(|a| a.transforms = Some("smoth{basis=givens}".into())).contains("did you mean `smooth`?"));
}

#[test]
fn activations_need_weights() {
    assert!(error(|a| a.activations = Some("int8".into())).contains("pass `--weights` too"));
}
