// RUN: qcc opt %s --pass-pipeline='canonicalize,fold-batch-norm,canonicalize' | FileCheck %s

// A batch norm becomes part of the convolution before it: two parameters are left, computed from the six when the model is compiled. The
// convolution keeps its name.

// CHECK-LABEL: sym_name = "after"
// CHECK-NOT: qcc.batch_norm
// CHECK-DAG: %[[W:.*]] = "qcc.parameter"() {name = "conv.weight.mul"} : () -> tensor<4x3x3x3xf32>
// CHECK-DAG: %[[B:.*]] = "qcc.parameter"() {name = "{{.*}}"} : () -> tensor<4xf32>
// CHECK: %[[Y:.*]] = "qcc.conv"(%arg{{[0-9]}}, %[[W]], %[[B]])
// CHECK-NEXT: "qcc.relu"(%[[Y]])
// CHECK-NEXT: "func.return"
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "3", "8", "8"], qcc.name = "x"}], function_type = (tensor<?x3x8x8xf32>) -> tensor<?x4x8x8xf32>, res_attrs = [{qcc.name = "y"}], sym_name = "after"}> ({
  ^bb0(%arg0: tensor<?x3x8x8xf32>):
    %0 = "qcc.parameter"() {name = "conv.weight"} : () -> tensor<4x3x3x3xf32>
    %1 = "qcc.conv"(%arg0, %0) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<?x3x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<?x4x8x8xf32>
    %2 = "qcc.parameter"() {name = "bn.scale"} : () -> tensor<4xf32>
    %3 = "qcc.parameter"() {name = "bn.bias"} : () -> tensor<4xf32>
    %4 = "qcc.parameter"() {name = "bn.mean"} : () -> tensor<4xf32>
    %5 = "qcc.parameter"() {name = "bn.variance"} : () -> tensor<4xf32>
    %6 = "qcc.batch_norm"(%1, %2, %3, %4, %5) {epsilon = 1.000000e-05 : f64} : (tensor<?x4x8x8xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<?x4x8x8xf32>
    %7 = "qcc.relu"(%6) : (tensor<?x4x8x8xf32>) -> tensor<?x4x8x8xf32>
    "func.return"(%7) : (tensor<?x4x8x8xf32>) -> ()
  }) : () -> ()

  // Before a convolution that pads, the shift would have to reach into the padding: the batch norm stays.
  // CHECK-LABEL: sym_name = "padded"
  // CHECK: %[[N:.*]] = "qcc.batch_norm"(%arg{{[0-9]}}
  // CHECK: "qcc.conv"(%[[N]]
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "3", "8", "8"], qcc.name = "x"}], function_type = (tensor<?x3x8x8xf32>) -> tensor<?x4x8x8xf32>, sym_name = "padded"}> ({
  ^bb0(%arg1: tensor<?x3x8x8xf32>):
    %0 = "qcc.parameter"() {name = "in.scale"} : () -> tensor<3xf32>
    %1 = "qcc.parameter"() {name = "in.bias"} : () -> tensor<3xf32>
    %2 = "qcc.parameter"() {name = "in.mean"} : () -> tensor<3xf32>
    %3 = "qcc.parameter"() {name = "in.variance"} : () -> tensor<3xf32>
    %4 = "qcc.batch_norm"(%arg1, %0, %1, %2, %3) {epsilon = 1.000000e-05 : f64} : (tensor<?x3x8x8xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) -> tensor<?x3x8x8xf32>
    %5 = "qcc.parameter"() {name = "padded.weight"} : () -> tensor<4x3x3x3xf32>
    %6 = "qcc.conv"(%4, %5) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<?x3x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<?x4x8x8xf32>
    "func.return"(%6) : (tensor<?x4x8x8xf32>) -> ()
  }) : () -> ()

  // The convolution's result is used twice: folding would compute it twice, so nothing happens.
  // CHECK-LABEL: sym_name = "shared"
  // CHECK: %[[C:.*]] = "qcc.conv"(%arg{{[0-9]}}
  // CHECK: %[[N:.*]] = "qcc.batch_norm"(%[[C]]
  // CHECK: "qcc.add"(%[[N]], %[[C]])
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "3", "8", "8"], qcc.name = "x"}], function_type = (tensor<?x3x8x8xf32>) -> tensor<?x4x8x8xf32>, sym_name = "shared"}> ({
  ^bb0(%arg2: tensor<?x3x8x8xf32>):
    %0 = "qcc.parameter"() {name = "shared.weight"} : () -> tensor<4x3x1x1xf32>
    %1 = "qcc.conv"(%arg2, %0) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x3x8x8xf32>, tensor<4x3x1x1xf32>) -> tensor<?x4x8x8xf32>
    %2 = "qcc.parameter"() {name = "bn.scale"} : () -> tensor<4xf32>
    %3 = "qcc.parameter"() {name = "bn.bias"} : () -> tensor<4xf32>
    %4 = "qcc.parameter"() {name = "bn.mean"} : () -> tensor<4xf32>
    %5 = "qcc.parameter"() {name = "bn.variance"} : () -> tensor<4xf32>
    %6 = "qcc.batch_norm"(%1, %2, %3, %4, %5) {epsilon = 1.000000e-05 : f64} : (tensor<?x4x8x8xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<?x4x8x8xf32>
    %7 = "qcc.add"(%6, %1) : (tensor<?x4x8x8xf32>, tensor<?x4x8x8xf32>) -> tensor<?x4x8x8xf32>
    "func.return"(%7) : (tensor<?x4x8x8xf32>) -> ()
  }) : () -> ()

  // A batch norm that came apart into a product and a sum with weights, after a linear layer.
  // CHECK-LABEL: sym_name = "apart"
  // CHECK: "qcc.linear"(%arg{{[0-9]}}, %{{.*}}, %{{.*}})
  // CHECK-NEXT: "func.return"
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "3"], qcc.name = "x"}], function_type = (tensor<?x?x3xf32>) -> tensor<?x?x4xf32>, sym_name = "apart"}> ({
  ^bb0(%arg3: tensor<?x?x3xf32>):
    %0 = "qcc.parameter"() {name = "apart.weight"} : () -> tensor<4x3xf32>
    %1 = "qcc.linear"(%arg3, %0) : (tensor<?x?x3xf32>, tensor<4x3xf32>) -> tensor<?x?x4xf32>
    %2 = "qcc.parameter"() {name = "apart.scale"} : () -> tensor<4xf32>
    %3 = "qcc.mul"(%2, %1) : (tensor<4xf32>, tensor<?x?x4xf32>) -> tensor<?x?x4xf32>
    %4 = "qcc.parameter"() {name = "apart.shift"} : () -> tensor<1x1x4xf32>
    %5 = "qcc.add"(%3, %4) : (tensor<?x?x4xf32>, tensor<1x1x4xf32>) -> tensor<?x?x4xf32>
    "func.return"(%5) : (tensor<?x?x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
