// RUN: qcc opt %s --split-input-file --pass-pipeline='canonicalize,rotate-residual' --verify-each --explain 2>&1 | FileCheck %s

// What stops a rotation of the stream, and where.

// The stream is an input, so nothing can take its mean away.
// CHECK: remark: rotate-residual: `up`: as it is
// CHECK: remark: rotate-residual: `up`: no rotate-residual: the removal of the mean does not pass the input `x`
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "8"], qcc.name = "x"}], function_type = (tensor<?x8xf32>) -> tensor<?x4xf32>, sym_name = "mean"}> ({
  ^bb0(%x: tensor<?x8xf32>):
    %g = "qcc.parameter"() {name = "gain"} : () -> tensor<8xf32>
    %b = "qcc.parameter"() {name = "bias"} : () -> tensor<8xf32>
    %0 = "qcc.layer_norm"(%x, %g, %b) <{operandSegmentSizes = array<i32: 1, 1, 1>}> {axis = 1 : i64, epsilon = 1.000000e-05 : f64} : (tensor<?x8xf32>, tensor<8xf32>, tensor<8xf32>) -> tensor<?x8xf32>
    %w = "qcc.parameter"() {name = "up.weight"} : () -> tensor<4x8xf32>
    %1 = "qcc.linear"(%0, %w) : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32> loc("up")
    "func.return"(%1) : (tensor<?x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()

// -----

// One weight for two layers: a transform for one would store it twice.
// CHECK: remark: rotate-residual: `again`: no transform: its weight is used by 2 operations; a transform for one of them would store it once more
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T"], qcc.name = "tokens"}], function_type = (tensor<?x?xi64>) -> tensor<?x?x8xf32>, sym_name = "shared"}> ({
  ^bb0(%tokens: tensor<?x?xi64>):
    %table = "qcc.parameter"() {name = "table"} : () -> tensor<12x8xf32>
    %0 = "qcc.embedding"(%table, %tokens) : (tensor<12x8xf32>, tensor<?x?xi64>) -> tensor<?x?x8xf32>
    %g = "qcc.parameter"() {name = "gain"} : () -> tensor<8xf32>
    %1 = "qcc.rms_norm"(%0, %g) {epsilon = 1.000000e-05 : f64} : (tensor<?x?x8xf32>, tensor<8xf32>) -> tensor<?x?x8xf32>
    %w = "qcc.parameter"() {name = "shared.weight"} : () -> tensor<8x8xf32>
    %2 = "qcc.linear"(%1, %w) : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32> loc("once")
    %3 = "qcc.relu"(%2) : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    %4 = "qcc.linear"(%3, %w) : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32> loc("again")
    "func.return"(%4) : (tensor<?x?x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()

// -----

// A sigmoid in the stream works on features as they are.
// CHECK: remark: rotate-residual: `up`: no rotate-residual: a rotation does not pass `squash` (qcc.sigmoid)
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T"], qcc.name = "tokens"}], function_type = (tensor<?x?xi64>) -> tensor<?x?x4xf32>, sym_name = "sigmoid"}> ({
  ^bb0(%tokens: tensor<?x?xi64>):
    %table = "qcc.parameter"() {name = "table"} : () -> tensor<12x8xf32>
    %0 = "qcc.embedding"(%table, %tokens) : (tensor<12x8xf32>, tensor<?x?xi64>) -> tensor<?x?x8xf32>
    %1 = "qcc.sigmoid"(%0) : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32> loc("squash")
    %g = "qcc.parameter"() {name = "gain"} : () -> tensor<8xf32>
    %2 = "qcc.rms_norm"(%1, %g) {epsilon = 1.000000e-05 : f64} : (tensor<?x?x8xf32>, tensor<8xf32>) -> tensor<?x?x8xf32>
    %w = "qcc.parameter"() {name = "up.weight"} : () -> tensor<4x8xf32>
    %3 = "qcc.linear"(%2, %w) : (tensor<?x?x8xf32>, tensor<4x8xf32>) -> tensor<?x?x4xf32> loc("up")
    "func.return"(%3) : (tensor<?x?x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
