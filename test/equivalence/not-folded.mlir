// RUN: qcc opt %s --pass-pipeline='fold-batch-norm' --verify-each --explain 2>&1 | FileCheck %s

// Batch normalisations that stay, and why. The first does not reach the padding of the convolution behind it: zeros are not shifted there.

// CHECK: remark: fold-batch-norm: `norm`: no fold-batch-norm: the padding of `padded` (qcc.conv) is not shifted with it
// CHECK-NEXT: remark: fold-batch-norm: `apart`: no fold-batch-norm: the result of `both` (qcc.conv) is also used without it
// CHECK-NOT: remark
// CHECK-COUNT-2: "qcc.batch_norm"
// CHECK-NOT: "qcc.batch_norm"
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "3", "8", "8"], qcc.name = "x"}], function_type = (tensor<?x3x8x8xf32>) -> tensor<?x3x8x8xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?x3x8x8xf32>):
    %s = "qcc.parameter"() {name = "scale"} : () -> tensor<3xf32>
    %t = "qcc.parameter"() {name = "bias"} : () -> tensor<3xf32>
    %m = "qcc.parameter"() {name = "mean"} : () -> tensor<3xf32>
    %v = "qcc.parameter"() {name = "variance"} : () -> tensor<3xf32>
    %0 = "qcc.batch_norm"(%x, %s, %t, %m, %v) {epsilon = 1.000000e-05 : f64} : (tensor<?x3x8x8xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) -> tensor<?x3x8x8xf32> loc("norm")
    %w = "qcc.parameter"() {name = "padded.weight"} : () -> tensor<3x3x3x3xf32>
    %1 = "qcc.conv"(%0, %w) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<?x3x8x8xf32>, tensor<3x3x3x3xf32>) -> tensor<?x3x8x8xf32> loc("padded")
    %2 = "qcc.relu"(%1) : (tensor<?x3x8x8xf32>) -> tensor<?x3x8x8xf32>
    %u = "qcc.parameter"() {name = "both.weight"} : () -> tensor<3x3x1x1xf32>
    %3 = "qcc.conv"(%2, %u) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x3x8x8xf32>, tensor<3x3x1x1xf32>) -> tensor<?x3x8x8xf32> loc("both")
    %4 = "qcc.batch_norm"(%3, %s, %t, %m, %v) {epsilon = 1.000000e-05 : f64} : (tensor<?x3x8x8xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) -> tensor<?x3x8x8xf32> loc("apart")
    %5 = "qcc.add"(%3, %4) : (tensor<?x3x8x8xf32>, tensor<?x3x8x8xf32>) -> tensor<?x3x8x8xf32>
    "func.return"(%5) : (tensor<?x3x8x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
