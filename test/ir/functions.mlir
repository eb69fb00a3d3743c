// RUN: qcc opt %s | FileCheck %s

// Several functions, state bindings, and sizes that are expressions. MLIR numbers the values of a generic module from its last function on.

"builtin.module"() ({
  // CHECK: sym_name = "prefill"
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "8"], qcc.name = "x"}, {qcc.dims = ["B", "8", "3"], qcc.name = "conv"}], function_type = (tensor<?x?x8xf32>, tensor<?x8x3xf32>) -> (tensor<?x?x8xf32>, tensor<?x8x3xf32>), res_attrs = [{qcc.name = "y"}, {qcc.name = "conv"}], sym_name = "prefill"}> ({
  // CHECK: ^bb0(%arg4: tensor<?x?x8xf32>{{.*}}, %arg5: tensor<?x8x3xf32>
  ^bb0(%x: tensor<?x?x8xf32> loc("x"), %state: tensor<?x8x3xf32>):
    %w = "qcc.parameter"() {name = "conv.weight"} : () -> tensor<8x4xf32> loc("conv.weight")
    // CHECK: %8:2 = "qcc.causal_conv"(%arg4, %{{.*}}, %arg5)
    %y:2 = "qcc.causal_conv"(%x, %w, %state) : (tensor<?x?x8xf32>, tensor<8x4xf32>, tensor<?x8x3xf32>) -> (tensor<?x?x8xf32>, tensor<?x8x3xf32>) loc("conv")
    "func.return"(%y#0, %y#1) : (tensor<?x?x8xf32>, tensor<?x8x3xf32>) -> () loc(unknown)
  // CHECK: }) {qcc.states = array<i64: 1, 1>} : () -> ()
  }) {qcc.states = array<i64: 1, 1>} : () -> () loc("main.py":3:1)
  // Keys grow by those of the new tokens.
  // CHECK: sym_name = "attend"
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "2", "4"], qcc.name = "x"}, {qcc.dims = ["B", "P", "2", "4"], qcc.name = "keys"}], function_type = (tensor<?x?x2x4xf32>, tensor<?x?x2x4xf32>) -> (tensor<?x?x2x4xf32>, tensor<?x?x2x4xf32>), sym_name = "attend"}> ({
  ^bb0(%x: tensor<?x?x2x4xf32>, %past: tensor<?x?x2x4xf32>):
    %f = "qcc.constant"() {value = dense<[1.0, 0.25]> : tensor<2xf32>} : () -> tensor<2xf32>
    // CHECK: "qcc.positions"(%arg{{.*}}, %arg{{.*}}) {axis = 1 : i64}{{.*}} -> tensor<?xi64>
    %p = "qcc.positions"(%x, %past) {axis = 1} : (tensor<?x?x2x4xf32>, tensor<?x?x2x4xf32>) -> tensor<?xi64>
    // CHECK: "qcc.rotary_embedding"({{.*}}) {interleaved = false}
    %r = "qcc.rotary_embedding"(%x, %p, %f) {interleaved = false} : (tensor<?x?x2x4xf32>, tensor<?xi64>, tensor<2xf32>) -> tensor<?x?x2x4xf32>
    %k = "qcc.concat"(%past, %r) {axis = 1} : (tensor<?x?x2x4xf32>, tensor<?x?x2x4xf32>) -> tensor<?x?x2x4xf32>
    // CHECK: "qcc.attention"({{.*}}) {causal = true, scale = 5.000000e-01 : f64, window = 0 : i64}
    %y = "qcc.attention"(%r, %k, %k) {scale = 0.5, causal = true, window = 0} : (tensor<?x?x2x4xf32>, tensor<?x?x2x4xf32>, tensor<?x?x2x4xf32>) -> tensor<?x?x2x4xf32>
    "func.return"(%y, %k) : (tensor<?x?x2x4xf32>, tensor<?x?x2x4xf32>) -> ()
  // CHECK: }) {qcc.states = array<i64: 1, 1>} : () -> ()
  }) {qcc.states = array<i64: 1, 1>} : () -> ()
  // CHECK: sym_name = "pad"
  "func.func"() <{arg_attrs = [{qcc.dims = ["2*T", "4"]}, {}], function_type = (tensor<?x4xf32>, tensor<i64>) -> tensor<?x4xf32>, sym_name = "pad"}> ({
  // CHECK: ^bb0(%arg0: tensor<?x4xf32>{{.*}}, %arg1: tensor<i64>
  ^bb0(%a: tensor<?x4xf32>, %unused: tensor<i64>):
    %p = "qcc.pad"(%a) {pads = array<i64: 1, 0, 0, 0>, mode = "constant", value = 0.0} : (tensor<?x4xf32>) -> tensor<?x4xf32> loc("pad"(unknown))
    %r = "qcc.reshape"(%p) {shape = ["1 + 2*T", "4"]} : (tensor<?x4xf32>) -> tensor<?x4xf32> loc(fused["pad", unknown])
    "func.return"(%r) : (tensor<?x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
