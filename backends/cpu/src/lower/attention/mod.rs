//! Attention, rotary positions, and the states that hold keys and values. A state grows by a concatenation, which writes the new tokens behind
//! those that are there; attention reads them in place.

mod append;
mod growing;
mod rotary;

use qcc_ir::format::{CacheFormat, FloatElement};
use qcc_ir::{Dim, Node, Op, ValueId};
use qcc_runtime::program::Expr;

pub(super) use growing::Growing;
pub(super) use rotary::Angles;

use super::axes::contiguous;
use super::buffers::Buffer;
use super::packing::{PackedParameter, f32_bytes};
use super::{LowerError, Lowering, Operand};
use crate::kernels::attention::{self, AttentionSpec, ROWS};
use crate::kernels::cache::{Layout, TILE};
use crate::kernels::coded::encode::Nearest;
use crate::kernels::coded::{Coded, Levels, Sharing};
use crate::loops::storage::Storage;

/// Keys or values where attention reads them.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    buffer: Buffer,
    held: Held,
    /// Tokens that were there before those of the call.
    past: Dim,
    /// Tokens there are with those of the call.
    total: Dim,
    /// Tokens there is room for.
    capacity: Dim,
    /// Where values wait whose block is not complete.
    waiting: Option<Buffer>,
    /// Such values and those of the call, once they are there.
    window: Option<Buffer>,
}

/// The format and layout of keys or values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    layout: Layout,
    format: CacheFormat,
    features: u32,
}

impl Held {
    fn new(format: CacheFormat, keys: bool, features: u32) -> Result<Held, LowerError> {
        let coded = match (format.rows(), format.float()) {
            (None, Some(float)) => match Coded::of_float(float.element()) {
                None if keys => return Ok(Held { layout: Layout::Panels, format, features }),
                None => return Ok(Held { layout: Layout::Rows, format, features }),
                Some(coded) => coded,
            },
            (Some(q), _) => {
                let block = format.block().filter(|block| keys && *block < features);
                let sharing = match block {
                    Some(block) => Sharing::Block { block, run: None },
                    None if format.is_by_channel() => Sharing::Tensor,
                    None => Sharing::Column,
                };
                let levels = Levels::of(q).filter(|_| Nearest::of(q, format.narrow()).is_some());
                let (Some(levels), Ok(bits)) = (levels, u8::try_from(q.storage.bits())) else {
                    return Err(LowerError::new(format!("keys and values in {format} have no CPU kernel")));
                };
                Coded { bits, levels, scale: q.scale, sharing, zero_points: false }
            }
            _ => return Err(LowerError::new(format!("keys and values in {format} have no CPU kernel"))),
        };
        let layout = match format.block() {
            _ if keys => Layout::CodedPanels(coded),
            None => Layout::CodedRows(coded),
            Some(block) if block >= 8 && TILE.is_multiple_of(block) => Layout::Blocks(coded, block),
            Some(block) => {
                return Err(LowerError::new(format!(
                    "values in {format} have no CPU kernel: blocks of {block} tokens; blocks of 8, 16, 32 and 64 do"
                )));
            }
        };
        Ok(Held { layout, format, features })
    }

    /// Whether values wait until a block of theirs is complete.
    fn waits(self) -> bool {
        matches!(self.layout, Layout::Blocks(..))
    }

    /// Whether blocks are no plain array of features and tokens.
    fn is_packed(self) -> bool {
        let whole = self.features.is_multiple_of(16);
        match self.layout {
            Layout::Panels | Layout::Rows => false,
            Layout::CodedPanels(_) => self.format.float().is_none(),
            Layout::CodedRows(_) => self.format.float().is_none() || !whole,
            Layout::Blocks(..) => true,
        }
    }

    /// What elements are called at the border of the program.
    fn storage(self) -> Storage {
        match self.format.float() {
            Some(FloatElement::F32) => Storage::F32,
            Some(FloatElement::F16) => Storage::F16,
            Some(FloatElement::BF16) => Storage::BF16,
            None => Storage::U8,
        }
    }
}

impl Lowering<'_> {
    /// What precedes panels of codes: the levels of a table, and a scale of all, which is 1.
    fn header(&mut self, held: Held) -> Operand {
        let Some(coded) = held.layout.coded() else { return Operand::Bits(0) };
        let storage = held.format.rows().map(|q| q.storage);
        let mut bytes =
            storage.and_then(Coded::fixed_table).map(|levels| f32_bytes(&levels)).unwrap_or_default();
        bytes.extend(1f32.to_le_bytes());
        bytes.resize(coded.header_bytes() as usize, 0);
        let name = format!("header of {} codes in a cache", held.format);
        Operand::Buffer(self.parameter(PackedParameter::given(name, bytes)))
    }

    pub(super) fn attention(&mut self, node: &Node) -> Result<(), LowerError> {
        let Op::Attention { scale, causal, window, keys, values } = node.op else {
            return Err(LowerError::new(format!("qcc.{} does not attend", node.op.name())));
        };
        let operand = |i: usize| node.operands[i].expect("invariant: arity was checked");
        let [q, k, v] = [0, 1, 2].map(operand);
        let dims = |value: ValueId| self.function.ty(value).dims.clone();
        let (q_dims, k_dims, v_dims) = (dims(q), dims(k), dims(v));
        let queries = self.f32_place(q)?;
        // Where queries are among keys matters where some see fewer.
        let queries_of = (causal || window > 0).then_some(&q_dims[1]);
        let [keys, values] = [(k, true, keys), (v, false, values)].map(|(value, keys, format)| {
            match self.caches.get(&value) {
                Some(cache) => Ok(cache.clone()),
                None => self.keys_of_call(node, value, queries_of, (keys, format)),
            }
        });
        let (keys, values) = (keys?, values?);
        let spec = AttentionSpec {
            heads: small(&q_dims[2])?,
            shared: small(&k_dims[2])?,
            features: small(&q_dims[3])?,
            width: small(&v_dims[3])?,
            causal,
            windowed: window > 0,
            keys: keys.held.layout,
            values: values.held.layout,
            biased: node.operands.get(3).copied().flatten().is_some(),
        };
        if (&keys.past, &keys.total, &keys.capacity) != (&values.past, &values.total, &values.capacity) {
            return Err(LowerError::new("reads keys and values of different lengths"));
        }
        let to = self.result(node.results[0])?;
        if to.storage != Storage::F32 {
            return Err(LowerError::new(format!("works on f32, not on {:?}", to.storage)));
        }
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| attention::generate(&spec, name, caps));
        #[allow(clippy::cast_possible_truncation, reason = "kernels compute in f32")]
        let scale = (scale.0 as f32).to_bits();
        let mut operands = vec![
            Operand::Buffer(queries),
            Operand::Bits(4 * u64::from(spec.heads) * u64::from(spec.features)),
            Operand::Buffer(keys.buffer),
            Operand::Buffer(values.buffer),
            Operand::Buffer(to.buffer),
            Operand::Bits(u64::from(scale)),
            Operand::Size(q_dims[1].clone()),
            Operand::Size(keys.past),
            Operand::Size(keys.capacity),
            Operand::Bits(window as u64),
            self.header(keys.held),
            self.header(values.held),
            values.window.map_or(Operand::Bits(0), Operand::Buffer),
        ];
        operands.extend(self.bias(node, &q_dims)?);
        // Each query with each key that it sees, and its value: of a key `features` products and sums, of a value `width`.
        let each = Dim::Const(i64::from(spec.features + spec.width));
        let twice = keys.total.checked_mul(&Dim::Const(2)).ok_or_else(LowerError::too_large)?;
        let seen = if causal {
            let hidden = q_dims[1].checked_mul(&Dim::Const(-1)).ok_or_else(LowerError::too_large)?;
            twice.checked_add(&plus(&hidden, 1)?).ok_or_else(LowerError::too_large)?
        } else {
            twice
        };
        let operations = Self::count(&[q_dims[0].clone(), q_dims[1].clone(), q_dims[2].clone(), seen, each])?;
        operands.push(Operand::Size(keys.total));
        let group = Dim::Const(i64::from(spec.heads / spec.shared));
        let rows = q_dims[1].checked_mul(&group).ok_or_else(LowerError::too_large)?;
        let heads = q_dims[0].checked_mul(&k_dims[2]).ok_or_else(LowerError::too_large)?;
        let blocks = self.expr_ceil_div(&rows, u64::from(ROWS))?;
        let items = Expr::Mul(Box::new(self.expr(&heads)?), Box::new(blocks));
        self.step_with(&node.location, kernel, operands, items, 1, Expr::Const(spec.scratch_bytes()));
        self.works_on_floats(&operations)
    }

    /// Where what is added to scores is, and the bytes to that of the next sequence, head and token.
    fn bias(&mut self, node: &Node, queries: &[Dim]) -> Result<[Operand; 4], LowerError> {
        let none = || Operand::Bits(0);
        let Some(bias) = node.operands.get(3).copied().flatten() else {
            return Ok([none(), none(), none(), none()]);
        };
        let from = self.f32_place(bias)?;
        let own = self.function.ty(bias).dims.clone();
        let strides = contiguous(&own)?;
        let stride = |axis: usize, of: &Dim| match own[axis] == Dim::Const(1) && *of != own[axis] {
            true => Ok(none()),
            false => {
                strides[axis].checked_mul(&Dim::Const(4)).map(Operand::Size).ok_or_else(LowerError::too_large)
            }
        };
        Ok([Operand::Buffer(from), stride(0, &queries[0])?, stride(1, &queries[2])?, stride(2, &queries[1])?])
    }

    /// Keys or values that no state holds, as attention reads them.
    fn keys_of_call(
        &mut self,
        node: &Node,
        value: ValueId,
        queries: Option<&Dim>,
        (keys, format): (bool, CacheFormat),
    ) -> Result<Cache, LowerError> {
        let dims = self.function.ty(value).dims.clone();
        let past = match queries {
            Some(queries) => dims[1].checked_sub(queries).ok_or_else(LowerError::too_large)?,
            None => Dim::Const(0),
        };
        let held = Held::new(format, keys, small(&dims[3])?)?;
        if held.waits() && (past != Dim::Const(0) || queries.is_none()) {
            return Err(LowerError::new(format!(
                "values in {format} are not as many as queries, and no state"
            )));
        }
        let tile = held.layout.bytes(held.features) * u64::from(TILE / held.layout.tokens());
        let rows = dims[0].checked_mul(&dims[2]).ok_or_else(LowerError::too_large)?;
        let rows = Expr::Mul(Box::new(self.expr(&rows)?), Box::new(Expr::Const(tile)));
        let tiles = self.expr_ceil_div(&dims[1], u64::from(TILE))?;
        let buffer = self.buffers.add(Expr::Mul(Box::new(rows), Box::new(tiles)));
        let (total, capacity, none) = (dims[1].clone(), dims[1].clone(), Dim::Const(0));
        let mut cache = Cache { buffer, held, past: none, total, capacity, waiting: None, window: None };
        self.append(node, value, &mut cache)?;
        Ok(Cache { past, ..cache })
    }

    /// Where an f32 value is, dense.
    fn f32_place(&mut self, value: ValueId) -> Result<Buffer, LowerError> {
        let place = self.place(value)?;
        match place.storage {
            Storage::F32 => Ok(place.buffer),
            other => Err(LowerError::new(format!("works on f32, not on {other:?}"))),
        }
    }
}

/// A size and a little more.
fn plus(dim: &Dim, more: i64) -> Result<Dim, LowerError> {
    dim.checked_add(&Dim::Const(more)).ok_or_else(LowerError::too_large)
}

/// Most heads, and features of a head, that kernels are generated for; the largest published models have some hundreds.
const LARGEST_HEAD: u32 = 1024;

/// A constant size that kernels are generated for.
fn small(dim: &Dim) -> Result<u32, LowerError> {
    let constant = dim.constant().and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= LARGEST_HEAD);
    constant.ok_or_else(|| {
        LowerError::new(format!(
            "{dim} heads or features of a head have no CPU kernel; up to {LARGEST_HEAD} do"
        ))
    })
}
