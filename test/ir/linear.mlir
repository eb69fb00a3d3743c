// RUN: qcc opt %s | FileCheck %s

// A symbolic batch keeps its name through the type rules: arguments say it in `qcc.dims`, results print `?`.

// CHECK: "func.func"() <{arg_attrs = [{qcc.dims = ["B", "16"], qcc.name = "x"}], function_type = (tensor<?x16xf32>) -> tensor<?x4xf32>, res_attrs = [{qcc.name = "y"}], sym_name = "main"}> ({
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "16"], qcc.name = "x"}], function_type = (tensor<?x16xf32>) -> tensor<?x4xf32>, res_attrs = [{qcc.name = "y"}], sym_name = "main"}> ({
  ^bb0(%arg0: tensor<?x16xf32>):
    // CHECK: %[[W:.*]] = "qcc.parameter"() {name = "model::up.weight"} : () -> tensor<8x16xf32>
    %0 = "qcc.parameter"() {name = "model::up.weight"} : () -> tensor<8x16xf32> loc("up.weight")
    %1 = "qcc.parameter"() {name = "model::up.bias"} : () -> tensor<8xf32> loc("up.bias")
    // CHECK: "qcc.linear"(%arg0, %[[W]], %{{.*}}) : (tensor<?x16xf32>, tensor<8x16xf32>, tensor<8xf32>) -> tensor<?x8xf32>
    %2 = "qcc.linear"(%arg0, %0, %1) : (tensor<?x16xf32>, tensor<8x16xf32>, tensor<8xf32>) -> tensor<?x8xf32> loc("up")
    %3 = "qcc.relu"(%2) : (tensor<?x8xf32>) -> tensor<?x8xf32> loc("act")
    %4 = "qcc.parameter"() {name = "model::down.weight"} : () -> tensor<4x8xf32> loc("down.weight")
    // CHECK: "qcc.linear"(%{{.*}}, %{{.*}}) : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32>
    %5 = "qcc.linear"(%3, %4) : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32> loc("down")
    "func.return"(%5) : (tensor<?x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
