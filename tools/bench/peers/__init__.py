"""Other programs that run the same models, for `tools/bench/compare`. Each is imported only when it is asked for."""
