"""llama.cpp on random weights of a model's sizes, by way of llama-cpp-python."""

import time

SIZES = {
    "tinyllama-1.1b": dict(kind="llama", hidden=2048, inner=5632, layers=22, heads=32, shared=4, features=64, vocabulary=32000),
    "mamba-1.4b": dict(kind="mamba", hidden=2048, inner=4096, layers=48, states=16, taps=4, rank=128, vocabulary=50280),
}


class Model:
    """A GGUF file of random weights, Q4_0 with a Q6_K head or all in Q8_0, written where there is none yet."""

    def __init__(self, folder, config, kind):
        self.sizes, self.kind = SIZES[config], kind
        self.path = folder / f"{config}.{kind}.gguf"
        if not self.path.exists():
            self.write()
        s = self.sizes
        # The embedding table is looked up, not read.
        self.weights = self.path.stat().st_size - s["vocabulary"] * s["hidden"] * {"Q4_0": 18, "Q8_0": 34}[kind] // 32
        self.cache_per_token = self.kept = 0
        if s["kind"] == "llama":
            # An f16 cache.
            self.cache_per_token = 2 * 2 * s["layers"] * s["shared"] * s["features"]
        else:
            # f32 states, read and written.
            self.kept = 2 * 4 * s["layers"] * s["inner"] * (s["states"] + s["taps"] - 1)

    def bytes_per_token(self, held):
        return self.weights + self.kept + self.cache_per_token * held

    def speed(self, context, generated, threads):
        """Prefill and decode in tokens a second."""
        import llama_cpp

        model = llama_cpp.Llama(
            str(self.path), n_ctx=context + generated + 8, n_threads=threads, n_threads_batch=threads, n_batch=512, verbose=False
        )
        prompt = [i * 7919 % self.sizes["vocabulary"] for i in range(context)]
        model.eval(prompt[:16])
        model.reset()
        start = time.perf_counter()
        model.eval(prompt)
        read = time.perf_counter() - start
        start = time.perf_counter()
        for i in range(generated):
            model.eval([i * 7919 % self.sizes["vocabulary"]])
        return context / read, generated / (time.perf_counter() - start)

    def write(self):
        import gguf
        import numpy as np

        rng, s = np.random.default_rng(7), self.sizes
        kinds = gguf.GGMLQuantizationType
        body, head = (kinds.Q4_0, kinds.Q6_K) if self.kind == "Q4_0" else (kinds.Q8_0, kinds.Q8_0)
        writer = gguf.GGUFWriter(str(self.path), s["kind"])
        writer.add_context_length(8192)
        writer.add_embedding_length(s["hidden"])
        writer.add_block_count(s["layers"])
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_vocab_size(s["vocabulary"])
        writer.add_tokenizer_model("llama")
        tokens = [f"<{i}>".encode() for i in range(s["vocabulary"])]
        writer.add_token_list(tokens)
        writer.add_token_scores([0.0] * len(tokens))
        writer.add_token_types([1] * len(tokens))

        def quantized(name, rows, columns, kind=body):
            block, size = gguf.GGML_QUANT_SIZES[kind]
            blocks = rng.integers(0, 256, (rows, columns // block, size), dtype=np.uint8)
            # Scales are halves, the first two bytes of a block, of Q6_K the last two.
            scale = np.array(0.0005 if kind == kinds.Q6_K else 0.002, np.float16).reshape(1).view(np.uint8)
            blocks[:, :, slice(-2, None) if kind == kinds.Q6_K else slice(0, 2)] = scale
            writer.add_tensor(name, blocks.reshape(rows, -1), raw_dtype=kind)

        def floats(name, *shape, value=1.0):
            writer.add_tensor(name, np.full(shape, value, np.float32))

        quantized("token_embd.weight", s["vocabulary"], s["hidden"])
        quantized("output.weight", s["vocabulary"], s["hidden"], head)
        floats("output_norm.weight", s["hidden"])
        {"llama": attention, "mamba": selective_scan}[s["kind"]](writer, s, quantized, floats)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def attention(writer, s, quantized, floats):
    writer.add_feed_forward_length(s["inner"])
    writer.add_head_count(s["heads"])
    writer.add_head_count_kv(s["shared"])
    writer.add_rope_dimension_count(s["features"])
    writer.add_rope_freq_base(10000.0)
    keys = s["shared"] * s["features"]
    for layer in range(s["layers"]):
        block = f"blk.{layer}"
        floats(f"{block}.attn_norm.weight", s["hidden"])
        floats(f"{block}.ffn_norm.weight", s["hidden"])
        quantized(f"{block}.attn_q.weight", s["hidden"], s["hidden"])
        quantized(f"{block}.attn_k.weight", keys, s["hidden"])
        quantized(f"{block}.attn_v.weight", keys, s["hidden"])
        quantized(f"{block}.attn_output.weight", s["hidden"], s["hidden"])
        quantized(f"{block}.ffn_gate.weight", s["inner"], s["hidden"])
        quantized(f"{block}.ffn_up.weight", s["inner"], s["hidden"])
        quantized(f"{block}.ffn_down.weight", s["hidden"], s["inner"])


def selective_scan(writer, s, quantized, floats):
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(s["taps"])
    writer.add_ssm_inner_size(s["inner"])
    writer.add_ssm_state_size(s["states"])
    writer.add_ssm_time_step_rank(s["rank"])
    for layer in range(s["layers"]):
        block = f"blk.{layer}"
        floats(f"{block}.attn_norm.weight", s["hidden"])
        quantized(f"{block}.ssm_in.weight", 2 * s["inner"], s["hidden"])
        floats(f"{block}.ssm_conv1d.weight", s["inner"], s["taps"], value=0.1)
        floats(f"{block}.ssm_conv1d.bias", s["inner"], value=0.0)
        quantized(f"{block}.ssm_x.weight", s["rank"] + 2 * s["states"], s["inner"])
        quantized(f"{block}.ssm_dt.weight", s["inner"], s["rank"])
        floats(f"{block}.ssm_dt.bias", s["inner"], value=-4.0)
        floats(f"{block}.ssm_a", s["inner"], s["states"], value=-1.0)
        floats(f"{block}.ssm_d", s["inner"])
        quantized(f"{block}.ssm_out.weight", s["hidden"], s["inner"])
