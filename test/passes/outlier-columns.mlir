// RUN: qcc opt %s --pass-pipeline='outlier-columns{columns=2},canonicalize' --verify-each | FileCheck %s
// RUN: qcc opt %s --pass-pipeline='outlier-columns{columns=2},canonicalize,outlier-columns{columns=2},canonicalize' --verify-each | FileCheck %s
// RUN: qcc opt %s --pass-pipeline='outlier-columns,canonicalize' | FileCheck %s --check-prefix=PLAIN
// RUN: qcc opt %s --pass-pipeline='outlier-columns{columns=2},canonicalize,calibrate,quantize{weights=int8:channel activations=int8},canonicalize' | FileCheck %s --check-prefix=QUANTIZED
// RUN: not qcc opt %s --pass-pipeline='outlier-columns{columns=2 share=0.5}' 2>&1 | FileCheck %s --check-prefix=BOTH

// Some features (those with the largest activations, here on a random input) go to a layer of their own; the other one has zeros there, in
// its input and in its weight.

// CHECK-DAG: %[[I:.*]] = "qcc.constant"() {value = dense<[{{[0-9]+, [0-9]+}}]> : tensor<2xi64>}
// CHECK-DAG: %[[G:.*]] = "qcc.gather"(%arg0, %[[I]]) {axis = 1 : i64}
// CHECK-DAG: %[[M:.*]] = "qcc.parameter"() {name = "fc.rest.mask"} : () -> tensor<16xf32>
// CHECK-DAG: %[[X:.*]] = "qcc.mul"(%arg0, %[[M]])
// CHECK-DAG: %[[O:.*]] = "qcc.parameter"() {name = "fc.outliers"} : () -> tensor<8x2xf32>
// CHECK-DAG: %[[A:.*]] = "qcc.linear"(%[[G]], %[[O]]) {qcc.branch = "outliers"}
// CHECK-DAG: %[[W:.*]] = "qcc.parameter"() {name = "fc.rest"} : () -> tensor<8x16xf32>
// CHECK-DAG: %[[B:.*]] = "qcc.linear"(%[[X]], %[[W]], %{{.*}}) {qcc.branch = "rest"}
// CHECK: %[[Y:.*]] = "qcc.add"(%[[A]], %[[B]])
// CHECK-NEXT: "func.return"(%[[Y]])

// No feature of a random input stands out.
// PLAIN-NOT: qcc.branch

// QUANTIZED: "qcc.linear"(%{{.*}}, %{{.*}}) {qcc.branch = "outliers"}
// QUANTIZED: "qcc.quantize"
// QUANTIZED: {name = "fc.rest.codes"}
// QUANTIZED: {qcc.branch = "rest"}

// BOTH: `columns` and `share` exclude each other
"func.func"() <{arg_attrs = [{qcc.dims = ["B", "16"]}], function_type = (tensor<?x16xf32>) -> tensor<?x8xf32>, sym_name = "main"}> ({
^bb0(%0: tensor<?x16xf32>):
  %1 = "qcc.parameter"() {name = "fc"} : () -> tensor<8x16xf32>
  %2 = "qcc.parameter"() {name = "fc.bias"} : () -> tensor<8xf32>
  %3 = "qcc.linear"(%0, %1, %2) : (tensor<?x16xf32>, tensor<8x16xf32>, tensor<8xf32>) -> tensor<?x8xf32>
  "func.return"(%3) : (tensor<?x8xf32>) -> ()
}) : () -> ()
