// RUN: qcc opt %s --pass-pipeline='canonicalize,smooth,canonicalize' --verify-each --explain 2>&1 | FileCheck %s --check-prefix=SMOOTH
// RUN: qcc opt %s --pass-pipeline='canonicalize,rotate-residual,canonicalize' --verify-each --explain 2>&1 | FileCheck %s --check-prefix=ROTATE

// A bias that is no weight stays where it is, and a normalisation over more than the features is none that gains are taken out of; neither
// stops what is done elsewhere.
// SMOOTH: smooth
// ROTATE: the bias of its normalisation is no weight
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "4", "8"]}], function_type = (tensor<?x4x8xf32>) -> (tensor<?x4x8xf32>, tensor<?x4x8xf32>), sym_name = "main"}> ({
  ^bb0(%x: tensor<?x4x8xf32>):
    %g = "qcc.parameter"() {name = "g"} : () -> tensor<8xf32>
    %b = "qcc.constant"() {value = dense<0.0> : tensor<8xf32>} : () -> tensor<8xf32>
    %n = "qcc.layer_norm"(%x, %g, %b) <{operandSegmentSizes = array<i32: 1, 1, 1>}> {axis = 2 : i64, epsilon = 1.000000e-05 : f64} : (tensor<?x4x8xf32>, tensor<8xf32>, tensor<8xf32>) -> tensor<?x4x8xf32>
    %w = "qcc.parameter"() {name = "w"} : () -> tensor<8x8xf32>
    %y = "qcc.linear"(%n, %w) : (tensor<?x4x8xf32>, tensor<8x8xf32>) -> tensor<?x4x8xf32>
    %g2 = "qcc.parameter"() {name = "g2"} : () -> tensor<4x8xf32>
    %n2 = "qcc.layer_norm"(%x, %g2) <{operandSegmentSizes = array<i32: 1, 1, 0>}> {axis = 1 : i64, epsilon = 1.000000e-05 : f64} : (tensor<?x4x8xf32>, tensor<4x8xf32>) -> tensor<?x4x8xf32>
    %w2 = "qcc.parameter"() {name = "w2"} : () -> tensor<8x8xf32>
    %y2 = "qcc.linear"(%n2, %w2) : (tensor<?x4x8xf32>, tensor<8x8xf32>) -> tensor<?x4x8xf32>
    "func.return"(%y, %y2) : (tensor<?x4x8xf32>, tensor<?x4x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
