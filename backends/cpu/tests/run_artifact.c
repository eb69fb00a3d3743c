/* Runs an artifact's entry point `main` on a ramp of shape [2, 3, 70] and prints the outputs, one a line. No qcc is needed for this. */
#include "model.h"
#include <stdio.h>

int main(int argc, char **argv) {
    static float x[2 * 3 * 70], y[2 * 3 * 33];
    int64_t x_shape[3] = {2, 3, 70}, y_shape[3];
    if (argc != 2) return 2;
    for (int i = 0; i < 2 * 3 * 70; i++) x[i] = (float)(i % 17) / 16.0f - 0.5f;
    qcc_model *model = qcc_model_open(argv[1]);
    qcc_state *state = model ? qcc_state_new(model, 2) : NULL;
    qcc_tensor input = {x, x_shape, 3, QCC_F32, sizeof x}, output = {y, y_shape, 3, QCC_F32, sizeof y};
    if (!state || qcc_run(state, "main", &input, 1, &output, 1) != 0) return printf("%s\n", qcc_last_error()), 1;
    for (int i = 0; i < 2 * 3 * 33; i++) printf("%.9g\n", y[i]);
    qcc_state_free(state);
    qcc_model_close(model);
    return 0;
}
