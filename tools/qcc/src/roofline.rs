//! What the machine could do at most: the read bandwidth of its memory, measured beside the model, and how near to it a model comes that
//! reads all its weights for each token (S. Williams, A. Waterman and D. Patterson, Roofline, CACM 2009).

use std::hint::black_box;
use std::time::Instant;

use qcc_runtime::program::{Arg, Program};
use qcc_runtime::{AlignedBuffer, Pool, RuntimeError};

use crate::session::ENTRY;

/// Bytes that are read: many times what caches hold.
const BYTES: u64 = 1 << 30;

/// Bytes of a work item.
const ITEM: usize = 4 << 20;

/// Reads of the whole, of which the fastest counts: whatever else the machine does only takes from it.
const READS: usize = 4;

/// Memory to read, and threads that do.
pub struct Reads {
    pool: Pool,
    data: AlignedBuffer,
}

impl Reads {
    /// Memory for so many threads; 0 means one for each core.
    ///
    /// # Errors
    /// When memory is short or threads cannot be started.
    pub fn new(threads: usize) -> Result<Reads, RuntimeError> {
        let mut data = AlignedBuffer::zeroed(BYTES, "memory to measure its bandwidth")?;
        // Memory that was never written is one page of zeros, which caches hold.
        data.fill(1);
        Ok(Reads { pool: Pool::new(threads)?, data })
    }

    /// Bytes of memory it takes.
    pub fn bytes(&self) -> u64 {
        self.data.len() as u64
    }

    /// Bytes a second that all threads read together.
    pub fn bandwidth(&mut self) -> f64 {
        let Reads { pool, data } = self;
        let items = data.len() / ITEM;
        let mut best = 0.0f64;
        for streams in [1, 4].into_iter().cycle().take(2 * READS) {
            let start = Instant::now();
            pool.parallel_for(items as u64, 1, |_, begin, end| {
                let words: &[u64] = bytemuck::cast_slice(&data[begin as usize * ITEM..end as usize * ITEM]);
                black_box(if streams == 1 { sum(words) } else { sum_of_four(words) });
            });
            best = best.max((items * ITEM) as f64 / start.elapsed().as_secs_f64());
        }
        best
    }
}

/// Words of a cache line.
const LINE: usize = 8;

/// The sum of all words, by as many sums as registers hold.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; 2 * LINE];
    for pair in words.chunks_exact(2 * LINE) {
        sums.iter_mut().zip(pair).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

/// The same, in four places at a time: some machines fetch more ahead so.
fn sum_of_four(words: &[u64]) -> u64 {
    let quarter = words.len() / 4;
    let mut sums = [0u64; 4 * LINE];
    for at in (0..quarter).step_by(LINE) {
        for (stream, sums) in sums.chunks_exact_mut(LINE).enumerate() {
            let line = &words[stream * quarter + at..][..LINE];
            sums.iter_mut().zip(line).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

/// Bytes of weights that a call of the entry point reads whatever its inputs: all, but for tables of which it looks rows up.
pub fn weight_bytes(program: &Program) -> u64 {
    let Some(entry) = program.entries.iter().find(|entry| entry.name == ENTRY) else { return 0 };
    let mut is_read = vec![false; program.parameters.len()];
    // What looks up rows can be asked for one that is not there.
    for step in entry.steps.iter().filter(|step| !step.args.contains(&Arg::Fault)) {
        for arg in &step.args {
            if let Arg::Parameter { index, .. } = arg {
                is_read[*index as usize] = true;
            }
        }
    }
    program.parameters.iter().zip(is_read).filter(|(_, is_read)| *is_read).map(|(p, _)| p.bytes).sum()
}

#[cfg(test)]
mod tests {
    use qcc_runtime::program::{Arg, Entry, Expr, ParameterSlot, Program, SCHEMA, Step};

    /// A table that is looked up, a weight that two layers read, one table that is looked up and is the head as well.
    #[test]
    fn tables_of_rows_are_not_read_for_a_token() {
        let step = |args: Vec<Arg>| Step {
            name: "layer".into(),
            kernel: 0,
            args,
            items: Expr::Const(1),
            grain: 1,
            scratch: Expr::Const(0),
        };
        let weight = |index| Arg::Parameter { index, offset: 0 };
        let steps = vec![
            step(vec![weight(0), Arg::Fault]),
            step(vec![weight(1)]),
            step(vec![weight(1)]),
            step(vec![weight(2), Arg::Fault]),
            step(vec![weight(2)]),
        ];
        let entry = Entry {
            name: super::ENTRY.into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            states: Vec::new(),
            growth: None,
            limits: Vec::new(),
            slots: Vec::new(),
            steps,
        };
        let parameter = |name: &str, bytes| ParameterSlot { name: name.into(), bytes };
        let program = Program {
            schema: SCHEMA,
            symbols: Vec::new(),
            parameters: vec![parameter("table", 1000), parameter("layer", 100), parameter("tied", 10)],
            kernels: vec!["kernel".into()],
            features: Vec::new(),
            entries: vec![entry],
        };
        assert_eq!(super::weight_bytes(&program), 110);
    }

    #[test]
    fn every_word_is_read_once() {
        let words: Vec<u64> = (0..4096).collect();
        assert_eq!(super::sum(&words), 4095 * 2048);
        assert_eq!(super::sum_of_four(&words), 4095 * 2048);
    }
}
