// RUN: qcc opt %s --pass-pipeline='split,canonicalize' --verify-each | FileCheck %s
// RUN: qcc opt %s --pass-pipeline='split,canonicalize,split,canonicalize' --verify-each | FileCheck %s
// RUN: qcc opt %s --pass-pipeline='split,canonicalize,quantize{weights=int2:tensor},canonicalize' | FileCheck %s --check-prefix=QUANTIZED

// A layer becomes one for each cluster of its weight's values, with zeros elsewhere, and so does its bias. The parts know what they are:
// they are not split again.

// CHECK-LABEL: sym_name = "layer"
// CHECK-DAG: %[[L:.*]] = "qcc.parameter"() {name = "fc.low"} : () -> tensor<8x16xf32>
// CHECK-DAG: %[[LB:.*]] = "qcc.parameter"() {name = "fc.bias.low"} : () -> tensor<8xf32>
// CHECK-DAG: %[[M:.*]] = "qcc.parameter"() {name = "fc.middle"} : () -> tensor<8x16xf32>
// CHECK-DAG: %[[H:.*]] = "qcc.parameter"() {name = "fc.high"} : () -> tensor<8x16xf32>
// CHECK-DAG: %[[A:.*]] = "qcc.linear"(%[[X:.*]], %[[L]], %[[LB]]) {qcc.branch = "low"}
// CHECK-DAG: %[[B:.*]] = "qcc.linear"(%[[X]], %[[M]], %{{.*}}) {qcc.branch = "middle"}
// CHECK-DAG: %[[S:.*]] = "qcc.add"(%[[A]], %[[B]])
// CHECK-DAG: %[[C:.*]] = "qcc.linear"(%[[X]], %[[H]], %{{.*}}) {qcc.branch = "high"}
// CHECK: %[[Y:.*]] = "qcc.add"(%[[S]], %[[C]])
// CHECK-NEXT: "func.return"(%[[Y]])

// Each part gets a scale of its own.
// QUANTIZED-LABEL: sym_name = "layer"
// QUANTIZED-DAG: {name = "fc.low.codes"} : () -> tensor<8x16x!qcc.q<i2, {}, f32, none>>
// QUANTIZED-DAG: {name = "fc.low.scale"} : () -> tensor<f32>
// QUANTIZED-DAG: {name = "fc.middle.scale"} : () -> tensor<f32>
// QUANTIZED-DAG: {name = "fc.high.scale"} : () -> tensor<f32>
// QUANTIZED-DAG: {qcc.branch = "high"}
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "16"]}], function_type = (tensor<?x16xf32>) -> tensor<?x8xf32>, sym_name = "layer"}> ({
  ^bb0(%arg0: tensor<?x16xf32>):
    %0 = "qcc.parameter"() {name = "fc"} : () -> tensor<8x16xf32>
    %1 = "qcc.parameter"() {name = "fc.bias"} : () -> tensor<8xf32>
    %2 = "qcc.linear"(%arg0, %0, %1) : (tensor<?x16xf32>, tensor<8x16xf32>, tensor<8xf32>) -> tensor<?x8xf32>
    "func.return"(%2) : (tensor<?x8xf32>) -> ()
  }) : () -> ()

  // So do convolutions, by the clusters of each output channel.
  // CHECK-LABEL: sym_name = "convolution"
  // CHECK-COUNT-3: "qcc.conv"(%{{.*}}, %{{.*}}) {{{.*}}qcc.branch = "{{low|middle|high}}"
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "3", "8", "8"]}], function_type = (tensor<?x3x8x8xf32>) -> tensor<?x4x8x8xf32>, sym_name = "convolution"}> ({
  ^bb0(%arg1: tensor<?x3x8x8xf32>):
    %0 = "qcc.parameter"() {name = "conv"} : () -> tensor<4x3x3x3xf32>
    %1 = "qcc.conv"(%arg1, %0) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<?x3x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<?x4x8x8xf32>
    "func.return"(%1) : (tensor<?x4x8x8xf32>) -> ()
  }) : () -> ()

  // The output head of a language model and its embedding stay whole.
  // CHECK-LABEL: sym_name = "head"
  // CHECK: %[[T:.*]] = "qcc.parameter"() {name = "table"}
  // CHECK-NEXT: %[[E:.*]] = "qcc.embedding"(%[[T]], %{{.*}})
  // CHECK-NEXT: %[[Y:.*]] = "qcc.linear"(%[[E]], %[[T]])
  // CHECK-NEXT: "func.return"(%[[Y]])
  "func.func"() <{arg_attrs = [{qcc.dims = ["T"]}], function_type = (tensor<?xi64>) -> tensor<?x8xf32>, sym_name = "head"}> ({
  ^bb0(%arg2: tensor<?xi64>):
    %0 = "qcc.parameter"() {name = "table"} : () -> tensor<8x4xf32>
    %1 = "qcc.embedding"(%0, %arg2) : (tensor<8x4xf32>, tensor<?xi64>) -> tensor<?x4xf32>
    %2 = "qcc.linear"(%1, %0) : (tensor<?x4xf32>, tensor<8x4xf32>) -> tensor<?x8xf32>
    "func.return"(%2) : (tensor<?x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
