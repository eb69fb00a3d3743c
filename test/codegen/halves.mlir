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
  // What is multiplied in pairs is a result too.
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "72"]}], function_type = (tensor<?x72xf32>) -> (tensor<?x40xf32>, tensor<?x72xbf16>), sym_name = "kept"}> ({
  ^bb0(%x: tensor<?x72xf32>):
    %p = "qcc.parameter"() {name = "pairs"} : () -> tensor<40x72xbf16>
    %w = "qcc.cast"(%p) {to = f32} : (tensor<40x72xbf16>) -> tensor<40x72xf32>
    %n = "qcc.cast"(%x) {to = bf16} : (tensor<?x72xf32>) -> tensor<?x72xbf16>
    %f = "qcc.cast"(%n) {to = f32} : (tensor<?x72xbf16>) -> tensor<?x72xf32>
    %y = "qcc.linear"(%f, %w) : (tensor<?x72xf32>, tensor<40x72xf32>) -> tensor<?x40xf32>
    "func.return"(%y, %n) : (tensor<?x40xf32>, tensor<?x72xbf16>) -> ()
  }) : () -> ()
  // What is read besides is widened.
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "72"]}], function_type = (tensor<?x72xf32>) -> (tensor<?x40xf32>, tensor<?x72xf32>, tensor<?x30xf32>), sym_name = "shared"}> ({
  ^bb0(%x: tensor<?x72xf32>):
    %p = "qcc.parameter"() {name = "pairs"} : () -> tensor<40x72xbf16>
    %w = "qcc.cast"(%p) {to = f32} : (tensor<40x72xbf16>) -> tensor<40x72xf32>
    %v = "qcc.parameter"() {name = "wide"} : () -> tensor<30x72xf32>
    %n = "qcc.cast"(%x) {to = bf16} : (tensor<?x72xf32>) -> tensor<?x72xbf16>
    %f = "qcc.cast"(%n) {to = f32} : (tensor<?x72xbf16>) -> tensor<?x72xf32>
    %y = "qcc.linear"(%f, %w) : (tensor<?x72xf32>, tensor<40x72xf32>) -> tensor<?x40xf32>
    %e = "qcc.exp"(%f) : (tensor<?x72xf32>) -> tensor<?x72xf32>
    %z = "qcc.linear"(%f, %v) : (tensor<?x72xf32>, tensor<30x72xf32>) -> tensor<?x30xf32>
    "func.return"(%y, %e, %z) : (tensor<?x40xf32>, tensor<?x72xf32>, tensor<?x30xf32>) -> ()
  }) : () -> ()
}) : () -> ()
