use qcc_params::Tensor;

use super::range::{Method, Target};
use super::*;

fn observed(samples: &[&[f32]]) -> Observation {
    let tensor = |values: &&[f32]| Tensor::f32(&[values.len(), 1], values.to_vec()).expect("counts agree");
    let mut observation = Observation::new(true);
    samples.iter().for_each(|s| observation.widen(&tensor(s)));
    samples.iter().for_each(|s| observation.count(&tensor(s)));
    observation
}

fn range(values: &[f32], method: Method) -> Range {
    method.range(&observed(&[values]).whole, None)
}

/// Nearly normal, with a few far out.
fn with_outliers() -> Vec<f32> {
    let mut random = crate::random::Random::new(1);
    let mut normal = || (0..12).map(|_| random.unit()).sum::<f32>() / 2.0;
    let mut values: Vec<f32> = (0..20_000).map(|_| normal()).collect();
    values.extend([60.0, -55.0]);
    values
}

fn target(format: &str) -> Target {
    Target::new(Format::parse(format, Role::Activation).expect(format)).expect("codes")
}

#[test]
fn min_max_sees_every_value() {
    assert_eq!(range(&[1.0, -3.0, 2.0], Method::MinMax), Range { min: -3.0, max: 2.0 });
    assert_eq!(range(&[0.0; 4], Method::MinMax), Range { min: 0.0, max: 0.0 });
    assert_eq!(range(&[0.0; 4], Method::Percentile(0.01)), Range { min: 0.0, max: 0.0 });
}

#[test]
fn percentiles_cut_outliers_at_both_ends() {
    let mut values: Vec<f32> = (0..10_000).map(|i| i as f32 / 10_000.0).collect();
    values.extend([-100.0, 100.0]);
    let range = range(&values, Method::Percentile(0.001));
    assert!(range.min > -0.2 && range.min <= 0.0, "{range:?}");
    assert!(range.max < 1.2 && range.max >= 1.0, "{range:?}");
}

#[test]
fn a_nan_is_not_forgotten() {
    assert!(!observed(&[&[1.0, f32::NAN, 2.0]]).is_finite());
    assert!(!observed(&[&[1.0], &[f32::INFINITY], &[1.0]]).is_finite());
    assert!(!observed(&[]).is_finite());
}

#[test]
fn moving_averages_follow_the_samples() {
    let observation = observed(&[&[-1.0, 1.0], &[-2.0, 3.0], &[0.0, 1.0]]);
    let range = Method::Moving(0.5).range(&observation.whole, None);
    // -1, -1.5, -0.75 and 1, 2, 1.5.
    assert_eq!(range, Range { min: -0.75, max: 1.5 });
}

/// What is lost in a format with a range.
fn squared_error(values: &[f32], range: Range, format: &str) -> f64 {
    use qcc_interpreter::formats::{Grid, Parameters, Rules, Scales};
    let format = Format::parse(format, Role::Activation).expect(format);
    let q = format.quant_type(0, 1).expect("codes");
    let found = crate::quantize::range::parameters(range, &q, format.narrow());
    let zeros = q.zero_point.then(|| vec![found.zero_point]);
    let parameters = Parameters::new(Scales::Floats(vec![found.scale]), zeros);
    let grid = Grid::new(&[values.len()], q, Rules::nearest(format.narrow()), &parameters).expect("fits");
    let miss = |(at, x): (usize, &f32)| f64::from(x - grid.nearest(at, *x).1).powi(2);
    values.iter().enumerate().map(miss).sum()
}

#[test]
fn the_grid_finds_the_range_of_least_error() {
    let values = with_outliers();
    let observation = observed(&[&values]);
    for format in ["int4:tensor", "int8:tensor", "uint4:tensor:asym", "e2m3:tensor"] {
        let chosen = Method::Mse.range(&observation.whole, Some(&target(format)));
        let full = squared_error(&values, observation.whole.range, format);
        let least = squared_error(&values, chosen, format);
        assert!(least <= full, "{format}: {least} of {full}");
        for by in [0.95, 1.05] {
            let other = Range { min: chosen.min * by, max: chosen.max * by };
            // Bins stand for the values in them.
            assert!(squared_error(&values, other, format) > 0.98 * least, "{format}, {by}");
        }
    }
    let chosen = Method::Mse.range(&observation.whole, Some(&target("int4:tensor")));
    assert!(chosen.max < 6.0, "{chosen:?}");
}

#[test]
fn entropy_cuts_what_carries_little_information() {
    let values = with_outliers();
    let observation = observed(&[&values]);
    for format in ["int8:tensor", "uint8:tensor:asym", "fp8e4m3:tensor"] {
        let Range { min, max } = Method::Entropy.range(&observation.whole, Some(&target(format)));
        assert!(min < -3.0 && max > 3.0, "{format}: {min}..{max}");
        assert!(!format.contains("int8") || (min > -40.0 && max < 40.0), "{format}: {min}..{max}");
    }
}

#[test]
fn features_have_ranges_of_their_own() {
    let tensor = Tensor::f32(&[4, 2], vec![0.0, 1.0, 0.5, 100.0, 1.0, 2.0, 0.25, 3.0]).expect("counts agree");
    let mut observation = Observation::new(true);
    observation.widen(&tensor);
    observation.count(&tensor);
    let of = |feature: usize, method: Method| {
        method.range(&observation.features[feature], Some(&target("int4:tensor")))
    };
    assert_eq!(of(0, Method::MinMax), Range { min: 0.0, max: 1.0 });
    assert_eq!(of(1, Method::MinMax), Range { min: 1.0, max: 100.0 });
    assert!(of(0, Method::Mse).max <= 1.0);
    assert!(of(1, Method::Percentile(0.3)).max < 10.0);
}

#[test]
fn bad_options_are_refused() {
    let error = |text: &str| match crate::Pipeline::parse(text, &crate::Registry::builtin()) {
        Ok(_) => String::new(),
        Err(e) => e.to_string(),
    };
    assert!(error("calibrate{method=minmax percentile=99}").contains("needs `method=percentile`"));
    assert!(error("calibrate{method=mse activations=int8 momentum=0.5}").contains("needs `method=moving`"));
    assert!(error("calibrate{method=percentile percentile=20}").contains("between 50 and 100"));
    assert!(error("calibrate{method=moving momentum=1}").contains("between 0 and 1"));
    assert!(error("calibrate{method=kl}").contains("unknown method `kl`"));
    assert_eq!(error("calibrate{method=entropy activations=uint8:tensor:asym}"), "");
}

#[test]
fn activations_of_sixteen_bits_are_seen_as_well() {
    let mut observation = Observation::new(false);
    let values = [-1.5, 0.25, 3.0].map(half::f16::from_f32).to_vec();
    observation.widen(
        &Tensor::new(vec![3], qcc_ir::ElementType::F16, qcc_params::Data::F16(values)).expect("counts agree"),
    );
    assert!(observation.is_finite());
    assert_eq!((observation.whole.range.min, observation.whole.range.max), (-1.5, 3.0));
}
