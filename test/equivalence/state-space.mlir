// RUN: qcc opt %s --pass-pipeline='canonicalize,smooth-state,smooth-window,canonicalize' --verify-each --explain 2>&1 | FileCheck %s --check-prefix=SMOOTH
// RUN: qcc opt %s --pass-pipeline='canonicalize,rotate-state,canonicalize' --verify-each --explain 2>&1 | FileCheck %s --check-prefix=ROTATE
// RUN: qcc opt %s --pass-pipeline='canonicalize,rotate-state{axis=channel},canonicalize' --verify-each --explain 2>&1 | FileCheck %s --check-prefix=CHANNEL
// RUN: not qcc opt %s --pass-pipeline='rotate-state{axis=token}' 2>&1 | FileCheck %s --check-prefix=AXIS

// Scales of a state-space block: of the state axis, between the layers that make B and C, and of the convolution's input, between the layer
// before it and its taps. The states that callers hold are converted on their way in and out.

// SMOOTH: remark: smooth-state: `scan`: smooth-state
// SMOOTH: remark: smooth-window: `conv`: smooth-window
// SMOOTH: %[[X:.*]] = "qcc.linear"(%arg0
// SMOOTH: "qcc.causal_conv"(%[[X]]
// SMOOTH-NOT: qcc.hadamard
// SMOOTH: "qcc.selective_scan"

// Transforms of states stand between the scan and its product with C: there the states of all tokens are needed.
// ROTATE: remark: rotate-state: `scan`: rotate-state
// ROTATE: %[[H:.*]]:2 = "qcc.selective_scan_states"
// ROTATE: "qcc.hadamard"(%[[H]]#0) {size = 4 : i64
// CHANNEL: remark: rotate-state: `scan`: rotate-state{axis=channel}
// CHANNEL: "qcc.selective_scan_states"
// CHANNEL: "qcc.hadamard"({{.*}}) {size = 12 : i64
// CHANNEL: "qcc.hadamard"({{.*}}) {size = 12 : i64, transpose = true}
// AXIS: `axis=token`{{.*}}use state or channel
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "5"], qcc.name = "x"}, {qcc.dims = ["B", "12", "3"], qcc.name = "window"}, {qcc.dims = ["B", "12", "4"], qcc.name = "state"}], function_type = (tensor<?x?x5xf32>, tensor<?x12x3xf32>, tensor<?x12x4xf32>) -> (tensor<?x?x12xf32>, tensor<?x12x3xf32>, tensor<?x12x4xf32>), sym_name = "main"}> ({
  ^bb0(%x: tensor<?x?x5xf32>, %window: tensor<?x12x3xf32>, %state: tensor<?x12x4xf32>):
    %w = "qcc.parameter"() {name = "in"} : () -> tensor<12x5xf32>
    %0 = "qcc.linear"(%x, %w) : (tensor<?x?x5xf32>, tensor<12x5xf32>) -> tensor<?x?x12xf32> loc("in")
    %taps = "qcc.parameter"() {name = "taps"} : () -> tensor<12x4xf32>
    %u, %next = "qcc.causal_conv"(%0, %taps, %window) : (tensor<?x?x12xf32>, tensor<12x4xf32>, tensor<?x12x3xf32>) -> (tensor<?x?x12xf32>, tensor<?x12x3xf32>) loc("conv")
    %wt = "qcc.parameter"() {name = "dt"} : () -> tensor<12x5xf32>
    %t = "qcc.linear"(%x, %wt) : (tensor<?x?x5xf32>, tensor<12x5xf32>) -> tensor<?x?x12xf32> loc("dt")
    %dt = "qcc.softplus"(%t) : (tensor<?x?x12xf32>) -> tensor<?x?x12xf32>
    %wb = "qcc.parameter"() {name = "b"} : () -> tensor<4x5xf32>
    %b = "qcc.linear"(%x, %wb) : (tensor<?x?x5xf32>, tensor<4x5xf32>) -> tensor<?x?x4xf32> loc("b")
    %wc = "qcc.parameter"() {name = "c"} : () -> tensor<4x5xf32>
    %c = "qcc.linear"(%x, %wc) : (tensor<?x?x5xf32>, tensor<4x5xf32>) -> tensor<?x?x4xf32> loc("c")
    %log = "qcc.parameter"() {name = "a_log"} : () -> tensor<12x4xf32>
    %exp = "qcc.exp"(%log) : (tensor<12x4xf32>) -> tensor<12x4xf32>
    %a = "qcc.neg"(%exp) : (tensor<12x4xf32>) -> tensor<12x4xf32>
    %d = "qcc.parameter"() {name = "d"} : () -> tensor<12xf32>
    %y, %last = "qcc.selective_scan"(%u, %dt, %a, %b, %c, %d, %state) : (tensor<?x?x12xf32>, tensor<?x?x12xf32>, tensor<12x4xf32>, tensor<?x?x4xf32>, tensor<?x?x4xf32>, tensor<12xf32>, tensor<?x12x4xf32>) -> (tensor<?x?x12xf32>, tensor<?x12x4xf32>) loc("scan")
    "func.return"(%y, %next, %last) : (tensor<?x?x12xf32>, tensor<?x12x3xf32>, tensor<?x12x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
