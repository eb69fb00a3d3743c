// RUN: qcc opt %s --pass-pipeline='quantize{weights=int8:channel}' | FileCheck %s --check-prefix=KEPT
// RUN: qcc opt %s --pass-pipeline='quantize{weights=int8:channel head=int4:block=8}' | FileCheck %s --check-prefix=ASKED
// RUN: qcc opt %s --pass-pipeline='quantize{weights=int8:channel head=int4:block=8},lower-quantized' | FileCheck %s --check-prefix=TIED

// The output head of a language model keeps its type unless a format is given for it. A layer whose result is the next state is no head.

// KEPT: "qcc.dynamic_quantize"(%{{.*}}) {{.*}}to = !qcc.q<i8, {axis = 0 : i64}, f32, none>
// KEPT: "qcc.dynamic_quantize"(%{{.*}}) {{.*}}to = !qcc.q<i8, {axis = 0 : i64}, f32, none>
// KEPT-NOT: qcc.dynamic_quantize

// ASKED: to = !qcc.q<i4, {axis = 1 : i64, block = 8 : i64}, f16, none>
// ASKED-COUNT-2: to = !qcc.q<i8, {axis = 0 : i64}, f32, none>

// The table also embeds tokens: both read the same codes.
// TIED: %[[TABLE:[0-9]+]]:2 = "qcc.dynamic_quantize"(%{{.*}}) {{.*}}to = !qcc.q<i4, {axis = 1 : i64, block = 8 : i64}, f16, none>
// TIED: "qcc.embedding"(%[[TABLE]]#0, %{{.*}}, %[[TABLE]]#1)
// TIED: "qcc.quantized_linear"(%{{.*}}, %[[TABLE]]#0, %[[TABLE]]#1)
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T"]}, {qcc.dims = ["B", "T", "8"]}], function_type = (tensor<?x?xi64>, tensor<?x?x8xf32>) -> (tensor<?x?x16xf32>, tensor<?x?x8xf32>), sym_name = "main"}> ({
  ^bb0(%arg0: tensor<?x?xi64>, %arg1: tensor<?x?x8xf32>):
    %0 = "qcc.parameter"() {name = "table"} : () -> tensor<16x8xf32>
    %1 = "qcc.embedding"(%0, %arg0) : (tensor<16x8xf32>, tensor<?x?xi64>) -> tensor<?x?x8xf32>
    %2 = "qcc.parameter"() {name = "mix"} : () -> tensor<8x8xf32>
    %3 = "qcc.linear"(%1, %2) : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32>
    %4 = "qcc.parameter"() {name = "keep"} : () -> tensor<8x8xf32>
    %5 = "qcc.linear"(%3, %4) : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32>
    %6 = "qcc.add"(%3, %arg1) : (tensor<?x?x8xf32>, tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    %7 = "qcc.linear"(%6, %0) : (tensor<?x?x8xf32>, tensor<16x8xf32>) -> tensor<?x?x16xf32>
    "func.return"(%7, %5) : (tensor<?x?x16xf32>, tensor<?x?x8xf32>) -> ()
  }) {qcc.states = array<i64: 1, 1>} : () -> ()
}) : () -> ()
