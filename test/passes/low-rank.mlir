// RUN: qcc opt %s --pass-pipeline='low-rank{rank=2},canonicalize' --verify-each | FileCheck %s
// RUN: qcc opt %s --pass-pipeline='low-rank{rank=2},canonicalize,low-rank{rank=2},canonicalize' --verify-each | FileCheck %s
// RUN: qcc opt %s --pass-pipeline='low-rank,canonicalize,quantize{weights=int4:channel},canonicalize' | FileCheck %s --check-prefix=QUANTIZED
// RUN: not qcc opt %s --pass-pipeline='low-rank{rank=0}' 2>&1 | FileCheck %s --check-prefix=RANK

// A layer gets a branch of two small ones; what is left of its weight is a weight expression. Layers that share an input share the first
// of the two. No branch is decomposed again.

// CHECK-DAG: %[[V:.*]] = "qcc.parameter"() {name = "q.low_rank.down"} : () -> tensor<2x16xf32>
// CHECK-DAG: %[[Q:.*]] = "qcc.parameter"() {name = "q.low_rank.up"} : () -> tensor<8x2xf32>
// CHECK-DAG: %[[K:.*]] = "qcc.parameter"() {name = "k.low_rank.up"} : () -> tensor<8x2xf32>
// CHECK-DAG: %[[R:.*]] = "qcc.parameter"() {name = "q.rest"} : () -> tensor<8x16xf32>
// CHECK-DAG: %[[D:.*]] = "qcc.linear"(%arg0, %[[V]]) {qcc.branch = "low_rank"}
// CHECK-DAG: %[[U:.*]] = "qcc.linear"(%[[D]], %[[Q]]) {qcc.branch = "low_rank"}
// CHECK-DAG: %[[S:.*]] = "qcc.linear"(%arg0, %[[R]], %{{.*}}) {qcc.branch = "rest"}
// CHECK-DAG: "qcc.add"(%[[U]], %[[S]])
// CHECK-DAG: "qcc.linear"(%[[D]], %[[K]]) {qcc.branch = "low_rank"}
// CHECK-DAG: %[[N:.*]] = "qcc.parameter"() {name = "narrow"} : () -> tensor<3x16xf32>
// CHECK: "func.return"

// The rank is a quarter of the smaller side at most (here 4, of 16 rows and 16 columns), and only the rest is quantized.
// QUANTIZED-DAG: {name = "q.low_rank.down"} : () -> tensor<4x16xf32>
// QUANTIZED-DAG: %[[C:.*]] = "qcc.parameter"() {name = "q.rest.codes"} : () -> tensor<8x16x!qcc.q<i4, {axis = 0 : i64}, f32, none>>
// QUANTIZED-DAG: %[[W:.*]] = "qcc.dequantize"(%[[C]], %{{.*}})
// QUANTIZED-DAG: "qcc.linear"(%arg0, %[[W]], %{{.*}}) {qcc.branch = "rest"}
// QUANTIZED-NOT: low_rank.{{down|up}}.codes

// RANK: `rank=0` is no branch
"func.func"() <{arg_attrs = [{qcc.dims = ["B", "16"]}], function_type = (tensor<?x16xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x3xf32>), sym_name = "main"}> ({
^bb0(%0: tensor<?x16xf32>):
  %1 = "qcc.parameter"() {name = "q"} : () -> tensor<8x16xf32>
  %2 = "qcc.parameter"() {name = "q.bias"} : () -> tensor<8xf32>
  %3 = "qcc.linear"(%0, %1, %2) : (tensor<?x16xf32>, tensor<8x16xf32>, tensor<8xf32>) -> tensor<?x8xf32>
  %4 = "qcc.parameter"() {name = "k"} : () -> tensor<8x16xf32>
  %5 = "qcc.linear"(%0, %4) : (tensor<?x16xf32>, tensor<8x16xf32>) -> tensor<?x8xf32>
  // Too small for a branch.
  %6 = "qcc.relu"(%0) : (tensor<?x16xf32>) -> tensor<?x16xf32>
  %7 = "qcc.parameter"() {name = "narrow"} : () -> tensor<3x16xf32>
  %8 = "qcc.linear"(%6, %7) : (tensor<?x16xf32>, tensor<3x16xf32>) -> tensor<?x3xf32>
  "func.return"(%3, %5, %8) : (tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x3xf32>) -> ()
}) : () -> ()
