//! How near steps come to what the machine could do at most (S. Williams, A. Waterman and D. Patterson, Roofline, CACM 2009). The machine is
//! measured around each round, as what else it does changes.

use qcc_cpu::kernels::peak::Peak;
use qcc_cpu::machine::{Machine, cache_bytes};
use qcc_runtime::StepTime;

use crate::Failure;

/// What the machine does at most, all threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Operations a second on codes of 8 bits.
    pub int8: f64,
    /// Operations a second on f32.
    pub float: f64,
    /// Operations a second on bf16.
    pub bf16: f64,
    /// Bytes a second from memory.
    pub bandwidth: f64,
}

impl Limits {
    /// The better of two measurements.
    pub fn max(self, other: Limits) -> Limits {
        Limits {
            int8: self.int8.max(other.int8),
            float: self.float.max(other.float),
            bf16: self.bf16.max(other.bf16),
            bandwidth: self.bandwidth.max(other.bandwidth),
        }
    }

    /// Seconds that the arithmetic of steps takes at least.
    pub fn arithmetic(&self, steps: &[StepTime]) -> f64 {
        let seconds = |s: &StepTime| {
            s.integer_operations / self.int8 + s.float_operations / self.float + s.bf16_operations / self.bf16
        };
        steps.iter().map(seconds).sum()
    }

    /// Seconds that a step takes at least: its arithmetic, or reading its weights where caches do not hold them.
    pub fn step(&self, step: &StepTime, weights_in_memory: bool) -> f64 {
        let read = if weights_in_memory {
            step.calls as f64 * step.weight_bytes as f64 / self.bandwidth
        } else {
            0.0
        };
        self.arithmetic(std::slice::from_ref(step)).max(read)
    }
}

/// The machine, and what it was seen to do.
pub struct Roofline {
    machine: Machine,
    /// Whether weights are read from memory each time.
    weights_in_memory: bool,
    seen: Vec<Limits>,
}

impl Roofline {
    /// For so many threads and a model of so many bytes of weights.
    ///
    /// # Errors
    /// When memory is short or threads cannot be started.
    pub fn new(threads: usize, weight_bytes: u64) -> Result<Roofline, Failure> {
        let weights_in_memory = weight_bytes > cache_bytes();
        Ok(Roofline { machine: Machine::new(threads)?, weights_in_memory, seen: Vec::new() })
    }

    /// Bytes of memory it holds.
    pub fn bytes(&self) -> u64 {
        self.machine.bytes()
    }

    /// Whether caches are too small for the weights.
    pub fn weights_in_memory(&self) -> bool {
        self.weights_in_memory
    }

    /// Measures the machine.
    ///
    /// # Errors
    /// When memory is short.
    pub fn look(&mut self) -> Result<Limits, Failure> {
        let limits = Limits {
            int8: self.machine.peak(Peak::Int8)?,
            float: self.machine.peak(Peak::F32)?,
            bf16: self.machine.peak(Peak::BF16)?,
            bandwidth: self.machine.bandwidth()?,
        };
        self.seen.push(limits);
        Ok(limits)
    }

    /// The best that was seen.
    pub fn best(&self) -> Limits {
        self.seen.iter().copied().fold(Limits::default(), Limits::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_takes_as_long_as_its_arithmetic_or_its_weights() {
        let limits = Limits { int8: 100.0, float: 10.0, bf16: 20.0, bandwidth: 5.0 };
        let step = StepTime {
            name: "layer".into(),
            kernel: "gemm".into(),
            calls: 2,
            seconds: 50.0,
            integer_operations: 1000.0,
            float_operations: 10.0,
            bf16_operations: 20.0,
            weight_bytes: 50,
        };
        assert_eq!(limits.step(&step, false), 12.0);
        assert_eq!(limits.step(&step, true), 20.0);
        assert_eq!(limits.arithmetic(&[step.clone(), step]), 24.0);
    }
}
