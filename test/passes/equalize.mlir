// RUN: qcc opt %s --pass-pipeline=equalize,canonicalize --verify-each | FileCheck %s
// RUN: not qcc opt %s --pass-pipeline='equalize{where=here}' 2>&1 | FileCheck %s --check-prefix=OPTION
// RUN: qcc opt %s --pass-pipeline='equalize{where=helps weights=int8:tensor activations=uint8:tensor:asym}' --verify-each | FileCheck %s --check-prefix=HELPS

// Scales of channels move from the weights of one convolution into those of the next, through what keeps positive scales.

// OPTION: `where=here`: use everywhere or helps
// HELPS: sym_name = "relu"
"builtin.module"() ({
  // CHECK-LABEL: sym_name = "relu"
  // CHECK: %[[A:.*]] = "qcc.parameter"() {name = "r.a.mul"}
  // CHECK: %[[Y:.*]] = "qcc.conv"(%{{.*}}, %[[A]])
  // CHECK-NEXT: %[[R:.*]] = "qcc.relu"(%[[Y]])
  // CHECK: %[[B:.*]] = "qcc.parameter"() {name = "r.b.mul"}
  // CHECK-NEXT: %[[Z:.*]] = "qcc.conv"(%[[R]], %[[B]])
  // CHECK-NEXT: "func.return"(%[[Z]])
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "3", "8", "8"], qcc.name = "x"}], function_type = (tensor<?x3x8x8xf32>) -> tensor<?x4x8x8xf32>, sym_name = "relu"}> ({
  ^bb0(%x: tensor<?x3x8x8xf32>):
    %w0 = "qcc.parameter"() {name = "r.a"} : () -> tensor<4x3x3x3xf32>
    %0 = "qcc.conv"(%x, %w0) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<?x3x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<?x4x8x8xf32> loc("relu.a")
    %1 = "qcc.relu"(%0) : (tensor<?x4x8x8xf32>) -> tensor<?x4x8x8xf32>
    %w2 = "qcc.parameter"() {name = "r.b"} : () -> tensor<4x4x1x1xf32>
    %2 = "qcc.conv"(%1, %w2) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x4x8x8xf32>, tensor<4x4x1x1xf32>) -> tensor<?x4x8x8xf32> loc("relu.b")
    "func.return"(%2) : (tensor<?x4x8x8xf32>) -> ()
  }) : () -> ()

  // A clamp to [0, 6] becomes a ReLU and an upper bound for each channel; a depthwise convolution has a scale on either side.
  // CHECK-LABEL: sym_name = "relu6"
  // CHECK: %[[A:.*]] = "qcc.conv"(%{{.*}}
  // CHECK-NEXT: %[[B:.*]] = "qcc.relu"(%[[A]])
  // CHECK: %[[C:.*]] = "qcc.min"(%[[B]], %{{.*}}tensor<6x1x1xf32>
  // CHECK: %[[D:.*]] = "qcc.conv"(%[[C]], %{{.*}}groups = 6
  // CHECK-NEXT: %[[E:.*]] = "qcc.relu"(%[[D]])
  // CHECK: %[[F:.*]] = "qcc.min"(%[[E]], %{{.*}}tensor<6x1x1xf32>
  // CHECK: "qcc.conv"(%[[F]]
  // CHECK-NEXT: "func.return"
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "3", "8", "8"], qcc.name = "x"}], function_type = (tensor<?x3x8x8xf32>) -> tensor<?x3x8x8xf32>, sym_name = "relu6"}> ({
  ^bb0(%x: tensor<?x3x8x8xf32>):
    %w0 = "qcc.parameter"() {name = "m.a"} : () -> tensor<6x3x1x1xf32>
    %0 = "qcc.conv"(%x, %w0) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x3x8x8xf32>, tensor<6x3x1x1xf32>) -> tensor<?x6x8x8xf32> loc("expand")
    %1 = "qcc.clamp"(%0) {max = 6.000000e+00 : f64, min = 0.000000e+00 : f64} : (tensor<?x6x8x8xf32>) -> tensor<?x6x8x8xf32>
    %w2 = "qcc.parameter"() {name = "m.b"} : () -> tensor<6x1x3x3xf32>
    %2 = "qcc.conv"(%1, %w2) {dilations = array<i64: 1, 1>, groups = 6 : i64, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<?x6x8x8xf32>, tensor<6x1x3x3xf32>) -> tensor<?x6x8x8xf32> loc("depthwise")
    %3 = "qcc.clamp"(%2) {max = 6.000000e+00 : f64, min = 0.000000e+00 : f64} : (tensor<?x6x8x8xf32>) -> tensor<?x6x8x8xf32>
    %w4 = "qcc.parameter"() {name = "m.c"} : () -> tensor<3x6x1x1xf32>
    %4 = "qcc.conv"(%3, %w4) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x6x8x8xf32>, tensor<3x6x1x1xf32>) -> tensor<?x3x8x8xf32> loc("project")
    "func.return"(%4) : (tensor<?x3x8x8xf32>) -> ()
  }) : () -> ()

  // What a residual connection reads too, and a sum, stay.
  // CHECK-LABEL: sym_name = "residual"
  // CHECK-DAG: {name = "s.a"}
  // CHECK-DAG: {name = "s.b"}
  // CHECK-DAG: {name = "s.c"}
  // CHECK: "func.return"
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "4", "8", "8"], qcc.name = "x"}], function_type = (tensor<?x4x8x8xf32>) -> tensor<?x4x8x8xf32>, sym_name = "residual"}> ({
  ^bb0(%x: tensor<?x4x8x8xf32>):
    %w0 = "qcc.parameter"() {name = "s.a"} : () -> tensor<4x4x1x1xf32>
    %0 = "qcc.conv"(%x, %w0) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x4x8x8xf32>, tensor<4x4x1x1xf32>) -> tensor<?x4x8x8xf32> loc("wide")
    %1 = "qcc.relu"(%0) : (tensor<?x4x8x8xf32>) -> tensor<?x4x8x8xf32> loc("relu")
    %w2 = "qcc.parameter"() {name = "s.b"} : () -> tensor<4x4x1x1xf32>
    %2 = "qcc.conv"(%1, %w2) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x4x8x8xf32>, tensor<4x4x1x1xf32>) -> tensor<?x4x8x8xf32> loc("narrow")
    %3 = "qcc.add"(%1, %2) : (tensor<?x4x8x8xf32>, tensor<?x4x8x8xf32>) -> tensor<?x4x8x8xf32> loc("sum")
    %w4 = "qcc.parameter"() {name = "s.c"} : () -> tensor<4x4x1x1xf32>
    %4 = "qcc.conv"(%3, %w4) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x4x8x8xf32>, tensor<4x4x1x1xf32>) -> tensor<?x4x8x8xf32> loc("last")
    "func.return"(%4) : (tensor<?x4x8x8xf32>) -> ()
  }) : () -> ()

  // A sigmoid keeps no scale.
  // CHECK-LABEL: sym_name = "sigmoid"
  // CHECK-DAG: {name = "t.a"}
  // CHECK-DAG: {name = "t.b"}
  // CHECK: "func.return"
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "4", "8", "8"], qcc.name = "x"}], function_type = (tensor<?x4x8x8xf32>) -> tensor<?x4x8x8xf32>, sym_name = "sigmoid"}> ({
  ^bb0(%x: tensor<?x4x8x8xf32>):
    %w0 = "qcc.parameter"() {name = "t.a"} : () -> tensor<4x4x1x1xf32>
    %0 = "qcc.conv"(%x, %w0) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x4x8x8xf32>, tensor<4x4x1x1xf32>) -> tensor<?x4x8x8xf32> loc("linear")
    %1 = "qcc.sigmoid"(%0) : (tensor<?x4x8x8xf32>) -> tensor<?x4x8x8xf32> loc("sigmoid")
    %w2 = "qcc.parameter"() {name = "t.b"} : () -> tensor<4x4x1x1xf32>
    %2 = "qcc.conv"(%1, %w2) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x4x8x8xf32>, tensor<4x4x1x1xf32>) -> tensor<?x4x8x8xf32> loc("sigmoidal")
    "func.return"(%2) : (tensor<?x4x8x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
