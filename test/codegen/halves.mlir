// Weights and activations in bf16: layers of one input multiply pairs of them. An odd depth. Halves of other kinds are
// widened to f32.
// PIPELINE:
// PIPELINE: quantize{weights=bf16 activations=bf16},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=bf16 activations=f16},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=f16 activations=bf16},canonicalize,lower-quantized,canonicalize
// PIPELINE: quantize{weights=bf16},canonicalize,lower-quantized,canonicalize
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "71"]}], function_type = (tensor<?x?x71xf32>) -> (tensor<?x?x33xf32>, tensor<?x?x70xf32>), sym_name = "two"}> ({
  ^bb0(%x: tensor<?x?x71xf32>):
    %0 = "qcc.silu"(%x) : (tensor<?x?x71xf32>) -> tensor<?x?x71xf32>
    %v = "qcc.parameter"() {name = "gate"} : () -> tensor<33x71xf32>
    %b = "qcc.parameter"() {name = "gate.bias"} : () -> tensor<33xf32>
    %1 = "qcc.linear"(%0, %v, %b) : (tensor<?x?x71xf32>, tensor<33x71xf32>, tensor<33xf32>) -> tensor<?x?x33xf32>
    %w = "qcc.parameter"() {name = "up"} : () -> tensor<70x71xf32>
    %2 = "qcc.linear"(%0, %w) : (tensor<?x?x71xf32>, tensor<70x71xf32>) -> tensor<?x?x70xf32>
    "func.return"(%1, %2) : (tensor<?x?x33xf32>, tensor<?x?x70xf32>) -> ()
  }) : () -> ()
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "64"]}], function_type = (tensor<?x?x64xf32>) -> tensor<?x?x48xf32>, sym_name = "one"}> ({
  ^bb0(%x: tensor<?x?x64xf32>):
    %w = "qcc.parameter"() {name = "w"} : () -> tensor<48x64xf32>
    %0 = "qcc.linear"(%x, %w) : (tensor<?x?x64xf32>, tensor<48x64xf32>) -> tensor<?x?x48xf32>
    %1 = "qcc.relu"(%0) : (tensor<?x?x48xf32>) -> tensor<?x?x48xf32>
    "func.return"(%1) : (tensor<?x?x48xf32>) -> ()
  }) : () -> ()
}) : () -> ()
