// RUN: qcc opt %s --pass-pipeline='canonicalize,permute{weights=int4:block=8 activations=int8:token:dynamic},canonicalize' --verify-each --explain 2>&1 | FileCheck %s
// RUN: qcc opt %s --pass-pipeline='canonicalize,permute{weights=int8:channel},canonicalize' --explain 2>&1 | FileCheck %s --check-prefix=CHANNEL

// Features that share a scale are sorted to be alike: a ReLU lets the order pass into the rows of the layer before, with its bias. Where no
// features share a scale, or all of them do, nothing is sorted.

// CHECK: remark: permute: `first`: as it is
// CHECK-NEXT: remark: permute: `second`: permute, taken up by first
// CHECK-NEXT: remark: permute: `first`: no permute: its error would be
// CHECK: %[[Y:.*]] = "qcc.linear"(%arg0, %{{.*}}, %{{.*}})
// CHECK-NEXT: %[[R:.*]] = "qcc.relu"(%[[Y]])
// CHECK: "qcc.linear"(%[[R]], %{{.*}})
// CHECK-NEXT: "func.return"
// CHANNEL: remark: permute: `second`: as it is
// CHANNEL: remark: permute: `second`: no permute: no features share a scale in these formats: use blocks
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "4"], qcc.name = "x"}], function_type = (tensor<?x4xf32>) -> tensor<?x1xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?x4xf32>):
    %w = "qcc.parameter"() {name = "first.weight"} : () -> tensor<64x4xf32>
    %b = "qcc.parameter"() {name = "first.bias"} : () -> tensor<64xf32>
    %0 = "qcc.linear"(%x, %w, %b) : (tensor<?x4xf32>, tensor<64x4xf32>, tensor<64xf32>) -> tensor<?x64xf32> loc("first")
    %1 = "qcc.relu"(%0) : (tensor<?x64xf32>) -> tensor<?x64xf32>
    %u = "qcc.parameter"() {name = "second.weight"} : () -> tensor<1x64xf32>
    %2 = "qcc.linear"(%1, %u) : (tensor<?x64xf32>, tensor<1x64xf32>) -> tensor<?x1xf32> loc("second")
    "func.return"(%2) : (tensor<?x1xf32>) -> ()
  }) : () -> ()
}) : () -> ()
