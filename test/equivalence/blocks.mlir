// RUN: qcc opt %s --split-input-file --pass-pipeline='canonicalize,rotate-residual{basis=hadamard},canonicalize' --verify-each --explain 2>&1 | FileCheck %s

// What a block is: the stream is not cut at normalisations of queries and keys, nor between layers that share their input.
// CHECK-DAG: `q`: rotate-residual
// CHECK-DAG: `k`: rotate-residual
// CHECK-DAG: `v`: rotate-residual
// CHECK-DAG: `head`: rotate-residual
// CHECK-NOT: no rotate-residual: the residual stream
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T"], qcc.name = "t"}], function_type = (tensor<?x?xi64>) -> tensor<?x?x20xf32>, sym_name = "main"}> ({
  ^bb0(%t: tensor<?x?xi64>):
    %w1 = "qcc.parameter"() {name = "table"} : () -> tensor<20x8xf32>
    %v2 = "qcc.embedding"(%w1, %t) : (tensor<20x8xf32>, tensor<?x?xi64>) -> tensor<?x?x8xf32>
    %w3 = "qcc.parameter"() {name = "norm1"} : () -> tensor<8xf32>
    %v4 = "qcc.rms_norm"(%v2, %w3) {epsilon = 1.000000e-05 : f64} : (tensor<?x?x8xf32>, tensor<8xf32>) -> tensor<?x?x8xf32>
    %w5 = "qcc.parameter"() {name = "q.weight"} : () -> tensor<8x8xf32>
    %v6 = "qcc.linear"(%v4, %w5) : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32> loc("q")
    %v7 = "qcc.reshape"(%v6) {shape = ["B", "T", "2", "4"]} : (tensor<?x?x8xf32>) -> tensor<?x?x2x4xf32>
    %w8 = "qcc.parameter"() {name = "q_norm"} : () -> tensor<4xf32>
    %v9 = "qcc.rms_norm"(%v7, %w8) {epsilon = 1.000000e-05 : f64} : (tensor<?x?x2x4xf32>, tensor<4xf32>) -> tensor<?x?x2x4xf32>
    %w10 = "qcc.parameter"() {name = "k.weight"} : () -> tensor<8x8xf32>
    %v11 = "qcc.linear"(%v4, %w10) : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32> loc("k")
    %v12 = "qcc.reshape"(%v11) {shape = ["B", "T", "2", "4"]} : (tensor<?x?x8xf32>) -> tensor<?x?x2x4xf32>
    %w13 = "qcc.parameter"() {name = "k_norm"} : () -> tensor<4xf32>
    %v14 = "qcc.rms_norm"(%v12, %w13) {epsilon = 1.000000e-05 : f64} : (tensor<?x?x2x4xf32>, tensor<4xf32>) -> tensor<?x?x2x4xf32>
    %w15 = "qcc.parameter"() {name = "v.weight"} : () -> tensor<8x8xf32>
    %v16 = "qcc.linear"(%v4, %w15) : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32> loc("v")
    %v17 = "qcc.mul"(%v9, %v14) : (tensor<?x?x2x4xf32>, tensor<?x?x2x4xf32>) -> tensor<?x?x2x4xf32>
    %v18 = "qcc.reshape"(%v17) {shape = ["B", "T", "8"]} : (tensor<?x?x2x4xf32>) -> tensor<?x?x8xf32>
    %v19 = "qcc.mul"(%v18, %v16) : (tensor<?x?x8xf32>, tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    %w20 = "qcc.parameter"() {name = "o.weight"} : () -> tensor<8x8xf32>
    %v21 = "qcc.linear"(%v19, %w20) : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32> loc("o")
    %v22 = "qcc.add"(%v2, %v21) : (tensor<?x?x8xf32>, tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    %w23 = "qcc.parameter"() {name = "norm2"} : () -> tensor<8xf32>
    %v24 = "qcc.rms_norm"(%v22, %w23) {epsilon = 1.000000e-05 : f64} : (tensor<?x?x8xf32>, tensor<8xf32>) -> tensor<?x?x8xf32>
    %w25 = "qcc.parameter"() {name = "head.weight"} : () -> tensor<20x8xf32>
    %v26 = "qcc.linear"(%v24, %w25) : (tensor<?x?x8xf32>, tensor<20x8xf32>) -> tensor<?x?x20xf32> loc("head")
    "func.return"(%v26) : (tensor<?x?x20xf32>) -> ()
  }) : () -> ()
}) : () -> ()
