// RUN: qcc opt %s --pass-pipeline='quantize{weights=bf16 activations=f16},canonicalize,lower-quantized,canonicalize' | FileCheck %s

// Weights are stored in bf16 and widened where the layer reads them, which its kernel does; activations are held to the range of f16, rounded
// and widened.

// CHECK: %[[HELD:.*]] = "qcc.clamp"(%arg0) {max = 6.550400e+04 : f64, min = -6.550400e+04 : f64}
// CHECK: %[[X:.*]] = "qcc.cast"(%[[HELD]]){{.*}}-> tensor<?x8xf16>
// CHECK: %[[Y:.*]] = "qcc.cast"(%[[X]]){{.*}}-> tensor<?x8xf32>
// CHECK: %[[W:.*]] = "qcc.parameter"() {name = "w.clamp.cast"} : () -> tensor<8x8xbf16>
// CHECK: %[[WIDE:.*]] = "qcc.cast"(%[[W]]){{.*}}-> tensor<8x8xf32>
// CHECK: "qcc.linear"(%[[Y]], %[[WIDE]])
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "8"]}], function_type = (tensor<?x8xf32>) -> tensor<?x8xf32>, sym_name = "main"}> ({
  ^bb0(%arg0: tensor<?x8xf32>):
    %0 = "qcc.parameter"() {name = "w"} : () -> tensor<8x8xf32>
    %1 = "qcc.linear"(%arg0, %0) : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
    "func.return"(%1) : (tensor<?x8xf32>) -> ()
  }) : () -> ()
}) : () -> ()
