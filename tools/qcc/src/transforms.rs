//! Online transforms: Hadamard transforms of what is computed at run time. Those of weights are part of the weights and cost nothing.

use std::collections::HashSet;

use qcc_ir::{Module, Op, ValueId};
use qcc_runtime::StepTime;

/// Number of online transforms of a module's entry function.
pub fn online(module: &Module) -> usize {
    let Some(function) = module.entry() else { return 0 };
    let mut computed: HashSet<ValueId> = function.arguments().iter().copied().collect();
    let mut transforms = 0;
    for &id in function.order() {
        let node = function.node(id);
        if node.operands.iter().flatten().any(|v| computed.contains(v)) {
            computed.extend(&node.results);
            transforms += usize::from(matches!(node.op, Op::Hadamard { .. }));
        }
    }
    transforms
}

/// Their share of the time of all steps, 0 to 1; with that of a quantize that runs in the same kernel.
pub fn share(steps: &[StepTime]) -> f64 {
    let seconds = |of: &dyn Fn(&StepTime) -> bool| -> f64 {
        steps.iter().filter(|step| of(step)).fold(0.0, |sum, step| sum + step.seconds)
    };
    let transforms = seconds(&|step| qcc_cpu::is_transform(&step.kernel));
    transforms / seconds(&|_| true).max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use qcc_ir::parse::parse_module;

    use super::*;

    #[test]
    fn transforms_of_weights_do_not_count() {
        let text = r#"
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "4"]}], function_type = (tensor<?x4xf32>) -> tensor<?x4xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?x4xf32>):
    %0 = "qcc.relu"(%x) : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %1 = "qcc.hadamard"(%0) {size = 4 : i64, transpose = false} : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %w = "qcc.parameter"() {name = "w"} : () -> tensor<4x4xf32>
    %2 = "qcc.hadamard"(%w) {size = 4 : i64, transpose = false} : (tensor<4x4xf32>) -> tensor<4x4xf32>
    %3 = "qcc.linear"(%1, %2) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
    "func.return"(%3) : (tensor<?x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
"#;
        assert_eq!(online(&parse_module("test", text).expect("parses")), 1);
    }

    #[test]
    fn the_share_is_that_of_transform_kernels() {
        let step = |kernel: &str, seconds| StepTime {
            name: "a".into(),
            kernel: kernel.into(),
            calls: 1,
            seconds,
            ..StepTime::default()
        };
        let steps = [step("qcc_kernel_0_gemm", 3.0), step("qcc_kernel_1_hadamard", 1.0)];
        assert_eq!(share(&steps), 0.25);
        assert_eq!(share(&[]), 0.0);
    }
}
