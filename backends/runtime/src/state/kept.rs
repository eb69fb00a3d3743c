//! What a model keeps from one call to the next: reading and writing it, and room for what grows.

use std::borrow::Cow;

use super::{Persistent, State};
use crate::bind::byte_size;
use crate::growth::Tokens;
use crate::program::{Arg, Blocks, Expr};
use crate::{Element, RuntimeError};

impl State {
    /// Makes the persistent buffers zero again; those that grow hold nothing, and keep their room.
    pub fn reset(&mut self) {
        for (index, persistent) in self.persistent.iter_mut().enumerate() {
            if self.model.blocks(index).is_none() {
                persistent.buffer.clear();
            }
            persistent.written = false;
            persistent.held = 0;
        }
    }

    /// Tokens that growing states hold.
    pub fn held(&self) -> u64 {
        self.persistent.iter().map(|p| p.held).max().unwrap_or(0)
    }

    /// Bytes that the states that grow take, with the room they have.
    pub fn growing_bytes(&self) -> u64 {
        let grows = |(index, p): (usize, &Persistent)| self.model.blocks(index).map(|_| p.bytes);
        self.persistent.iter().enumerate().filter_map(grows).sum()
    }

    /// The most tokens that growing states may hold; a call that would need more fails.
    pub fn limit_tokens(&mut self, most: u64) {
        self.most = most;
    }

    /// Makes room for so many tokens with the next call, so that calls up to there move nothing.
    pub fn reserve_tokens(&mut self, tokens: u64) {
        self.reserved = tokens;
    }

    /// Shape and contents of a persistent buffer.
    ///
    /// # Errors
    /// When there is none of this name, no call has given it a size yet, or it grows and lies in memory as packed codes.
    pub fn read_state(&self, name: &str) -> Result<(Vec<u64>, Cow<'_, [u8]>), RuntimeError> {
        let fail = |message: &str| RuntimeError::Tensor {
            what: "state",
            name: name.into(),
            message: message.into(),
        };
        let index = self.state_index(name)?;
        let persistent = &self.persistent[index];
        let dims = persistent.dims.clone().ok_or_else(|| fail("it has no size before the first call"))?;
        let Some(blocks) = self.model.blocks(index) else {
            return Ok((dims, Cow::Borrowed(&persistent.buffer[..persistent.bytes as usize])));
        };
        let width = self.element_bytes(index);
        let tokens = Tokens::new(blocks, &dims, width).ok_or_else(|| fail("its codes are packed"))?;
        let bytes = tokens.read(persistent, persistent.held);
        Ok((tokens.shape(persistent.held).to_vec(), Cow::Owned(bytes)))
    }

    /// Whether a persistent buffer lies in memory as packed codes, which cannot be read or written.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn is_packed(&self, name: &str) -> Result<bool, RuntimeError> {
        let index = self.state_index(name)?;
        let Some(blocks) = self.model.blocks(index) else { return Ok(false) };
        // Heads and features are constants.
        let constant = |dim: &Expr| if let Expr::Const(n) = dim { *n } else { 0 };
        let dims: Vec<u64> = self.model.states()[index].dims.iter().map(constant).collect();
        Ok(Tokens::new(blocks, &dims, self.element_bytes(index)).is_none())
    }

    /// Sets a persistent buffer. A later call whose inputs ask for another shape fails until [`State::reset`].
    ///
    /// # Errors
    /// When there is none of this name, or shape and size do not fit its declaration or each other.
    pub fn write_state(&mut self, name: &str, shape: &[u64], data: &[u8]) -> Result<(), RuntimeError> {
        let index = self.state_index(name)?;
        let fail = |message: String| RuntimeError::Tensor { what: "state", name: name.to_string(), message };
        let port = &self.model.states()[index];
        let fits = port.dims.len() == shape.len()
            && port.dims.iter().zip(shape).all(|(dim, n)| !matches!(dim, Expr::Const(c) if c != n));
        if !fits {
            return Err(fail(format!("shape {shape:?} does not fit its declaration {:?}", port.dims)));
        }
        if shape.get(1).is_some_and(|tokens| *tokens > 0) && self.is_packed(name)? {
            return Err(fail("its codes are packed".into()));
        }
        let bytes = byte_size(port, shape).ok_or_else(|| fail(format!("shape {shape:?} overflows")))?;
        if bytes != data.len() as u64 {
            return Err(fail(format!("{} bytes where shape {shape:?} has {bytes}", data.len())));
        }
        if let Some(blocks) = self.model.blocks(index).cloned() {
            return self.write_tokens(index, &blocks, shape, data);
        }
        self.resize_state(index, shape, bytes)?;
        self.persistent[index].buffer[..data.len()].copy_from_slice(data);
        self.persistent[index].written = true;
        Ok(())
    }

    pub(super) fn element_bytes(&self, index: usize) -> u64 {
        Element::named(&self.model.states()[index].element).map_or(1, Element::bytes)
    }

    /// Sets a state that grows: all of them are to hold equally much.
    fn write_tokens(
        &mut self,
        index: usize,
        blocks: &Blocks,
        shape: &[u64],
        data: &[u8],
    ) -> Result<(), RuntimeError> {
        let width = self.element_bytes(index);
        let fail = |message: String| {
            let name = self.model.states()[index].name.clone();
            RuntimeError::Tensor { what: "state", name, message }
        };
        let (batch, held) = (shape[0], shape[1]);
        let mut dims = shape.to_vec();
        dims[1] = 0;
        let tokens = Tokens::new(blocks, &dims, width);
        if tokens.is_none() && held > 0 {
            return Err(fail("its codes are packed".into()));
        }
        let steps = self.model.program().entries.iter().filter_map(|entry| entry.growth.as_ref());
        let step = steps.map(|growth| growth.step).max().unwrap_or(1);
        let room = self.reserved.max(held).checked_next_multiple_of(step);
        let (Some(rows), Some(capacity)) = (batch.checked_mul(shape[2]), room) else {
            return Err(fail(format!("shape {shape:?} overflows")));
        };
        self.layout += 1;
        let persistent = &mut self.persistent[index];
        persistent.held = 0;
        persistent.grow(blocks, dims, rows, capacity)?;
        if let Some(tokens) = tokens {
            tokens.write(persistent, held, data);
        }
        persistent.written = true;
        persistent.held = held;
        Ok(())
    }

    /// The growing states of an entry point.
    pub(super) fn growing(&self, entry: usize) -> Vec<usize> {
        let growth = self.model.program().entries[entry].growth.as_ref();
        let states = growth.map(|growth| growth.states.as_slice()).unwrap_or_default();
        states.iter().map(|blocks| self.model.entry_states(entry)[blocks.state as usize]).collect()
    }

    /// Tokens that growing states hold before a call; binds how many they are to have room for. Nothing else changes before the call is
    /// certain to run.
    pub(super) fn room(&mut self, entry: usize) -> Result<u64, RuntimeError> {
        let Some(growth) = &self.model.program().entries[entry].growth else { return Ok(0) };
        let overflow = || RuntimeError::Overflow { symbols: self.symbols.clone() };
        let mut seen: Option<(usize, u64)> = None;
        let (mut restarts, mut room) = (false, 0);
        for (blocks, index) in growth.states.iter().zip(self.growing(entry)) {
            let persistent = &self.persistent[index];
            let port = &self.model.states()[index];
            let fail = |message: String| {
                Err(RuntimeError::Tensor { what: "state", name: port.name.clone(), message })
            };
            let rows = blocks.rows.evaluate(&self.symbols)?;
            let heads =
                port.dims[0].evaluate(&self.symbols)?.checked_mul(port.dims[2].evaluate(&self.symbols)?);
            if heads != Some(rows) {
                return fail(format!(
                    "it has {rows} rows where its shape has {heads:?}: compile the model again"
                ));
            }
            room = room.max(persistent.capacity);
            if persistent.dims.is_some() && persistent.rows != rows {
                restarts |= !persistent.written;
                if persistent.written {
                    return fail(format!(
                        "it was set with shape {:?}, the inputs ask for {rows} heads of sequences",
                        persistent.dims
                    ));
                }
                continue;
            }
            match seen {
                Some((other, held)) if held != persistent.held => {
                    let other = &self.model.states()[other].name;
                    return fail(format!(
                        "it holds {} tokens where `{other}` holds {held}: set all of them, or start anew",
                        persistent.held
                    ));
                }
                _ => seen = Some((index, persistent.held)),
            }
        }
        let held = match seen {
            Some((index, held)) if restarts && held > 0 && self.persistent[index].written => {
                let name = self.model.states()[index].name.clone();
                let message =
                    "others are of another number of sequences: set all of them, or start anew".into();
                return Err(RuntimeError::Tensor { what: "state", name, message });
            }
            Some((_, held)) if !restarts => held,
            _ => 0,
        };
        let needed = held.checked_add(growth.added.evaluate(&self.symbols)?).ok_or_else(overflow)?;
        if needed > self.most {
            return Err(RuntimeError::Full { needed, most: self.most });
        }
        if needed > room {
            room = room.saturating_mul(2).min(self.most).max(needed);
        }
        let room = room.max(self.reserved.min(self.most)).checked_next_multiple_of(growth.step);
        self.symbols[growth.capacity as usize] = room.ok_or_else(overflow)?;
        Ok(held)
    }

    /// Gives a persistent buffer a shape and makes it zero.
    pub(super) fn resize_state(
        &mut self,
        index: usize,
        dims: &[u64],
        bytes: u64,
    ) -> Result<(), RuntimeError> {
        let persistent = &mut self.persistent[index];
        // Until this has succeeded it has no shape.
        persistent.dims = None;
        persistent.written = false;
        if bytes > persistent.buffer.len() as u64 || persistent.buffer.is_empty() {
            self.layout += 1;
            persistent.buffer.reserve(bytes, "persistent state")?;
        }
        persistent.buffer.clear();
        persistent.bytes = bytes;
        persistent.dims = Some(dims.to_vec());
        Ok(())
    }

    /// Computes the numbers that change with what states hold.
    pub(super) fn advance(&mut self, schedule: usize, held: u64) -> Result<(), RuntimeError> {
        let schedule = &mut self.schedules[schedule];
        let entry = &self.model.program().entries[schedule.entry];
        let Some(growth) = &entry.growth else { return Ok(()) };
        self.symbols.copy_from_slice(&schedule.symbols);
        self.symbols[growth.held as usize] = held;
        for moving in &schedule.moving {
            if let Arg::Value(expr) = &entry.steps[moving.step].args[moving.arg] {
                schedule.args[moving.position] = expr.evaluate(&self.symbols)?;
            }
        }
        Ok(())
    }

    fn state_index(&self, name: &str) -> Result<usize, RuntimeError> {
        let states = self.model.states();
        states.iter().position(|s| s.name == name).ok_or_else(|| RuntimeError::UnknownState {
            name: name.to_string(),
            known: states.iter().map(|s| s.name.clone()).collect(),
        })
    }
}
