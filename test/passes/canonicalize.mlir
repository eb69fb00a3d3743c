// RUN: qcc opt %s --pass-pipeline='canonicalize' | FileCheck %s

"builtin.module"() ({
  // An operation on weights becomes a weight, computed when the model is compiled; the equal one is the same weight.
  // CHECK-LABEL: sym_name = "weights"
  // CHECK-NEXT: ^bb0
  // CHECK-NEXT: %[[W:.*]] = "qcc.parameter"() {name = "w.transpose"} : () -> tensor<4x8xf32>
  // CHECK-NEXT: %[[A:.*]] = "qcc.linear"(%arg{{[0-9]}}, %[[W]])
  // CHECK-NEXT: "qcc.add"(%[[A]], %[[A]])
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "8"]}], function_type = (tensor<?x8xf32>) -> tensor<?x4xf32>, sym_name = "weights"}> ({
  ^bb0(%arg0: tensor<?x8xf32>):
    %0 = "qcc.parameter"() {name = "w"} : () -> tensor<8x4xf32>
    %1 = "qcc.transpose"(%0) {permutation = array<i64: 1, 0>} : (tensor<8x4xf32>) -> tensor<4x8xf32>
    %2 = "qcc.linear"(%arg0, %1) : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32>
    %3 = "qcc.parameter"() {name = "w"} : () -> tensor<8x4xf32>
    %4 = "qcc.transpose"(%3) {permutation = array<i64: 1, 0>} : (tensor<8x4xf32>) -> tensor<4x8xf32>
    %5 = "qcc.linear"(%arg0, %4) : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32>
    %6 = "qcc.add"(%2, %5) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    "func.return"(%6) : (tensor<?x4xf32>) -> ()
  }) : () -> ()

  // Constants fold to constants where that is exact; a square root would be rounded, so it waits as a weight.
  // CHECK-LABEL: sym_name = "constants"
  // CHECK-DAG: "qcc.constant"() {value = dense<{{.*}}> : tensor<2xf32>}
  // CHECK-DAG: "qcc.parameter"() {name = "constant.sqrt"} : () -> tensor<2xf32>
  // CHECK-NOT: qcc.reshape
  // CHECK-NOT: qcc.sqrt
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "2"]}], function_type = (tensor<?x2xf32>) -> tensor<?x2xf32>, sym_name = "constants"}> ({
  ^bb0(%arg1: tensor<?x2xf32>):
    %0 = "qcc.constant"() {value = dense<[[2.000000e+00, 3.000000e+00]]> : tensor<1x2xf32>} : () -> tensor<1x2xf32>
    %1 = "qcc.reshape"(%0) {shape = ["2"]} : (tensor<1x2xf32>) -> tensor<2xf32>
    %2 = "qcc.sqrt"(%1) : (tensor<2xf32>) -> tensor<2xf32>
    %3 = "qcc.mul"(%arg1, %1) : (tensor<?x2xf32>, tensor<2xf32>) -> tensor<?x2xf32>
    %4 = "qcc.add"(%3, %2) : (tensor<?x2xf32>, tensor<2xf32>) -> tensor<?x2xf32>
    "func.return"(%4) : (tensor<?x2xf32>) -> ()
  }) : () -> ()

  // Rows of a table of weights are an embedding; rows of another tensor are not.
  // CHECK-LABEL: sym_name = "tables"
  // CHECK-DAG: "qcc.embedding"(%{{[0-9]+}}, %arg{{[0-9]+}})
  // CHECK-DAG: "qcc.gather"(%arg{{[0-9]+}}, %arg{{[0-9]+}})
  "func.func"() <{arg_attrs = [{qcc.dims = ["B"]}, {qcc.dims = ["N", "4"]}], function_type = (tensor<?xi64>, tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>), sym_name = "tables"}> ({
  ^bb0(%ids: tensor<?xi64>, %rows: tensor<?x4xf32>):
    %0 = "qcc.parameter"() {name = "w"} : () -> tensor<8x4xf32>
    %1 = "qcc.gather"(%0, %ids) {axis = 0} : (tensor<8x4xf32>, tensor<?xi64>) -> tensor<?x4xf32>
    %2 = "qcc.gather"(%rows, %ids) {axis = 0} : (tensor<?x4xf32>, tensor<?xi64>) -> tensor<?x4xf32>
    "func.return"(%1, %2) : (tensor<?x4xf32>, tensor<?x4xf32>) -> ()
  }) : () -> ()

  // Reshapes and transposes that undo each other, and operations that nobody needs.
  // CHECK-LABEL: sym_name = "identities"
  // CHECK-NEXT: ^bb0
  // CHECK-NEXT: "qcc.relu"(%arg{{[0-9]}})
  // CHECK-NEXT: "func.return"
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "2", "4"]}], function_type = (tensor<?x2x4xf32>) -> tensor<?x2x4xf32>, sym_name = "identities"}> ({
  ^bb0(%arg2: tensor<?x2x4xf32>):
    %0 = "qcc.transpose"(%arg2) {permutation = array<i64: 0, 2, 1>} : (tensor<?x2x4xf32>) -> tensor<?x4x2xf32>
    %1 = "qcc.transpose"(%0) {permutation = array<i64: 0, 2, 1>} : (tensor<?x4x2xf32>) -> tensor<?x2x4xf32>
    %2 = "qcc.reshape"(%1) {shape = ["B", "8"]} : (tensor<?x2x4xf32>) -> tensor<?x8xf32>
    %3 = "qcc.reshape"(%2) {shape = ["B", "2", "4"]} : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
    %4 = "qcc.relu"(%3) : (tensor<?x2x4xf32>) -> tensor<?x2x4xf32>
    %5 = "qcc.exp"(%4) : (tensor<?x2x4xf32>) -> tensor<?x2x4xf32>
    "func.return"(%4) : (tensor<?x2x4xf32>) -> ()
  }) : () -> ()

  // RMSNorm in pieces, as exporters write it, is one operation; over another axis it is none.
  // CHECK-LABEL: sym_name = "norm"
  // CHECK: "qcc.rms_norm"(%arg{{[0-9]}}, %{{.*}}) {epsilon = 9.9999999747524271E-7 : f64}
  // CHECK-NEXT: "func.return"
  // CHECK-LABEL: sym_name = "no_norm"
  // CHECK-NOT: "qcc.rms_norm"
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "4"]}], function_type = (tensor<?x4xf32>) -> tensor<?x4xf32>, sym_name = "norm"}> ({
  ^bb0(%x: tensor<?x4xf32>):
    %two = "qcc.constant"() {value = dense<2.000000e+00> : tensor<f32>} : () -> tensor<f32>
    %0 = "qcc.pow"(%x, %two) : (tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
    %1 = "qcc.reduce_mean"(%0) {axes = array<i64: 1>, keep_dims = true} : (tensor<?x4xf32>) -> tensor<?x1xf32>
    %epsilon = "qcc.constant"() {value = dense<1.000000e-06> : tensor<f32>} : () -> tensor<f32>
    %2 = "qcc.add"(%1, %epsilon) : (tensor<?x1xf32>, tensor<f32>) -> tensor<?x1xf32>
    %3 = "qcc.sqrt"(%2) : (tensor<?x1xf32>) -> tensor<?x1xf32>
    %4 = "qcc.reciprocal"(%3) : (tensor<?x1xf32>) -> tensor<?x1xf32>
    %5 = "qcc.mul"(%x, %4) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
    %g = "qcc.parameter"() {name = "gain"} : () -> tensor<4xf32>
    %6 = "qcc.mul"(%g, %5) : (tensor<4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    "func.return"(%6) : (tensor<?x4xf32>) -> ()
  }) : () -> ()
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "4"]}], function_type = (tensor<?x4xf32>) -> tensor<?x4xf32>, sym_name = "no_norm"}> ({
  ^bb0(%x: tensor<?x4xf32>):
    %0 = "qcc.mul"(%x, %x) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %1 = "qcc.reduce_mean"(%0) {axes = array<i64: 0>, keep_dims = true} : (tensor<?x4xf32>) -> tensor<1x4xf32>
    %epsilon = "qcc.constant"() {value = dense<1.000000e-06> : tensor<f32>} : () -> tensor<f32>
    %2 = "qcc.add"(%1, %epsilon) : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
    %3 = "qcc.sqrt"(%2) : (tensor<1x4xf32>) -> tensor<1x4xf32>
    %4 = "qcc.div"(%x, %3) : (tensor<?x4xf32>, tensor<1x4xf32>) -> tensor<?x4xf32>
    %g = "qcc.parameter"() {name = "gain"} : () -> tensor<4xf32>
    %5 = "qcc.mul"(%4, %g) : (tensor<?x4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
    "func.return"(%5) : (tensor<?x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
