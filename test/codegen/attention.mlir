// Attention that goes on from what a cache holds: six heads of queries share two of keys, rotary positions begin where the cache ends. A
// second one sees four keys at most, a third reads keys of this call alone.
// PIPELINE:
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "6", "20"], qcc.name = "q"}, {qcc.dims = ["B", "T", "2", "20"], qcc.name = "k"}, {qcc.dims = ["B", "T", "2", "18"], qcc.name = "v"}, {qcc.dims = ["B", "P", "2", "20"], qcc.name = "keys"}, {qcc.dims = ["B", "P", "2", "18"], qcc.name = "values"}], function_type = (tensor<?x?x6x20xf32>, tensor<?x?x2x20xf32>, tensor<?x?x2x18xf32>, tensor<?x?x2x20xf32>, tensor<?x?x2x18xf32>) -> (tensor<?x?x6x18xf32>, tensor<?x?x6x18xf32>, tensor<?x?x6x18xf32>, tensor<?x?x2x20xf32>, tensor<?x?x2x18xf32>), sym_name = "main"}> ({
  ^bb0(%q: tensor<?x?x6x20xf32>, %k: tensor<?x?x2x20xf32>, %v: tensor<?x?x2x18xf32>, %keys: tensor<?x?x2x20xf32>, %values: tensor<?x?x2x18xf32>):
    %frequencies = "qcc.constant"() {value = dense<[1.0, 0.5, 0.25, 0.125, 0.0625, 0.03, 0.02, 0.01]> : tensor<8xf32>} : () -> tensor<8xf32>
    %positions = "qcc.positions"(%q, %keys) {axis = 1} : (tensor<?x?x6x20xf32>, tensor<?x?x2x20xf32>) -> tensor<?xi64>
    %turned = "qcc.rotary_embedding"(%q, %positions, %frequencies) {interleaved = false} : (tensor<?x?x6x20xf32>, tensor<?xi64>, tensor<8xf32>) -> tensor<?x?x6x20xf32>
    %new = "qcc.rotary_embedding"(%k, %positions, %frequencies) {interleaved = true} : (tensor<?x?x2x20xf32>, tensor<?xi64>, tensor<8xf32>) -> tensor<?x?x2x20xf32>
    %all = "qcc.concat"(%keys, %new) {axis = 1} : (tensor<?x?x2x20xf32>, tensor<?x?x2x20xf32>) -> tensor<?x?x2x20xf32>
    %read = "qcc.concat"(%values, %v) {axis = 1} : (tensor<?x?x2x18xf32>, tensor<?x?x2x18xf32>) -> tensor<?x?x2x18xf32>
    %0 = "qcc.attention"(%turned, %all, %read) {scale = 0.5, causal = true, window = 0} : (tensor<?x?x6x20xf32>, tensor<?x?x2x20xf32>, tensor<?x?x2x18xf32>) -> tensor<?x?x6x18xf32>
    %1 = "qcc.attention"(%turned, %all, %read) {scale = 1.0, causal = true, window = 4} : (tensor<?x?x6x20xf32>, tensor<?x?x2x20xf32>, tensor<?x?x2x18xf32>) -> tensor<?x?x6x18xf32>
    %2 = "qcc.attention"(%q, %k, %v) {scale = 0.25, causal = false, window = 0} : (tensor<?x?x6x20xf32>, tensor<?x?x2x20xf32>, tensor<?x?x2x18xf32>) -> tensor<?x?x6x18xf32>
    "func.return"(%0, %1, %2, %all, %read) : (tensor<?x?x6x18xf32>, tensor<?x?x6x18xf32>, tensor<?x?x6x18xf32>, tensor<?x?x2x20xf32>, tensor<?x?x2x18xf32>) -> ()
  }) {qcc.states = array<i64: 3, 3, 4, 4>} : () -> ()
}) : () -> ()
