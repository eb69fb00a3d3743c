// RUN: qcc opt %s --pass-pipeline='rearrange-kv-channels{keys=bfp4:block=4},canonicalize,quantize-kv-cache{keys=bfp4:block=4 values=int8}' | FileCheck %s
// RUN: qcc opt %s --pass-pipeline='rearrange-kv-channels{keys=bfp4:block=4}' --verify-each | FileCheck %s --check-prefix=SORTED

// Pairs of features become neighbours, each head of keys has frequencies of its own, and a cache of the model as it was has another name.
// SORTED-DAG: qcc.name = "keys.sorted-{{[0-9a-f]+}}"
// SORTED-DAG: "qcc.constant"() {value = dense<{{.*}}> : tensor<2x4xf32>}
// SORTED-COUNT-2: "qcc.rotary_embedding"({{.*}}) {interleaved = true}
// SORTED: "qcc.attention"({{.*}}) {causal = true, scale = 5.000000e-01 : f64, window = 0 : i64}

// CHECK: "qcc.parameter"() {name = "k.sorted"} : () -> tensor<16x6xf32>
// CHECK: "qcc.attention"({{.*}}) {causal = true, keys = "bfp4:block=4", scale = 5.000000e-01 : f64, values = "int8:token", window = 0 : i64}
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "6"]}, {qcc.dims = ["B", "P", "2", "8"], qcc.name = "keys"}, {qcc.dims = ["B", "P", "2", "8"], qcc.name = "values"}], function_type = (tensor<?x?x6xf32>, tensor<?x?x2x8xf32>, tensor<?x?x2x8xf32>) -> (tensor<?x?x4x8xf32>, tensor<?x?x2x8xf32>, tensor<?x?x2x8xf32>), sym_name = "main"}> ({
  ^bb0(%x: tensor<?x?x6xf32>, %keys: tensor<?x?x2x8xf32>, %values: tensor<?x?x2x8xf32>):
    %positions = "qcc.positions"(%x, %keys) {axis = 1} : (tensor<?x?x6xf32>, tensor<?x?x2x8xf32>) -> tensor<?xi64>
    %frequencies = "qcc.constant"() {value = dense<[1.0, 0.5, 0.25, 0.125]> : tensor<4xf32>} : () -> tensor<4xf32>
    %wq = "qcc.parameter"() {name = "q"} : () -> tensor<32x6xf32>
    %wk = "qcc.parameter"() {name = "k"} : () -> tensor<16x6xf32>
    %wv = "qcc.parameter"() {name = "v"} : () -> tensor<16x6xf32>
    %0 = "qcc.linear"(%x, %wq) : (tensor<?x?x6xf32>, tensor<32x6xf32>) -> tensor<?x?x32xf32>
    %1 = "qcc.reshape"(%0) {shape = ["B", "T", "4", "8"]} : (tensor<?x?x32xf32>) -> tensor<?x?x4x8xf32>
    %q = "qcc.rotary_embedding"(%1, %positions, %frequencies) {interleaved = false} : (tensor<?x?x4x8xf32>, tensor<?xi64>, tensor<4xf32>) -> tensor<?x?x4x8xf32>
    %2 = "qcc.linear"(%x, %wk) : (tensor<?x?x6xf32>, tensor<16x6xf32>) -> tensor<?x?x16xf32>
    %3 = "qcc.reshape"(%2) {shape = ["B", "T", "2", "8"]} : (tensor<?x?x16xf32>) -> tensor<?x?x2x8xf32>
    %k = "qcc.rotary_embedding"(%3, %positions, %frequencies) {interleaved = false} : (tensor<?x?x2x8xf32>, tensor<?xi64>, tensor<4xf32>) -> tensor<?x?x2x8xf32>
    %4 = "qcc.linear"(%x, %wv) : (tensor<?x?x6xf32>, tensor<16x6xf32>) -> tensor<?x?x16xf32>
    %v = "qcc.reshape"(%4) {shape = ["B", "T", "2", "8"]} : (tensor<?x?x16xf32>) -> tensor<?x?x2x8xf32>
    %all_k = "qcc.concat"(%keys, %k) {axis = 1} : (tensor<?x?x2x8xf32>, tensor<?x?x2x8xf32>) -> tensor<?x?x2x8xf32>
    %all_v = "qcc.concat"(%values, %v) {axis = 1} : (tensor<?x?x2x8xf32>, tensor<?x?x2x8xf32>) -> tensor<?x?x2x8xf32>
    %y = "qcc.attention"(%q, %all_k, %all_v) {scale = 0.5, causal = true, window = 0} : (tensor<?x?x4x8xf32>, tensor<?x?x2x8xf32>, tensor<?x?x2x8xf32>) -> tensor<?x?x4x8xf32> loc("attn")
    "func.return"(%y, %all_k, %all_v) : (tensor<?x?x4x8xf32>, tensor<?x?x2x8xf32>, tensor<?x?x2x8xf32>) -> ()
  }) {qcc.states = array<i64: 1, 1, 2, 2>} : () -> ()
}) : () -> ()
