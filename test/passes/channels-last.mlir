// RUN: qcc opt %s --pass-pipeline='channels-last,canonicalize' | FileCheck %s

// One transpose brings the input in order, and everything up to the head stays channels-last: the pool, the activation, the parameter for
// each channel, the concatenation (along the last axis now), and the mean over all pixels, whose result has no order left.

// CHECK-LABEL: sym_name = "main"
// CHECK-DAG: %[[X:.*]] = "qcc.transpose"(%arg{{[0-9]}}) {permutation = array<i64: 0, 2, 3, 1>} : (tensor<?x3x8x8xf32>) -> tensor<?x8x8x3xf32>
// CHECK-DAG: %[[W:.*]] = "qcc.parameter"() {name = "w"} : () -> tensor<4x3x3x3xf32>
// CHECK: %[[C:.*]] = "qcc.conv"(%[[X]], %[[W]]) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_last", {{.*}}} : {{.*}} -> tensor<?x8x8x4xf32>
// CHECK: %[[K:.*]] = "qcc.parameter"() {name = "k.reshape"} : () -> tensor<1x1x1x4xf32>
// CHECK: %[[M:.*]] = "qcc.mul"(%[[C]], %[[K]])
// CHECK: %[[P:.*]] = "qcc.max_pool"(%[[M]]) {{.*}}layout = "channels_last"{{.*}} -> tensor<?x4x4x4xf32>
// CHECK: %[[R:.*]] = "qcc.relu"(%[[P]])
// CHECK: %[[J:.*]] = "qcc.concat"(%[[R]], %[[P]]) {axis = 3 : i64}
// CHECK: %[[Y:.*]] = "qcc.reduce_mean"(%[[J]]) {axes = array<i64: 1, 2>, keep_dims = false} : {{.*}} -> tensor<?x8xf32>
// CHECK-NEXT: "func.return"(%[[Y]])
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "3", "8", "8"]}], function_type = (tensor<?x3x8x8xf32>) -> tensor<?x8xf32>, sym_name = "main"}> ({
  ^bb0(%arg0: tensor<?x3x8x8xf32>):
    %0 = "qcc.parameter"() {name = "w"} : () -> tensor<4x3x3x3xf32>
    %1 = "qcc.conv"(%arg0, %0) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<?x3x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<?x4x8x8xf32>
    %2 = "qcc.parameter"() {name = "k"} : () -> tensor<4x1x1xf32>
    %3 = "qcc.mul"(%1, %2) : (tensor<?x4x8x8xf32>, tensor<4x1x1xf32>) -> tensor<?x4x8x8xf32>
    %4 = "qcc.max_pool"(%3) {ceil = false, dilations = array<i64: 1, 1>, kernel = array<i64: 2, 2>, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 2, 2>} : (tensor<?x4x8x8xf32>) -> tensor<?x4x4x4xf32>
    %5 = "qcc.relu"(%4) : (tensor<?x4x4x4xf32>) -> tensor<?x4x4x4xf32>
    %6 = "qcc.concat"(%5, %4) {axis = 1 : i64} : (tensor<?x4x4x4xf32>, tensor<?x4x4x4xf32>) -> tensor<?x8x4x4xf32>
    %7 = "qcc.reduce_mean"(%6) {axes = array<i64: 2, 3>, keep_dims = false} : (tensor<?x8x4x4xf32>) -> tensor<?x8xf32>
    "func.return"(%7) : (tensor<?x8xf32>) -> ()
  }) : () -> ()

  // What cares about the order of axes gets it back, through one transpose for all that ask; results of the function keep their types.
  // CHECK-LABEL: sym_name = "back"
  // CHECK: %[[C:.*]] = "qcc.conv"
  // CHECK: %[[F:.*]] = "qcc.transpose"(%[[C]]) {permutation = array<i64: 0, 3, 1, 2>}
  // CHECK: %[[Z:.*]] = "qcc.resize"(%[[F]])
  // CHECK-NEXT: "func.return"(%[[Z]], %[[F]])
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "3", "8", "8"]}], function_type = (tensor<?x3x8x8xf32>) -> (tensor<?x4x16x16xf32>, tensor<?x4x8x8xf32>), sym_name = "back"}> ({
  ^bb0(%arg1: tensor<?x3x8x8xf32>):
    %0 = "qcc.parameter"() {name = "w1"} : () -> tensor<4x3x1x1xf32>
    %1 = "qcc.conv"(%arg1, %0) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x3x8x8xf32>, tensor<4x3x1x1xf32>) -> tensor<?x4x8x8xf32>
    %2 = "qcc.resize"(%1) {coordinates = "asymmetric", mode = "nearest", rounding = "floor", scales = [2.000000e+00 : f64, 2.000000e+00 : f64], sizes = array<i64: 16, 16>} : (tensor<?x4x8x8xf32>) -> tensor<?x4x16x16xf32>
    "func.return"(%2, %1) : (tensor<?x4x16x16xf32>, tensor<?x4x8x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
