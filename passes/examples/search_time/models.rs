//! Models of any depth with random weights, some features much larger than others.

use qcc_ir::{Dim, ElementType, Float, Function, Op, StateBinding, TensorType, ValueId};
use qcc_params::{Parameters, Tensor};

const WIDTH: usize = 64;
const VOCABULARY: usize = 64;
const HEADS: usize = 4;
/// Features inside a block: 40 · 4, so that there is a Hadamard matrix.
const INNER: usize = 160;
const STATES: usize = 4;
const RANK: usize = 4;
const TAPS: usize = 4;

/// A function and its weights.
pub struct Model {
    pub function: Function,
    pub parameters: Parameters,
}

type Made = Result<ValueId, String>;

/// A LLaMA-shaped model without positions and mask: attention and a gated MLP in each layer.
pub fn llama(layers: usize) -> Result<Model, String> {
    build(layers, |b, stream, name| {
        let x = b.norm(stream, &format!("{name}.attention.norm"))?;
        let x = b.attention(x, &format!("{name}.attention"))?;
        let stream = b.op(Op::Add {}, &[stream, x], name)?;
        let x = b.norm(stream, &format!("{name}.mlp.norm"))?;
        let x = b.mlp(x, &format!("{name}.mlp"))?;
        b.op(Op::Add {}, &[stream, x], name)
    })
}

/// A Mamba-shaped model: a convolution and a selective scan in each layer.
pub fn mamba(layers: usize) -> Result<Model, String> {
    build(layers, |b, stream, name| {
        let x = b.norm(stream, &format!("{name}.norm"))?;
        let x = b.mixer(x, &format!("{name}.mixer"))?;
        b.op(Op::Add {}, &[stream, x], name)
    })
}

fn build(layers: usize, mut layer: impl FnMut(&mut Builder, ValueId, &str) -> Made) -> Result<Model, String> {
    let mut b = Builder {
        function: Function::new("main"),
        parameters: Parameters::new(),
        states: Vec::new(),
        random: fastrand::Rng::with_seed(1),
    };
    let tokens = TensorType::new([Dim::symbol("B"), Dim::symbol("T")], ElementType::I64);
    let tokens = b.function.add_argument("tokens", tokens);
    let table = b.weight("embedding", &[VOCABULARY, WIDTH])?;
    let mut stream = b.op(Op::Embedding {}, &[table, tokens], "embedding")?;
    for i in 0..layers {
        stream = layer(&mut b, stream, &format!("layers.{i}"))?;
    }
    let x = b.norm(stream, "norm")?;
    let y = b.linear(x, "head", VOCABULARY, WIDTH)?;
    b.function.add_result("logits", y);
    for (argument, result) in std::mem::take(&mut b.states) {
        let name = format!("next.{argument}");
        b.function.states.push(StateBinding { argument, result: b.function.results.len() });
        b.function.add_result(&name, result);
    }
    Ok(Model { function: b.function, parameters: b.parameters })
}

struct Builder {
    function: Function,
    parameters: Parameters,
    /// For each state, its argument and what comes after.
    states: Vec<(usize, ValueId)>,
    random: fastrand::Rng,
}

impl Builder {
    /// Uniform in [−1, 1).
    fn random(&mut self) -> f32 {
        2.0 * self.random.f32() - 1.0
    }

    /// A weight whose outputs have about the variance of its inputs; each 16th row is much larger.
    fn weight(&mut self, name: &str, sizes: &[usize]) -> Made {
        let columns = sizes.last().copied().unwrap_or(1);
        let scale = (3.0 / columns as f32).sqrt();
        let large = |i: usize| if (i / columns).is_multiple_of(16) { 8.0 } else { 1.0 };
        let data = (0..sizes.iter().product()).map(|i| self.random() * scale * large(i)).collect();
        self.tensor(name, sizes, data)
    }

    /// A vector of positive numbers, one in 16 much larger than the others.
    fn positive(&mut self, name: &str, sizes: &[usize]) -> Made {
        let large = |i: usize| if i.is_multiple_of(16) { 8.0 } else { 1.0 };
        let data = (0..sizes.iter().product()).map(|i| (self.random() + 1.5) * large(i)).collect();
        self.tensor(name, sizes, data)
    }

    fn tensor(&mut self, name: &str, sizes: &[usize], data: Vec<f32>) -> Made {
        let tensor = Tensor::f32(sizes, data).map_err(|e| e.to_string())?;
        let ty = tensor.ty();
        self.parameters.insert_tensor(name, tensor).map_err(|e| e.to_string())?;
        Ok(self.function.add_parameter(name, ty))
    }

    fn ops(&mut self, op: Op, operands: &[ValueId], name: &str) -> Result<Vec<ValueId>, String> {
        let results = self.function.add(op, operands.iter().copied(), name);
        Ok(results.map_err(|e| e.to_string())?.to_vec())
    }

    fn op(&mut self, op: Op, operands: &[ValueId], name: &str) -> Made {
        Ok(self.ops(op, operands, name)?[0])
    }

    fn state(&mut self, name: &str, sizes: &[usize]) -> Result<(usize, ValueId), String> {
        let dims = std::iter::once(Dim::symbol("B")).chain(sizes.iter().map(|n| constant(*n)));
        let argument = self.function.arguments().len();
        Ok((argument, self.function.add_argument(name, TensorType::new(dims, ElementType::F32))))
    }

    fn linear(&mut self, x: ValueId, name: &str, rows: usize, columns: usize) -> Made {
        let w = self.weight(&format!("{name}.weight"), &[rows, columns])?;
        self.op(Op::Linear {}, &[x, w], name)
    }

    fn norm(&mut self, x: ValueId, name: &str) -> Made {
        let gain = self.positive(&format!("{name}.weight"), &[WIDTH])?;
        self.op(Op::RmsNorm { epsilon: Float(1e-5) }, &[x, gain], name)
    }

    fn attention(&mut self, x: ValueId, name: &str) -> Made {
        let head = WIDTH / HEADS;
        let split = [Dim::symbol("B"), Dim::symbol("T"), constant(HEADS), constant(head)];
        let mut heads = Vec::new();
        for (part, permutation) in [("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])] {
            let part = format!("{name}.{part}");
            let y = self.linear(x, &part, WIDTH, WIDTH)?;
            let y = self.op(Op::Reshape { shape: split.to_vec() }, &[y], &part)?;
            heads.push(self.op(Op::Transpose { permutation: permutation.to_vec() }, &[y], &part)?);
        }
        let scores = self.op(Op::Matmul {}, &[heads[0], heads[1]], name)?;
        let shares = self.op(Op::Softmax { axis: 3 }, &[scores], name)?;
        let y = self.op(Op::Matmul {}, &[shares, heads[2]], name)?;
        let y = self.op(Op::Transpose { permutation: vec![0, 2, 1, 3] }, &[y], name)?;
        let joined = vec![Dim::symbol("B"), Dim::symbol("T"), constant(WIDTH)];
        let y = self.op(Op::Reshape { shape: joined }, &[y], name)?;
        self.linear(y, &format!("{name}.o"), WIDTH, WIDTH)
    }

    fn mlp(&mut self, x: ValueId, name: &str) -> Made {
        let gate = self.linear(x, &format!("{name}.gate"), INNER, WIDTH)?;
        let gate = self.op(Op::Silu {}, &[gate], name)?;
        let up = self.linear(x, &format!("{name}.up"), INNER, WIDTH)?;
        let y = self.op(Op::Mul {}, &[gate, up], name)?;
        self.linear(y, &format!("{name}.down"), WIDTH, INNER)
    }

    /// Features `from..to` of `[B, T, features]`.
    fn slice(&mut self, x: ValueId, from: usize, to: usize, name: &str) -> Made {
        let (from, to) = (from as i64, to as i64);
        let op = Op::Slice { axes: vec![2], starts: vec![from], ends: vec![to], steps: vec![1] };
        self.op(op, &[x], name)
    }

    fn mixer(&mut self, x: ValueId, name: &str) -> Made {
        let both = self.linear(x, &format!("{name}.in_proj"), 2 * INNER, WIDTH)?;
        let (x, gate) = (self.slice(both, 0, INNER, name)?, self.slice(both, INNER, 2 * INNER, name)?);
        let taps = self.weight(&format!("{name}.conv1d.weight"), &[INNER, TAPS])?;
        let bias = self.weight(&format!("{name}.conv1d.bias"), &[INNER])?;
        let (at, window) = self.state(&format!("{name}.window"), &[INNER, TAPS - 1])?;
        let convolved = self.ops(Op::CausalConv {}, &[x, taps, window, bias], &format!("{name}.conv1d"))?;
        self.states.push((at, convolved[1]));
        let u = self.op(Op::Silu {}, &[convolved[0]], name)?;
        let all = self.linear(u, &format!("{name}.x_proj"), RANK + 2 * STATES, INNER)?;
        let step = self.slice(all, 0, RANK, name)?;
        let b = self.slice(all, RANK, RANK + STATES, name)?;
        let c = self.slice(all, RANK + STATES, RANK + 2 * STATES, name)?;
        let step = self.linear(step, &format!("{name}.dt_proj"), INNER, RANK)?;
        let step = self.op(Op::Softplus {}, &[step], name)?;
        let a = self.positive(&format!("{name}.A"), &[INNER, STATES])?;
        let a = self.op(Op::Neg {}, &[a], name)?;
        let d = self.weight(&format!("{name}.D"), &[INNER])?;
        let (at, state) = self.state(&format!("{name}.state"), &[INNER, STATES])?;
        let scanned = self.ops(Op::SelectiveScan {}, &[u, step, a, b, c, d, state], name)?;
        self.states.push((at, scanned[1]));
        let gate = self.op(Op::Silu {}, &[gate], name)?;
        let y = self.op(Op::Mul {}, &[scanned[0], gate], name)?;
        self.linear(y, &format!("{name}.out_proj"), WIDTH, INNER)
    }
}

fn constant(n: usize) -> Dim {
    Dim::Const(n as i64)
}
