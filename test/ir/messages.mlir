// RUN: not qcc opt %s 2>&1 | FileCheck %s

// Messages say file, line and column, and point there. Nothing is written to standard output.

// CHECK-NOT: builtin.module
// CHECK: messages.mlir:[[@LINE+5]]:8: error: `qcc.softmax`: axis 7 is outside a tensor of rank 1
// CHECK-NEXT: %1 = "qcc.softmax"
// CHECK-NEXT: {{^}} ^
"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<3xf32>
  %1 = "qcc.softmax"(%0) {axis = 7 : i64} : (tensor<3xf32>) -> tensor<3xf32>
  "func.return"() : () -> ()
}) : () -> ()
// CHECK-NOT: error
