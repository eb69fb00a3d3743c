/* A model compiled by qcc, as a shared library with a plain C interface.
 *
 * Link against model.so or load it with dlopen, then:
 *
 *     qcc_model *model = qcc_model_open("OUT.qcc");
 *     qcc_state *state = qcc_state_new(model, 0);
 *     float x[3 * 4] = {...}, y[3 * 2];
 *     int64_t x_shape[] = {3, 4}, y_shape[2];
 *     qcc_tensor input = {x, x_shape, 2, QCC_F32, sizeof x};
 *     qcc_tensor output = {y, y_shape, 2, QCC_F32, sizeof y};
 *     if (qcc_run(state, "main", &input, 1, &output, 1) != 0) puts(qcc_last_error());
 *     qcc_state_free(state);
 *     qcc_model_close(model);
 *
 * Functions that return a pointer return NULL on failure, the others a negative number; qcc_last_error() then says why.
 * Tensors are dense, row-major and little-endian. They may lie anywhere; a multiple of an element's size saves a copy.
 * A model may be used by any number of threads at once, a state by one thread at a time.
 * All states must be freed before the library is unloaded: they own threads.
 */
#ifndef QCC_MODEL_H
#define QCC_MODEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QCC_ABI_VERSION 1

/* Element types. */
enum {
    QCC_F32 = 0,
    QCC_F16 = 1,
    QCC_BF16 = 2,
    QCC_F64 = 3,
    QCC_I8 = 4,
    QCC_U8 = 5,
    QCC_I16 = 6,
    QCC_U16 = 7,
    QCC_I32 = 8,
    QCC_U32 = 9,
    QCC_I64 = 10,
    QCC_U64 = 11,
    QCC_BOOL = 12 /* a byte, 0 or 1 */
};

typedef struct qcc_model qcc_model;
typedef struct qcc_state qcc_state;

/* A tensor in the caller's memory. */
typedef struct qcc_tensor {
    void *data;      /* the elements; not written to in inputs */
    int64_t *shape;  /* `rank` sizes; of an output, filled in by the call, and may be NULL */
    int32_t rank;
    int32_t element; /* QCC_F32, ... */
    size_t bytes;    /* of an input, exactly its size; of an output, the room there is, set to its size by the call */
} qcc_tensor;

/* QCC_ABI_VERSION of the library. */
int32_t qcc_abi_version(void);

/* Why the last call that failed on this thread did. Valid until the next call that fails on this thread; never NULL. */
const char *qcc_last_error(void);

/* Opens the artifact in a directory: the one this library belongs to. Its files are checked first. */
qcc_model *qcc_model_open(const char *directory);

/* Closes a model. States made from it stay usable. NULL is allowed. */
void qcc_model_close(qcc_model *model);

/* What one caller needs to run a model: threads, working memory, and the buffers that keep their contents from call to call, zero at first.
 * `threads` counts the calling one; 0 means one for each core. */
qcc_state *qcc_state_new(const qcc_model *model, int32_t threads);

/* Makes the buffers that keep their contents zero again. */
int32_t qcc_state_reset(qcc_state *state);

/* Tokens of a sequence, of models that keep keys and values of attention: how many were read since the start of the sequence, or -1; the most
 * that there may be (a call that would need more fails, and nothing has run; at first there is no limit); and how many to make room for
 * with the next call, so that calls up to there move no memory. */
int64_t qcc_state_tokens(const qcc_state *state);
int32_t qcc_state_limit(qcc_state *state, int64_t tokens);
int32_t qcc_state_reserve(qcc_state *state, int64_t tokens);

/* Frees a state and ends its threads. NULL is allowed. */
void qcc_state_free(qcc_state *state);

/* Runs an entry point. Inputs and outputs are in the order of qcc_input_name and qcc_output_name; no output may overlap another tensor.
 * On failure nothing has run, but for an index outside its axis: the state was reset then. */
int32_t qcc_run(qcc_state *state, const char *entry, const qcc_tensor *inputs, size_t input_count, qcc_tensor *outputs,
                size_t output_count);

/* Shapes and sizes that the outputs would have: fills in `shape` (where not NULL), `rank`, `element` and `bytes` of each output. Of the
 * inputs only shapes are looked at. `shape` must have room for qcc_output_rank sizes. */
int32_t qcc_output_shapes(const qcc_model *model, const char *entry, const qcc_tensor *inputs, size_t input_count, qcc_tensor *outputs,
                          size_t output_count);

/* Entry points. */
int32_t qcc_entry_count(const qcc_model *model);
const char *qcc_entry_name(const qcc_model *model, int32_t index);

/* What they take and give. Names live as long as the model. A dimension is its size, or -1 where any size goes; the symbol, where there is
 * one, names it: dimensions with the same symbol must be equal. A failure of qcc_input_dim and qcc_output_dim is -2. */
int32_t qcc_input_count(const qcc_model *model, const char *entry);
const char *qcc_input_name(const qcc_model *model, const char *entry, int32_t index);
int32_t qcc_input_element(const qcc_model *model, const char *entry, int32_t index);
int32_t qcc_input_rank(const qcc_model *model, const char *entry, int32_t index);
int64_t qcc_input_dim(const qcc_model *model, const char *entry, int32_t index, int32_t axis);
const char *qcc_input_symbol(const qcc_model *model, const char *entry, int32_t index, int32_t axis);
int32_t qcc_output_count(const qcc_model *model, const char *entry);
const char *qcc_output_name(const qcc_model *model, const char *entry, int32_t index);
int32_t qcc_output_element(const qcc_model *model, const char *entry, int32_t index);
int32_t qcc_output_rank(const qcc_model *model, const char *entry, int32_t index);
int64_t qcc_output_dim(const qcc_model *model, const char *entry, int32_t index, int32_t axis);

#ifdef __cplusplus
}
#endif

#endif
