/* A C program that uses a compiled model; prints what c_program.rs expects. */
#include "model.h"
#include <stdio.h>
#include <string.h>

static float x[64], y[64];

static int run(qcc_state *state, int64_t batch) {
    int64_t x_shape[2] = {batch, 4}, y_shape[2] = {0, 0};
    qcc_tensor input = {x, x_shape, 2, QCC_F32, (size_t)batch * 16};
    qcc_tensor output = {y, y_shape, 2, QCC_F32, sizeof y};
    if (qcc_run(state, "step", &input, 1, &output, 1) != 0) return printf("error: %s\n", qcc_last_error()), -1;
    printf("y %lld x %lld, %zu bytes:", (long long)y_shape[0], (long long)y_shape[1], output.bytes);
    for (size_t i = 0; i < output.bytes / sizeof *y; i++) printf(" %g", y[i]);
    printf("\n");
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    qcc_model *model = qcc_model_open(argv[1]);
    if (!model) return printf("refused: %s\n", qcc_last_error()), 1;
    printf("abi %d, %d entries, %s: %s(%s %d, %d x %d) -> %s\n", qcc_abi_version() == QCC_ABI_VERSION, qcc_entry_count(model),
           qcc_entry_name(model, 0), qcc_input_name(model, "step", 0), qcc_input_symbol(model, "step", 0, 0),
           qcc_input_element(model, "step", 0), (int)qcc_input_dim(model, "step", 0, 0), (int)qcc_input_dim(model, "step", 0, 1),
           qcc_output_name(model, "step", 0));
    qcc_state *state = qcc_state_new(model, 2);
    if (!state) return printf("no state: %s\n", qcc_last_error()), 1;
    qcc_model_close(model);
    for (int i = 0; i < 64; i++) x[i] = (float)i;
    run(state, 2);
    run(state, 2);
    qcc_state_reset(state);
    run(state, 2);
    run(state, 1);

    int64_t shape[2] = {2, 5};
    qcc_tensor wrong = {x, shape, 2, QCC_F32, 40}, output = {y, NULL, 0, QCC_F32, sizeof y};
    if (qcc_run(state, "step", &wrong, 1, &output, 1) < 0) printf("error: %s\n", qcc_last_error());
    shape[1] = 4, wrong.bytes = 32, wrong.element = QCC_I32;
    if (qcc_run(state, "step", &wrong, 1, &output, 1) < 0) printf("error: %s\n", qcc_last_error());
    wrong.element = QCC_F32, output.data = x;
    if (qcc_run(state, "step", &wrong, 1, &output, 1) < 0) printf("error: %s\n", qcc_last_error());
    if (qcc_run(state, "walk", &wrong, 1, &output, 1) < 0) printf("error: %s\n", qcc_last_error());
    if (qcc_run(NULL, "step", &wrong, 1, &output, 1) < 0) printf("error: %s\n", qcc_last_error());
    qcc_state_free(state);
    return 0;
}
