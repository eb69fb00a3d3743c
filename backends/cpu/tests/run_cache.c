/* Reads a sequence in pieces, up to a limit, with the artifact of test/codegen/attention.mlir. */
#include "model.h"
#include <stdio.h>

static float q[8 * 6 * 20], k[8 * 2 * 20], v[8 * 2 * 18], y[3][8 * 6 * 18];

static void piece(qcc_state *state, int64_t tokens) {
    int64_t q_shape[4] = {1, tokens, 6, 20}, k_shape[4] = {1, tokens, 2, 20}, v_shape[4] = {1, tokens, 2, 18};
    size_t n = (size_t)tokens * sizeof(float);
    qcc_tensor inputs[3] = {
        {q, q_shape, 4, QCC_F32, n * 120}, {k, k_shape, 4, QCC_F32, n * 40}, {v, v_shape, 4, QCC_F32, n * 36}};
    qcc_tensor outputs[3];
    for (int i = 0; i < 3; i++) outputs[i] = (qcc_tensor){y[i], NULL, 0, QCC_F32, sizeof y[i]};
    int failed = qcc_run(state, "main", inputs, 3, outputs, 3) != 0;
    printf("%lld: %s, %lld held\n", (long long)tokens, failed ? qcc_last_error() : "read", (long long)qcc_state_tokens(state));
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    qcc_model *model = qcc_model_open(argv[1]);
    qcc_state *state = model ? qcc_state_new(model, 1) : NULL;
    if (!state) return printf("%s\n", qcc_last_error()), 1;
    qcc_state_reserve(state, 5);
    qcc_state_limit(state, 5);
    piece(state, 4);
    piece(state, 2);
    piece(state, 1);
    qcc_state_limit(state, 8);
    piece(state, 2);
    qcc_state_reset(state);
    piece(state, 8);
    if (qcc_state_limit(state, -1) != 0) printf("%s\n", qcc_last_error());
    if (qcc_state_tokens(NULL) != -1 || qcc_state_reserve(NULL, 1) != -1) return 1;
    qcc_state_free(state);
    qcc_model_close(model);
    return 0;
}
