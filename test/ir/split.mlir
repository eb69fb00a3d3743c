// RUN: qcc opt %s --split-input-file --mlir-print-debuginfo | FileCheck %s
// RUN: qcc opt %s --split-input-file --mlir-print-debuginfo | qcc opt - --split-input-file -o %t
// RUN: FileCheck %s --check-prefix=AGAIN --input-file=%t

// Parts are modules of their own, with names of their own. Locations are printed when asked for.

// CHECK: %arg0: tensor<2xf32> loc("x")
// CHECK: "qcc.relu"(%arg0) : (tensor<2xf32>) -> tensor<2xf32> loc(#loc[[R:[0-9]+]])
// CHECK: #loc[[R]] = loc("act")
// CHECK-NEXT: // -----
// AGAIN: "qcc.relu"(%arg0) : (tensor<2xf32>) -> tensor<2xf32>{{$}}
// AGAIN: // -----
"func.func"() <{function_type = (tensor<2xf32>) -> tensor<2xf32>, sym_name = "f"}> ({
^bb0(%x: tensor<2xf32> loc("x")):
  %0 = "qcc.relu"(%x) : (tensor<2xf32>) -> tensor<2xf32> loc("act")
  "func.return"(%0) : (tensor<2xf32>) -> ()
}) : () -> ()

// -----

// CHECK: sym_name = "f"
// AGAIN: sym_name = "f"
"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  "func.return"() : () -> ()
}) : () -> ()
