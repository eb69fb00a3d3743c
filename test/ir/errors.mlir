// RUN: qcc opt %s --split-input-file --verify-diagnostics

// What the parser and the verifier refuse, each with the place and what to do.

// Names are looked up, and near ones offered.
"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<2x3xf32>
  // expected-error@+1 {{unknown operation `qcc.sofmax`; did you mean `softmax`?}}
  %1 = "qcc.sofmax"(%0) {axis = 0 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<2x3xf32>
  // expected-error@+1 {{`qcc.softmax` has no attribute `axes`; did you mean `axis`?; annotations are called `qcc.…`}}
  %1 = "qcc.softmax"(%0) {axis = 0 : i64, axes = 1 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<2x3xf32>
  // expected-error@+1 {{`qcc.softmax` needs the attribute `axis` (an `i64` integer)}}
  %1 = "qcc.softmax"(%0) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<2x3xf32>
  // expected-error@+1 {{attribute `axis` of `qcc.softmax` must be an `i64` integer}}
  %1 = "qcc.softmax"(%0) {axis = "0"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----

// Several wrong operations are all reported; users of a wrong one are not blamed.
"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<2x3xf32>
  // expected-error@+1 {{axis 2 is outside a tensor of rank 2}}
  %1 = "qcc.softmax"(%0) {axis = 2 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %2 = "qcc.relu"(%1) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@+1 {{the result must be tensor<2x3xf32>, but tensor<3x2xf32> is declared}}
  %3 = "qcc.relu"(%0) : (tensor<2x3xf32>) -> tensor<3x2xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----

// Values.
"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{`%0` is used before its definition}}
  %1 = "qcc.relu"(%0) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<2x3xf32>
  // expected-error@+1 {{`%0` is defined twice}}
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<2x3xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<2x3xf32>
  // expected-error@+1 {{`%0` has no result 1}}
  %1 = "qcc.relu"(%0#1) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<2x3xf32>
  // expected-error@+1 {{`%0` has type tensor<2x3xf32>, not tensor<2x4xf32>}}
  %1 = "qcc.relu"(%0) : (tensor<2x4xf32>) -> tensor<2x4xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<2x3xf32>
  // expected-error@+1 {{`qcc.add` takes at least 2 operands, got 1}}
  %1 = "qcc.add"(%0) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<2x3xf32>
  // expected-error@+1 {{`%1` names more results than the operation has}}
  %1:2 = "qcc.relu"(%0) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<2x3xf32>
  // expected-error@+1 {{takes no `operandSegmentSizes`}}
  %1 = "qcc.relu"(%0) {operandSegmentSizes = array<i32: 1>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----

// Parameters have one type, everywhere.
"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<2x3xf32>
  // expected-note@-1 {{first declared here}}
  // expected-error@+1 {{the parameter `w` is tensor<3xf32> here and tensor<2x3xf32> elsewhere}}
  %1 = "qcc.parameter"() {name = "w"} : () -> tensor<3xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{a parameter has constant sizes}}
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<?xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----

// A state keeps its type.
// expected-error@+1 {{the state `s` is tensor<[2] x f32> but becomes tensor<[3] x f32>}}
"func.func"() <{arg_attrs = [{qcc.name = "s"}], function_type = (tensor<2xf32>) -> tensor<3xf32>, sym_name = "f"}> ({
^bb0(%0: tensor<2xf32>):
  %1 = "qcc.parameter"() {name = "w"} : () -> tensor<3xf32>
  "func.return"(%1) : (tensor<3xf32>) -> ()
}) {qcc.states = array<i64: 0, 0>} : () -> ()

// -----

// It grows along an axis whose size is a symbol, but not by an amount of that symbol.
// expected-error@+1 {{the state `s` is tensor<[P] x f32> but becomes tensor<[2*P] x f32>}}
"func.func"() <{arg_attrs = [{qcc.dims = ["P"], qcc.name = "s"}], function_type = (tensor<?xf32>) -> tensor<?xf32>, sym_name = "f"}> ({
^bb0(%0: tensor<?xf32>):
  %1 = "qcc.concat"(%0, %0) {axis = 0} : (tensor<?xf32>, tensor<?xf32>) -> tensor<?xf32>
  "func.return"(%1) : (tensor<?xf32>) -> ()
}) {qcc.states = array<i64: 0, 0>} : () -> ()

// -----

// It does not shrink.
// expected-error@+1 {{the state `s` is tensor<[P + T] x f32> but becomes tensor<[P] x f32>}}
"func.func"() <{arg_attrs = [{qcc.dims = ["P + T"], qcc.name = "s"}, {qcc.dims = ["P"]}], function_type = (tensor<?xf32>, tensor<?xf32>) -> tensor<?xf32>, sym_name = "f"}> ({
^bb0(%0: tensor<?xf32>, %1: tensor<?xf32>):
  "func.return"(%1) : (tensor<?xf32>) -> ()
}) {qcc.states = array<i64: 0, 0>} : () -> ()

// -----


// expected-error@+1 {{the state binding of argument 1 to result 0 leaves the 0 arguments and 0 results}}
"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  "func.return"() : () -> ()
}) {qcc.states = array<i64: 1, 0>} : () -> ()

// -----

// Dynamic sizes have names.
"func.func"() <{function_type = (tensor<?xf32>) -> (), sym_name = "f"}> ({
// expected-error@+1 {{the argument has a dynamic size; name its sizes in `arg_attrs`}}
^bb0(%0: tensor<?xf32>):
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{arg_attrs = [{qcc.dims = ["B", "4"]}], function_type = (tensor<?xf32>) -> (), sym_name = "f"}> ({
// expected-error@+1 {{`qcc.dims` says [B, 4], the type tensor<?xf32>}}
^bb0(%0: tensor<?xf32>):
  "func.return"() : () -> ()
}) : () -> ()

// -----

// Quantized types.
"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{lie along axis 2, which it does not have}}
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<4x4x!qcc.q<i4, {axis = 2 : i64}, f16, none>>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{a zero point has the type of the storage, or is `none`}}
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<4x4x!qcc.q<ui4, {}, f16, i4>>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{there is no element `e5m4`}}
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<4x4x!qcc.q<!qcc.element<"e5m4">, {}, f16, none>>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{expected a storage type: i2 to i8}}
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<4x4x!qcc.q<i9, {}, f16, none>>
  "func.return"() : () -> ()
}) : () -> ()

// -----

// Sizes and constants have limits.
"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{a size is larger than}}
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<99999999999999999999xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{make it a parameter}}
  %0 = "qcc.constant"() {value = dense<1.0> : tensor<1048577xf32>} : () -> tensor<1048577xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{`1.0e99` is not an element of type f32}}
  %0 = "qcc.constant"() {value = dense<1.0e99> : tensor<f32>} : () -> tensor<f32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{a list of sizes [2] does not fit tensor<3xf32>}}
  %0 = "qcc.constant"() {value = dense<[1.0, 2.0]> : tensor<3xf32>} : () -> tensor<3xf32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{a list of 1 among lists of 2}}
  %0 = "qcc.constant"() {value = dense<[[1, 2], [3]]> : tensor<2x2xi64>} : () -> tensor<2x2xi64>
  "func.return"() : () -> ()
}) : () -> ()

// -----

// Functions.
// expected-error@+1 {{the function has no `sym_name`}}
"func.func"() <{function_type = () -> ()}> ({
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  "func.return"() : () -> ()
}) : () -> ()
// expected-error@+1 {{there are two functions `f`}}
"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{`arith.addf` is not an operation of the dialect `qcc`}}
  %0 = "arith.addf"() : () -> tensor<f32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


// expected-error@+1 {{the function returns 0 values, its type says 1}}
"func.func"() <{function_type = () -> tensor<f32>, sym_name = "f"}> ({
  "func.return"() : () -> ()
}) : () -> ()

// -----


"builtin.module"() ({
// expected-error@+1 {{a module holds only `"func.func"`}}
"qcc.add"() : () -> ()
}) : () -> ()

// -----

// Text that ends, characters and strings that are none, nesting without end.
"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
// expected-error@+2 {{but the text ends}}

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{unexpected character ';'}}
  ;
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{the string has no closing `"`}}
  "qcc.relu
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{nested more than 64 deep}}
  %0 = "qcc.parameter"() {name = "w", qcc.a = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]} : () -> tensor<f32>
  "func.return"() : () -> ()
}) : () -> ()

// -----


"func.func"() <{function_type = () -> (), sym_name = "f"}> ({
  // expected-error@+1 {{the location alias `#loc7` is not defined}}
  %0 = "qcc.parameter"() {name = "w"} : () -> tensor<f32> loc(#loc7)
  "func.return"() : () -> ()
}) : () -> ()
