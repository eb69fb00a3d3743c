// Comparisons and choices, and attention that a mask hides keys from: padding of each sequence, tokens that are far apart, and slopes of
// each head. A sequence all of whose tokens are hidden yields zeros. Another sequence, longer or shorter, is attended to as well.
// PIPELINE:
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "4", "20"], qcc.name = "q"}, {qcc.dims = ["B", "T", "2", "20"], qcc.name = "k"}, {qcc.dims = ["B", "T", "2", "18"], qcc.name = "v"}, {qcc.dims = ["B", "T"], qcc.name = "padding"}, {qcc.dims = ["B", "P", "2", "20"], qcc.name = "others"}], function_type = (tensor<?x?x4x20xf32>, tensor<?x?x2x20xf32>, tensor<?x?x2x18xf32>, tensor<?x?xi64>, tensor<?x?x2x20xf32>) -> (tensor<?x?x4x20xf32>, tensor<?x?x4x18xf32>, tensor<?x?x4x18xf32>, tensor<?x?x4x18xf32>, tensor<?x?x4x20xi1>, tensor<?x?x4x20xf32>, tensor<?x?x4x20xf32>, tensor<?xi64>), sym_name = "main"}> ({
  ^bb0(%q: tensor<?x?x4x20xf32>, %k: tensor<?x?x2x20xf32>, %v: tensor<?x?x2x18xf32>, %padding: tensor<?x?xi64>, %others: tensor<?x?x2x20xf32>):
    %crossed = "qcc.attention"(%q, %others, %others) {scale = 0.5, causal = false, window = 0} : (tensor<?x?x4x20xf32>, tensor<?x?x2x20xf32>, tensor<?x?x2x20xf32>) -> tensor<?x?x4x20xf32>
    %zero = "qcc.constant"() {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %reach = "qcc.constant"() {value = dense<2> : tensor<i64>} : () -> tensor<i64>
    %nothing = "qcc.constant"() {value = dense<0.0> : tensor<f32>} : () -> tensor<f32>
    %never = "qcc.constant"() {value = dense<0xFF800000> : tensor<f32>} : () -> tensor<f32>
    %least = "qcc.constant"() {value = dense<-3.40282347E+38> : tensor<f32>} : () -> tensor<f32>
    %hidden = "qcc.equal"(%padding, %zero) : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi1>
    %rows = "qcc.reshape"(%hidden) {shape = ["B", "1", "1", "T"]} : (tensor<?x?xi1>) -> tensor<?x1x1x?xi1>
    %unseen = "qcc.select"(%rows, %never, %nothing) : (tensor<?x1x1x?xi1>, tensor<f32>, tensor<f32>) -> tensor<?x1x1x?xf32>
    %0 = "qcc.attention"(%q, %k, %v, %unseen) {scale = 0.5, causal = false, window = 0} : (tensor<?x?x4x20xf32>, tensor<?x?x2x20xf32>, tensor<?x?x2x18xf32>, tensor<?x1x1x?xf32>) -> tensor<?x?x4x18xf32>
    %count = "qcc.iota"() {size = "T"} : () -> tensor<?xi64>
    %from = "qcc.reshape"(%count) {shape = ["T", "1"]} : (tensor<?xi64>) -> tensor<?x1xi64>
    %between = "qcc.sub"(%from, %count) : (tensor<?x1xi64>, tensor<?xi64>) -> tensor<?x?xi64>
    %far = "qcc.abs"(%between) : (tensor<?x?xi64>) -> tensor<?x?xi64>
    %near = "qcc.less_or_equal"(%far, %reach) : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi1>
    %all = "qcc.reshape"(%near) {shape = ["1", "1", "T", "T"]} : (tensor<?x?xi1>) -> tensor<1x1x?x?xi1>
    %local = "qcc.select"(%all, %nothing, %least) : (tensor<1x1x?x?xi1>, tensor<f32>, tensor<f32>) -> tensor<1x1x?x?xf32>
    %1 = "qcc.attention"(%q, %k, %v, %local) {scale = 0.5, causal = true, window = 0} : (tensor<?x?x4x20xf32>, tensor<?x?x2x20xf32>, tensor<?x?x2x18xf32>, tensor<1x1x?x?xf32>) -> tensor<?x?x4x18xf32>
    %slopes = "qcc.parameter"() {name = "slopes"} : () -> tensor<1x4x1x1xf32>
    %distance = "qcc.cast"(%far) {to = f32} : (tensor<?x?xi64>) -> tensor<?x?xf32>
    %alibi = "qcc.mul"(%slopes, %distance) : (tensor<1x4x1x1xf32>, tensor<?x?xf32>) -> tensor<1x4x?x?xf32>
    %both = "qcc.add"(%alibi, %unseen) : (tensor<1x4x?x?xf32>, tensor<?x1x1x?xf32>) -> tensor<?x4x?x?xf32>
    %2 = "qcc.attention"(%q, %k, %v, %both) {scale = 0.5, causal = false, window = 3} : (tensor<?x?x4x20xf32>, tensor<?x?x2x20xf32>, tensor<?x?x2x18xf32>, tensor<?x4x?x?xf32>) -> tensor<?x?x4x18xf32>
    %negative = "qcc.less"(%q, %nothing) : (tensor<?x?x4x20xf32>, tensor<f32>) -> tensor<?x?x4x20xi1>
    %sin = "qcc.sin"(%q) : (tensor<?x?x4x20xf32>) -> tensor<?x?x4x20xf32>
    %cos = "qcc.cos"(%q) : (tensor<?x?x4x20xf32>) -> tensor<?x?x4x20xf32>
    %chosen = "qcc.select"(%negative, %sin, %cos) : (tensor<?x?x4x20xi1>, tensor<?x?x4x20xf32>, tensor<?x?x4x20xf32>) -> tensor<?x?x4x20xf32>
    %equal = "qcc.equal"(%q, %q) : (tensor<?x?x4x20xf32>, tensor<?x?x4x20xf32>) -> tensor<?x?x4x20xi1>
    %same = "qcc.cast"(%equal) {to = f32} : (tensor<?x?x4x20xi1>) -> tensor<?x?x4x20xf32>
    "func.return"(%crossed, %0, %1, %2, %negative, %chosen, %same, %count) : (tensor<?x?x4x20xf32>, tensor<?x?x4x18xf32>, tensor<?x?x4x18xf32>, tensor<?x?x4x18xf32>, tensor<?x?x4x20xi1>, tensor<?x?x4x20xf32>, tensor<?x?x4x20xf32>, tensor<?xi64>) -> ()
  }) : () -> ()
}) : () -> ()
