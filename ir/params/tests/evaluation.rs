//! Weight expressions: evaluated in order whatever the number of threads, hashed by content, kept on disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use qcc_ir::{
    ElementType, Granularity, Op, QuantType, ScaleType, Storage, Str, TensorType,
    ops::{Rounding, Special},
};
use qcc_params::{
    CacheCounts, Data, Expression, OpEvaluator, ParameterError, Parameters, SharedBytes, Source, Tensor,
    WeightCache,
};

/// Adds, negates and rounds, counting how often; refuses everything else.
struct Arithmetic {
    count: AtomicUsize,
    semantics: &'static str,
    row_wise: bool,
}

impl Default for Arithmetic {
    fn default() -> Arithmetic {
        Arithmetic { count: AtomicUsize::new(0), semantics: "f32", row_wise: false }
    }
}

impl OpEvaluator for Arithmetic {
    fn evaluate(
        &self,
        op: &Op,
        operands: &[Option<&Tensor>],
        types: &[TensorType],
    ) -> Result<Vec<Tensor>, String> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let values = |i: usize| operands[i].and_then(Tensor::as_f32).expect("f32 operands").to_vec();
        let dims = operands[0].expect("an operand").dims.clone();
        let f32 = |values| Tensor::f32(&dims, values).map_err(|e| e.to_string());
        match op {
            Op::Add {} => Ok(vec![f32(values(0).iter().zip(values(1)).map(|(a, b)| a + b).collect())?]),
            Op::Neg {} => Ok(vec![f32(values(0).iter().map(|x| -x).collect())?]),
            Op::DynamicQuantize { .. } => {
                let codes = Data::I8(values(0).iter().map(|x| *x as i8).collect());
                let codes = Tensor::new(dims.clone(), types[0].element, codes).map_err(|e| e.to_string())?;
                Ok(vec![codes, Tensor::f32(&[], vec![1.0]).map_err(|e| e.to_string())?])
            }
            _ => Err("nobody taught it to".into()),
        }
    }

    fn is_row_wise(&self, op: &Op) -> bool {
        self.row_wise && matches!(op, Op::Neg {})
    }

    fn semantics(&self) -> Option<String> {
        Some(self.semantics.to_string())
    }
}

fn vector(n: usize) -> TensorType {
    TensorType::new([n as i64], ElementType::F32)
}

fn insert_bytes(parameters: &mut Parameters, name: &str, values: &[f32]) -> Str {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let len = bytes.len();
    let bytes = SharedBytes::new(Arc::new(bytes), 0, len).expect("all of them");
    parameters.insert(name, vector(values.len()), Source::Bytes(bytes)).expect("a free name")
}

fn apply(parameters: &mut Parameters, hint: &str, op: Op, operands: &[&Str]) -> Str {
    let ty = parameters.ty(operands[0]).expect("known").clone();
    let operands = operands.iter().map(|o| Some(Str::clone(o))).collect();
    parameters.insert_expression(hint, ty, Expression { op, operands, result: 0 })
}

fn rounding() -> Op {
    let q = QuantType {
        storage: Storage::Int(8),
        granularity: Granularity::Tensor,
        scale: ScaleType::F32,
        zero_point: false,
    };
    Op::DynamicQuantize {
        to: ElementType::Quant(q),
        narrow: true,
        rounding: Rounding::HalfEven,
        special: Special::Saturate,
    }
}

/// Codes and scale of a weight.
fn quantize(parameters: &mut Parameters, weight: &Str) -> [Str; 2] {
    let op = rounding();
    let ty = parameters.ty(weight).expect("known").clone();
    let types = qcc_ir::infer::infer(&op, &[Some(&ty)], None).expect("a vector");
    [("codes", 0), ("scale", 1)].map(|(part, result)| {
        let expression = Expression { op: op.clone(), operands: vec![Some(weight.clone())], result };
        parameters.insert_expression(&format!("{weight}.{part}"), types[result].clone(), expression)
    })
}

/// Weights of many sizes, and what is asked of them.
fn model() -> (Parameters, Vec<Str>) {
    let mut p = Parameters::new();
    let mut names = Vec::new();
    for i in 0..40usize {
        let values: Vec<f32> = (0..(i * 7) % 23 + 1).map(|j| (i + j) as f32).collect();
        let w = insert_bytes(&mut p, &format!("checkpoint::{i}"), &values);
        let sum = apply(&mut p, &format!("{i}"), Op::Add {}, &[&w, &w]);
        let negative = apply(&mut p, &format!("{i}.neg"), Op::Neg {}, &[&sum]);
        names.extend(quantize(&mut p, &negative));
        names.extend([w, negative]);
    }
    names.rotate_left(57);
    (p, names)
}

/// Streams the parameters, neighbours that are results of one operation together.
fn stream(
    parameters: &Parameters,
    names: &[Str],
    evaluator: &Arithmetic,
    mut sink: impl FnMut(&Str, Arc<Tensor>) -> Result<(), ParameterError>,
) -> Result<(), ParameterError> {
    let groups: Vec<Vec<Str>> =
        names.chunk_by(|a, b| parameters.same_operation(a, b)).map(<[Str]>::to_vec).collect();
    parameters.stream(
        &groups,
        evaluator,
        |_, values| Ok(values.to_vec()),
        |i, values| groups[i].iter().zip(values).try_for_each(|(name, value)| sink(name, value)),
    )
}

fn evaluated(
    parameters: &Parameters,
    names: &[Str],
    evaluator: &Arithmetic,
    threads: usize,
) -> Vec<(Str, Arc<Tensor>)> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| {
        let mut got = Vec::new();
        let done = stream(parameters, names, evaluator, |name, value| {
            got.push((name.clone(), value));
            Ok(())
        });
        done.expect("evaluates");
        got
    })
}

#[test]
fn order_and_values_do_not_depend_on_threads() {
    let (parameters, names) = model();
    let one = evaluated(&parameters, &names, &Arithmetic::default(), 1);
    let four = evaluated(&parameters, &names, &Arithmetic::default(), 4);
    assert_eq!(one, four);
    assert!(one.iter().map(|(name, _)| name).eq(&names));
    for (name, value) in one {
        assert_eq!(parameters.evaluate(&name, &Arithmetic::default()).expect("evaluates"), value, "{name}");
    }
}

#[test]
fn what_neighbours_share_is_computed_once() {
    let mut p = Parameters::new();
    let w = insert_bytes(&mut p, "w", &[1.0, 2.0]);
    let sum = apply(&mut p, "sum", Op::Add {}, &[&w, &w]);
    let twice = apply(&mut p, "twice", Op::Add {}, &[&sum, &sum]);
    let names = quantize(&mut p, &twice);
    let evaluator = Arithmetic::default();
    let got = evaluated(&p, &names, &evaluator, 2);
    assert_eq!(got[0].1.data, Data::I8(vec![4, 8]));
    assert_eq!(evaluator.count.into_inner(), 3);
}

#[test]
fn expressions_may_be_deep() {
    let mut p = Parameters::new();
    let mut value = insert_bytes(&mut p, "w", &[1.0]);
    for i in 0..20_001 {
        value = apply(&mut p, &format!("{i}"), Op::Neg {}, &[&value]);
    }
    let got = evaluated(&p, std::slice::from_ref(&value), &Arithmetic::default(), 1);
    assert_eq!(got[0].1.as_f32(), Some([-1.0].as_slice()));
    assert!(p.content_hash(&value).is_ok());
}

#[test]
fn errors_name_the_parameter() {
    let run = |p: &Parameters, names: &[Str]| {
        let mut seen = 0;
        let done = stream(p, names, &Arithmetic::default(), |_, _| {
            seen += 1;
            Ok(())
        });
        (done.expect_err("it fails").to_string(), seen)
    };
    let mut p = Parameters::new();
    let w = insert_bytes(&mut p, "w", &[1.0]);
    let bad = apply(&mut p, "bad", Op::Exp {}, &[&w]);
    let worse = apply(&mut p, "worse", Op::Tanh {}, &[&w]);
    assert_eq!(run(&p, &[w.clone(), bad, worse]), ("parameter `bad`: nobody taught it to".into(), 1));
    assert_eq!(run(&p, &[w.clone(), "none".into()]), ("no parameter `none`".into(), 0));
    let short = SharedBytes::new(Arc::new(vec![0u8; 3]), 0, 3).expect("three");
    p.insert("short", vector(1), Source::Bytes(short)).expect("a free name");
    assert!(run(&p, &["short".into()]).0.contains("parameter `short`"));
    // Two that refer to each other.
    let neg = |operand: &str| Expression { op: Op::Neg {}, operands: vec![Some(operand.into())], result: 0 };
    p.insert("hen", vector(1), Source::Expression(neg("egg"))).expect("a free name");
    p.insert("egg", vector(1), Source::Expression(neg("hen"))).expect("a free name");
    assert_eq!(run(&p, &["hen".into()]).0, "parameter `hen` depends on itself");
    assert!(p.content_hash("egg").is_err());
    let third = Expression { op: Op::Neg {}, operands: vec![Some(w)], result: 2 };
    p.insert("third", vector(1), Source::Expression(third)).expect("a free name");
    assert!(run(&p, &["third".into()]).0.contains("`qcc.neg` has no result 2"));
}

#[test]
fn a_failing_sink_ends_it() {
    let (parameters, names) = model();
    let mut seen = 0;
    let done = stream(&parameters, &names, &Arithmetic::default(), |_, _| {
        seen += 1;
        if seen == 5 { Err(ParameterError::Unknown("full".into())) } else { Ok(()) }
    });
    assert_eq!((done, seen), (Err(ParameterError::Unknown("full".into())), 5));
}

#[test]
fn hashes_follow_content_not_names() {
    let build = |name: &str, values: &[f32], op: Op| {
        let mut p = Parameters::new();
        let w = insert_bytes(&mut p, name, values);
        let y = apply(&mut p, "y", op, &[&w]);
        let [codes, scale] = quantize(&mut p, &y);
        [w, y, codes, scale].map(|name| p.content_hash(&name).expect("hashes"))
    };
    let hashes = build("w", &[1.0, 2.0], Op::Neg {});
    assert_eq!(hashes, build("other", &[1.0, 2.0], Op::Neg {}));
    for (i, a) in hashes.iter().enumerate() {
        assert!(hashes[i + 1..].iter().all(|b| a != b), "a weight, its negative, codes and scale all differ");
    }
    let differ = |other: [blake3::Hash; 4], from: usize| {
        assert!(hashes.iter().zip(other).enumerate().all(|(i, (a, b))| (*a != b) == (i >= from)));
    };
    differ(build("w", &[1.0, 2.5], Op::Neg {}), 0);
    differ(build("w", &[1.0, 2.0], Op::Exp {}), 1);
    // A tensor in memory is its bytes; sizes count.
    let mut p = Parameters::new();
    p.insert_tensor("flat", Tensor::f32(&[2], vec![1.0, 2.0]).expect("two")).expect("a free name");
    p.insert_tensor("row", Tensor::f32(&[1, 2], vec![1.0, 2.0]).expect("two")).expect("a free name");
    assert_eq!(p.content_hash("flat"), Ok(hashes[0]));
    assert_ne!(p.content_hash("row"), Ok(hashes[0]));
}

#[test]
fn large_weights_are_evaluated_in_pieces_where_rows_are_apart() {
    let mut p = Parameters::new();
    let values: Vec<f32> = (0..1_000_003).map(|i| i as f32).collect();
    let w = insert_bytes(&mut p, "w", &values);
    let y = apply(&mut p, "y", Op::Neg {}, &[&w]);
    let z = apply(&mut p, "z", Op::Neg {}, &[&y]);
    let sum = apply(&mut p, "sum", Op::Add {}, &[&z, &y]);
    let evaluations = |name: &Str, row_wise| {
        let evaluator = Arithmetic { row_wise, ..Arithmetic::default() };
        let value = p.evaluate(name, &evaluator).expect("evaluates");
        (evaluator.count.into_inner(), value)
    };
    let ((whole, expected), (pieces, value)) = (evaluations(&z, false), evaluations(&z, true));
    assert_eq!(whole, 2);
    assert!(pieces > 2 && pieces % 2 == 0, "{pieces}");
    assert_eq!(value, expected);
    assert_eq!(value.as_f32(), Some(values.as_slice()));
    assert_eq!(evaluations(&sum, true).0, 3);
}

fn files(folder: &tempfile::TempDir) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder.path())
        .expect("readable")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

#[test]
fn the_cache_saves_evaluations() {
    let (mut parameters, names) = model();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let expected = evaluated(&parameters, &names, &Arithmetic::default(), 1);
    let mut run = |build, semantics, threads| {
        let evaluator = Arithmetic { semantics, ..Arithmetic::default() };
        let cache = Arc::new(WeightCache::new(folder.path(), build));
        parameters.set_cache(cache.clone());
        assert_eq!(evaluated(&parameters, &names, &evaluator, threads), expected);
        (evaluator.count.into_inner(), cache.counts())
    };
    let (first, counts) = run("a", "f32", 4);
    assert!(first > 0);
    assert_eq!(counts.found + counts.stored, 120);
    assert!(files(&folder).iter().all(|f| f.extension().is_some_and(|e| e == "weight")));
    assert_eq!(run("a", "f32", 4), (0, CacheCounts { found: 120, stored: 0, refused: 0 }));
    // Another evaluator does not take these for its own.
    assert!(run("a", "f64", 1).0 > 0);
    assert!(run("b", "f32", 1).0 > 0);
}

#[test]
fn a_group_of_given_and_computed_weights_comes_from_the_cache() {
    let mut p = Parameters::new();
    let w = insert_bytes(&mut p, "w", &[1.0, 2.0]);
    let y = apply(&mut p, "y", Op::Neg {}, &[&w]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    p.set_cache(Arc::new(WeightCache::new(folder.path(), "a")));
    for evaluations in [1, 0] {
        let evaluator = Arithmetic::default();
        let groups = [vec![w.clone(), y.clone(), w.clone()]];
        let done = p.stream(
            &groups,
            &evaluator,
            |_, values| Ok(values.iter().map(|v| v.as_f32().expect("f32").to_vec()).collect::<Vec<_>>()),
            |_, values| {
                assert_eq!(values, [[1.0, 2.0], [-1.0, -2.0], [1.0, 2.0]]);
                Ok::<_, ParameterError>(())
            },
        );
        assert_eq!(done, Ok(()));
        assert_eq!(evaluator.count.into_inner(), evaluations);
    }
}

#[test]
fn trimming_removes_what_was_used_longest_ago() {
    let mut p = Parameters::new();
    let w = insert_bytes(&mut p, "w", &[1.0, 2.0]);
    let weights: Vec<Str> = (0..4).fold(vec![w], |mut all, i| {
        let next = apply(&mut p, &format!("{i}"), Op::Neg {}, &[&all[i].clone()]);
        all.push(next);
        all
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = Arc::new(WeightCache::new(folder.path(), "a"));
    p.set_cache(cache.clone());
    let use_all = |names: &[Str]| {
        for name in names {
            p.evaluate(name, &Arithmetic::default()).expect("evaluates");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    use_all(&weights[1..]);
    use_all(&weights[1..2]);
    let size = std::fs::metadata(&files(&folder)[0]).expect("a file").len();
    std::fs::write(folder.path().join("other"), "not ours").expect("written");
    cache.trim(4 * size);
    assert_eq!(files(&folder).len(), 5);
    cache.trim(2 * size + 1);
    assert_eq!(files(&folder).len(), 3);
    let before = cache.counts();
    use_all(&[weights[1].clone(), weights[4].clone()]);
    assert_eq!(cache.counts(), CacheCounts { found: before.found + 2, ..before });
}

#[test]
fn damaged_cache_files_are_written_anew() {
    let mut p = Parameters::new();
    let w = insert_bytes(&mut p, "w", &[1.0, 2.0]);
    let y = apply(&mut p, "y", Op::Neg {}, &[&w]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = Arc::new(WeightCache::new(&folder.path().join("new"), "a"));
    p.set_cache(cache.clone());
    let value = || {
        let value = p.evaluate(&y, &Arithmetic::default()).expect("evaluates");
        assert_eq!(value.as_f32(), Some([-1.0, -2.0].as_slice()));
        cache.counts()
    };
    assert_eq!(value(), CacheCounts { found: 0, stored: 1, refused: 0 });
    assert_eq!(value(), CacheCounts { found: 1, stored: 1, refused: 0 });
    let file =
        std::fs::read_dir(folder.path().join("new")).expect("made").next().expect("one").expect("it").path();
    let whole = std::fs::read(&file).expect("readable");
    let mut stored = 1;
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        for bytes in [&whole[..at], &flipped] {
            std::fs::write(&file, bytes).expect("written");
            stored += 1;
            assert_eq!(value().stored, stored, "byte {at}");
            assert_eq!(std::fs::read(&file).expect("readable"), whole);
        }
    }
    // A cache that cannot be written costs time, nothing else.
    let blocked = Arc::new(WeightCache::new(&file.join("below a file"), "a"));
    p.set_cache(blocked.clone());
    assert!(p.evaluate(&y, &Arithmetic::default()).is_ok());
    assert_eq!(blocked.counts(), CacheCounts { found: 0, stored: 0, refused: 1 });
}
