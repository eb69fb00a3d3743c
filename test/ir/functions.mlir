// RUN: qcc opt %s | FileCheck %s

// Several functions, state bindings, and sizes that are expressions. MLIR numbers the values of a generic module from its last function on.

"builtin.module"() ({
  // CHECK: sym_name = "prefill"
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "8"], qcc.name = "x"}, {qcc.dims = ["B", "8", "3"], qcc.name = "conv"}], function_type = (tensor<?x?x8xf32>, tensor<?x8x3xf32>) -> (tensor<?x?x8xf32>, tensor<?x8x3xf32>), res_attrs = [{qcc.name = "y"}, {qcc.name = "conv"}], sym_name = "prefill"}> ({
  // CHECK: ^bb0(%arg2: tensor<?x?x8xf32>{{.*}}, %arg3: tensor<?x8x3xf32>
  ^bb0(%x: tensor<?x?x8xf32> loc("x"), %state: tensor<?x8x3xf32>):
    %w = "qcc.parameter"() {name = "conv.weight"} : () -> tensor<8x4xf32> loc("conv.weight")
    // CHECK: %3:2 = "qcc.causal_conv"(%arg2, %{{.*}}, %arg3)
    %y:2 = "qcc.causal_conv"(%x, %w, %state) : (tensor<?x?x8xf32>, tensor<8x4xf32>, tensor<?x8x3xf32>) -> (tensor<?x?x8xf32>, tensor<?x8x3xf32>) loc("conv")
    "func.return"(%y#0, %y#1) : (tensor<?x?x8xf32>, tensor<?x8x3xf32>) -> () loc(unknown)
  // CHECK: }) {qcc.states = array<i64: 1, 1>} : () -> ()
  }) {qcc.states = array<i64: 1, 1>} : () -> () loc("main.py":3:1)
  // CHECK: sym_name = "pad"
  "func.func"() <{arg_attrs = [{qcc.dims = ["2*T", "4"]}, {}], function_type = (tensor<?x4xf32>, tensor<i64>) -> tensor<?x4xf32>, sym_name = "pad"}> ({
  // CHECK: ^bb0(%arg0: tensor<?x4xf32>{{.*}}, %arg1: tensor<i64>
  ^bb0(%a: tensor<?x4xf32>, %unused: tensor<i64>):
    %p = "qcc.pad"(%a) {pads = array<i64: 1, 0, 0, 0>, mode = "constant", value = 0.0} : (tensor<?x4xf32>) -> tensor<?x4xf32> loc("pad"(unknown))
    %r = "qcc.reshape"(%p) {shape = ["1 + 2*T", "4"]} : (tensor<?x4xf32>) -> tensor<?x4xf32> loc(fused["pad", unknown])
    "func.return"(%r) : (tensor<?x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
