/* Runs an artifact's first entry point on the tensors of a file and writes its outputs to another one: run_job ARTIFACT JOB RESULT.
 * Both hold 64-bit numbers: how many tensors, then of each its element type, rank, sizes, bytes, and the bytes. */
#include "model.h"
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 64 };

static int64_t number(FILE *file) {
    int64_t n;
    if (fread(&n, sizeof n, 1, file) != 1) exit(3);
    return n;
}

int main(int argc, char **argv) {
    qcc_tensor inputs[MOST], outputs[MOST];
    static int64_t shapes[2 * MOST][8];
    if (argc != 4) return 2;
    FILE *job = fopen(argv[2], "rb"), *result = fopen(argv[3], "wb");
    if (!job || !result) return 3;
    int64_t count = number(job);
    if (count > MOST) return 4;
    for (int64_t i = 0; i < count; i++) {
        inputs[i].element = (int32_t)number(job);
        inputs[i].rank = (int32_t)number(job);
        inputs[i].shape = shapes[i];
        for (int32_t d = 0; d < inputs[i].rank; d++) shapes[i][d] = number(job);
        inputs[i].bytes = (size_t)number(job);
        /* Exactly as much: what reads past it is seen by tools that look. */
        inputs[i].data = malloc(inputs[i].bytes ? inputs[i].bytes : 1);
        if (fread(inputs[i].data, 1, inputs[i].bytes, job) != inputs[i].bytes) return 3;
    }
    qcc_model *model = qcc_model_open(argv[1]);
    qcc_state *state = model ? qcc_state_new(model, 2) : NULL;
    const char *entry = model ? qcc_entry_name(model, 0) : NULL;
    int32_t results = entry ? qcc_output_count(model, entry) : 0;
    for (int32_t i = 0; i < results; i++) {
        outputs[i].shape = shapes[MOST + i];
        outputs[i].rank = qcc_output_rank(model, entry, i);
    }
    if (results > MOST) return 4;
    int failed = !state || qcc_output_shapes(model, entry, inputs, (size_t)count, outputs, (size_t)results) != 0;
    for (int32_t i = 0; !failed && i < results; i++) outputs[i].data = malloc(outputs[i].bytes ? outputs[i].bytes : 1);
    if (failed || qcc_run(state, entry, inputs, (size_t)count, outputs, (size_t)results) != 0)
        return printf("%s\n", qcc_last_error()), 1;
    int64_t n = results;
    fwrite(&n, sizeof n, 1, result);
    for (int32_t i = 0; i < results; i++) {
        int64_t head[2] = {outputs[i].element, outputs[i].rank}, bytes = (int64_t)outputs[i].bytes;
        fwrite(head, sizeof head, 1, result);
        fwrite(outputs[i].shape, sizeof(int64_t), (size_t)outputs[i].rank, result);
        fwrite(&bytes, sizeof bytes, 1, result);
        fwrite(outputs[i].data, 1, outputs[i].bytes, result);
        free(outputs[i].data);
    }
    for (int64_t i = 0; i < count; i++) free(inputs[i].data);
    qcc_state_free(state);
    qcc_model_close(model);
    fclose(job);
    return fclose(result);
}
