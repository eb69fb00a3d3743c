// RUN: qcc opt %s --pass-pipeline='canonicalize,shift,canonicalize' --verify-each --explain 2>&1 | FileCheck %s

// Features between two layers move to the middle of their range: one layer's bias moves them there, the other's takes that back.

// CHECK: remark: shift: `first`: as it is
// CHECK-NEXT: remark: shift: `second`: shift, taken up by first
// CHECK-NEXT: remark: shift: `first`: no shift: it reads neither a normalisation nor a linear layer; only a linear layer takes it up
// CHECK-NOT: remark
// CHECK: %[[Y:.*]] = "qcc.linear"(%arg0, %{{.*}}, %{{.*}})
// CHECK: "qcc.linear"(%[[Y]], %{{.*}}, %{{.*}})
// CHECK-NEXT: "func.return"
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "4"], qcc.name = "x"}], function_type = (tensor<?x4xf32>) -> tensor<?x4xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?x4xf32>):
    %w = "qcc.parameter"() {name = "first.weight"} : () -> tensor<8x4xf32>
    %0 = "qcc.linear"(%x, %w) : (tensor<?x4xf32>, tensor<8x4xf32>) -> tensor<?x8xf32> loc("first")
    %u = "qcc.parameter"() {name = "second.weight"} : () -> tensor<4x8xf32>
    %1 = "qcc.linear"(%0, %u) : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32> loc("second")
    "func.return"(%1) : (tensor<?x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
