// RUN: qcc opt %s --pass-pipeline='calibrate,quantize{weights=int8:channel activations=int8}' | FileCheck %s
// RUN: qcc opt %s --pass-pipeline='calibrate{method=percentile percentile=99},quantize{weights=int8:channel activations=int8}' | FileCheck %s
// RUN: not qcc opt %s --pass-pipeline='calibrate{percentile=99}' 2>&1 | FileCheck %s --check-prefix=METHOD

// The inputs of the layers are measured (here on random inputs, with random weights), so they get constant scales: a fixed range is not
// needed. The second layer's input is positive, its scale another one.

// CHECK: %[[A:.*]] = "qcc.constant"() {value = dense<[[S:[0-9.eE+-]+]]> : tensor<f32>}
// CHECK: "qcc.quantize"(%arg0, %[[A]])
// CHECK-NOT: dense<[[S]]>
// CHECK: %[[R:.*]] = "qcc.relu"
// CHECK: %[[B:.*]] = "qcc.constant"() {value = dense<{{[0-9.eE+-]+}}> : tensor<f32>}
// CHECK: "qcc.quantize"(%[[R]], %[[B]])

// METHOD: `percentile` needs `method=percentile`
"func.func"() <{arg_attrs = [{qcc.dims = ["B", "16"]}], function_type = (tensor<?x16xf32>) -> tensor<?x4xf32>, sym_name = "main"}> ({
^bb0(%0: tensor<?x16xf32>):
  %1 = "qcc.parameter"() {name = "up"} : () -> tensor<8x16xf32>
  %2 = "qcc.linear"(%0, %1) : (tensor<?x16xf32>, tensor<8x16xf32>) -> tensor<?x8xf32>
  %3 = "qcc.relu"(%2) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %4 = "qcc.parameter"() {name = "down"} : () -> tensor<4x8xf32>
  %5 = "qcc.linear"(%3, %4) : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32>
  "func.return"(%5) : (tensor<?x4xf32>) -> ()
}) : () -> ()
