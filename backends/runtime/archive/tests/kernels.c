/* Stands for generated code: kernels of the program in c_program.rs, `y = total += 2 x + bias`. */
#include <stdint.h>

static void twice(const uint64_t *args, uint64_t begin, uint64_t end, uint8_t *scratch) {
    const float *x = (const float *)args[0];
    float *out = (float *)args[1], *row = (float *)scratch;
    uint64_t width = args[2];
    for (uint64_t i = begin; i < end; i++) {
        for (uint64_t j = 0; j < width; j++) row[j] = 2 * x[i * width + j];
        for (uint64_t j = 0; j < width; j++) out[i * width + j] = row[j];
    }
}

static void accumulate(const uint64_t *args, uint64_t begin, uint64_t end, uint8_t *scratch) {
    const float *in = (const float *)args[0], *bias = (const float *)args[1];
    float *total = (float *)args[2], *y = (float *)args[3];
    uint64_t width = args[4];
    (void)scratch;
    for (uint64_t i = begin * width; i < end * width; i++) y[i] = total[i] += in[i] + bias[i % width];
}

void (*const qcc_kernel_table[])(const uint64_t *, uint64_t, uint64_t, uint8_t *) = {twice, accumulate};
