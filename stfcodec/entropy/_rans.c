/* The loops of the rANS coder in C. rans.py describes the stream, rans_compiled.py calls this file.
 *
 * No loop reads or writes outside its buffers, for any content of bytes, indexes and tables. The
 * interpreter's lock is released while a loop runs.
 */

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>

#define TOTAL_BITS 16
#define TOTAL (1u << TOTAL_BITS)
#define STATE_MIN (1ull << 31)
#define STATE_END (1ull << 63)
#define GROUP_BITS 4
#define MAX_GROUPS 7
#define MAX_SYMBOL (1 << 26)
#define COARSE_BITS 8 /* leading bits of a 16-bit position in a table, the index of `coarse` */

/* How a loop ended. rans_compiled.py has the messages of SHORT, RANGE and EXCESS. */
enum { FINE, SHORT, RANGE, EXCESS, TABLE, MEMORY };

/* CdfTables.arrays of tables.py: `count` tables of at most `width` entries. coarse[t][k] is the
 * last share of table t that begins at or before k * 256. */
typedef struct {
    const int32_t *cdf, *length, *offset;
    const uint16_t *coarse;
    Py_ssize_t count, width;
} Tables;

/* Row t of cdf, or NULL where its length would lead out of it. */
static const int32_t *row_of(const Tables *tables, Py_ssize_t t) {
    if (t >= tables->count || tables->length[t] < 3 || tables->length[t] > tables->width)
        return NULL;
    return tables->cdf + t * tables->width;
}

/* ------------------------------------------------------------------------------- encoding */

typedef struct {
    uint32_t *words;
    size_t used, room;
} Words;

static int put_word(Words *out, uint64_t *state) {
    if (out->used == out->room) {
        size_t room = out->room ? 2 * out->room : 1024;
        uint32_t *words = realloc(out->words, room * sizeof *words);
        if (!words)
            return MEMORY;
        out->words = words;
        out->room = room;
    }
    out->words[out->used++] = (uint32_t)*state;
    *state >>= 32;
    return FINE;
}

static int put_group(Words *out, uint64_t *state, uint32_t group) {
    if (*state >> 59 && put_word(out, state))
        return MEMORY;
    *state = *state << GROUP_BITS | group;
    return FINE;
}

/* A decoder reads the count and then the groups, low first, so they are written in reverse. */
static int put_groups(Words *out, uint64_t *state, uint32_t raw) {
    uint32_t count = 0;
    while (count < MAX_GROUPS + 1 && raw >> (GROUP_BITS * count))
        count++;
    for (uint32_t k = count; k-- > 0;)
        if (put_group(out, state, raw >> (GROUP_BITS * k) & 15))
            return MEMORY;
    return put_group(out, state, count);
}

/* Codes from the last symbol to the first, which leaves out->words in reverse order. */
static int encode_all(const Tables *tables, const int32_t *symbols, const uint16_t *indexes,
                      Py_ssize_t n, Words *out, uint64_t *end) {
    uint64_t state = *end;
    for (Py_ssize_t i = n; i-- > 0;) {
        const int32_t *row = row_of(tables, indexes[i]);
        if (!row)
            return TABLE;
        if (symbols[i] < -MAX_SYMBOL || symbols[i] > MAX_SYMBOL)
            return RANGE;
        int64_t value = (int64_t)symbols[i] - tables->offset[indexes[i]];
        int32_t escape = tables->length[indexes[i]] - 2;
        int outside = value < 0 || value >= escape;
        if (outside) {
            int64_t raw = value < 0 ? -2 * value - 1 : 2 * (value - escape);
            if (raw >> (GROUP_BITS * MAX_GROUPS))
                return RANGE;
            if (put_groups(out, &state, (uint32_t)raw))
                return MEMORY;
        }
        int32_t share = outside ? escape : (int32_t)value;
        int64_t start = row[share], freq = (int64_t)row[share + 1] - start;
        if (start < 0 || freq < 1 || start + freq > (int64_t)TOTAL)
            return TABLE;
        if (state >> 47 >= (uint64_t)freq && put_word(out, &state))
            return MEMORY;
        state += state / (uint64_t)freq * (TOTAL - (uint64_t)freq) + (uint64_t)start;
    }
    *end = state;
    return FINE;
}

static void store_word(uint8_t *to, uint32_t word) {
    for (int k = 0; k < 4; k++)
        to[k] = (uint8_t)(word >> 8 * k);
}

static uint32_t load_word(const uint8_t *from) {
    return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

/* ------------------------------------------------------------------------------- decoding */

typedef struct {
    const uint8_t *data;
    Py_ssize_t at, end; /* in bytes, whole words apart */
    uint64_t state;
} Reader;

static int refill(Reader *in) {
    if (in->state >= STATE_MIN)
        return FINE;
    if (in->end - in->at < 4)
        return SHORT;
    in->state = in->state << 32 | load_word(in->data + in->at);
    in->at += 4;
    return FINE;
}

static int take_group(Reader *in, uint32_t *group) {
    *group = (uint32_t)in->state & 15;
    in->state >>= GROUP_BITS;
    return refill(in);
}

static int take_outside(Reader *in, int32_t escape, int64_t *value) {
    uint32_t count, group = 1, raw = 0;
    if (take_group(in, &count))
        return SHORT;
    if (count > MAX_GROUPS)
        return RANGE;
    for (uint32_t k = 0; k < count; k++) {
        if (take_group(in, &group))
            return SHORT;
        raw |= group << GROUP_BITS * k;
    }
    if (!group)
        return EXCESS;
    *value = raw & 1 ? -(int64_t)(raw >> 1) - 1 : (int64_t)(raw >> 1) + escape;
    return FINE;
}

static int decode_all(const Tables *tables, Reader *in, const uint16_t *indexes, Py_ssize_t n,
                      int32_t *symbols) {
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_ssize_t t = indexes[i];
        const int32_t *row = row_of(tables, t);
        if (!row)
            return TABLE;
        int32_t escape = tables->length[t] - 2;
        int32_t low = (int32_t)(in->state & (TOTAL - 1));
        int32_t share = tables->coarse[t << COARSE_BITS | low >> (TOTAL_BITS - COARSE_BITS)];
        if (share > escape)
            return TABLE;
        while (share < escape && row[share + 1] <= low)
            share++;
        int64_t start = row[share], freq = (int64_t)row[share + 1] - start;
        if (start < 0 || start > low || start + freq <= low || freq > (int64_t)TOTAL)
            return TABLE;
        in->state = (uint64_t)freq * (in->state >> TOTAL_BITS) + (uint64_t)(low - start);
        if (refill(in))
            return SHORT;
        int64_t value = share;
        if (share == escape) {
            int problem = take_outside(in, escape, &value);
            if (problem)
                return problem;
        }
        value += tables->offset[t];
        if (value < -MAX_SYMBOL || value > MAX_SYMBOL)
            return RANGE;
        symbols[i] = (int32_t)value;
    }
    return FINE;
}

/* --------------------------------------------------------------------------------- Python */

enum { CDF, LENGTH, OFFSET, COARSE, INDEXES, OTHER, BUFFERS };

/* Whether `view` holds whole items of this size. If not, sets an exception. */
static int holds(const Py_buffer *view, Py_ssize_t item, const char *name) {
    if (view->itemsize == item && view->len % item == 0)
        return 1;
    PyErr_Format(PyExc_TypeError, "%s must have items of %zd bytes", name, item);
    return 0;
}

static int tables_from(const Py_buffer *views, Tables *tables) {
    if (!holds(&views[CDF], 4, "cdf") || !holds(&views[LENGTH], 4, "length") ||
        !holds(&views[OFFSET], 4, "offset") || !holds(&views[COARSE], 2, "coarse") ||
        !holds(&views[INDEXES], 2, "indexes"))
        return 0;
    Py_ssize_t count = views[LENGTH].len / 4;
    if (count < 1 || views[OFFSET].len / 4 != count || views[CDF].len / 4 % count ||
        views[COARSE].len / 2 != count << COARSE_BITS) {
        PyErr_SetString(PyExc_ValueError, "the tables do not belong together");
        return 0;
    }
    *tables = (Tables){.cdf = views[CDF].buf,
                       .length = views[LENGTH].buf,
                       .offset = views[OFFSET].buf,
                       .coarse = views[COARSE].buf,
                       .count = count,
                       .width = views[CDF].len / 4 / count};
    return 1;
}

static void release(Py_buffer *views) {
    for (int k = 0; k < BUFFERS; k++)
        PyBuffer_Release(&views[k]);
}

static PyObject *rans_encode(PyObject *self, PyObject *args) {
    Py_buffer v[BUFFERS];
    Tables tables;
    unsigned long long state;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*y*K:encode", &v[CDF], &v[LENGTH], &v[OFFSET],
                          &v[COARSE], &v[INDEXES], &v[OTHER], &state))
        return NULL;
    PyObject *result = NULL;
    Words out = {0};
    Py_ssize_t n = v[INDEXES].len / 2;
    if (!tables_from(v, &tables) || !holds(&v[OTHER], 4, "symbols"))
        goto done;
    if (v[OTHER].len / 4 != n || state < STATE_MIN || state >= STATE_END) {
        PyErr_SetString(PyExc_ValueError, "no state, or as many symbols as indexes are needed");
        goto done;
    }
    int problem;
    uint64_t end = state;
    Py_BEGIN_ALLOW_THREADS
    problem = encode_all(&tables, v[OTHER].buf, v[INDEXES].buf, n, &out, &end);
    Py_END_ALLOW_THREADS
    if (problem == MEMORY) {
        PyErr_NoMemory();
        goto done;
    }
    PyObject *words = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(4 * out.used));
    if (words) {
        uint8_t *to = (uint8_t *)PyBytes_AsString(words);
        for (size_t k = 0; k < out.used; k++)
            store_word(to + 4 * k, out.words[out.used - 1 - k]);
        result = Py_BuildValue("iNK", problem, words, (unsigned long long)end);
    }
done:
    free(out.words);
    release(v);
    return result;
}

static PyObject *rans_decode(PyObject *self, PyObject *args) {
    Py_buffer v[BUFFERS], out = {0};
    Tables tables;
    Py_ssize_t at;
    unsigned long long state;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*y*w*nK:decode", &v[CDF], &v[LENGTH], &v[OFFSET],
                          &v[COARSE], &v[INDEXES], &v[OTHER], &out, &at, &state))
        return NULL;
    PyObject *result = NULL;
    Py_ssize_t n = v[INDEXES].len / 2;
    if (!tables_from(v, &tables) || !holds(&out, 4, "symbols"))
        goto done;
    if (out.len / 4 != n || at < 0 || at > v[OTHER].len || state < STATE_MIN ||
        state >= STATE_END) {
        PyErr_SetString(PyExc_ValueError, "no place in a stream, or as many symbols as indexes");
        goto done;
    }
    Reader in = {.data = v[OTHER].buf, .at = at, .end = v[OTHER].len, .state = state};
    int problem;
    Py_BEGIN_ALLOW_THREADS
    problem = decode_all(&tables, &in, v[INDEXES].buf, n, out.buf);
    Py_END_ALLOW_THREADS
    result = Py_BuildValue("inK", problem, in.at, (unsigned long long)in.state);
done:
    release(v);
    PyBuffer_Release(&out);
    return result;
}

static PyMethodDef methods[] = {
    {"encode", rans_encode, METH_VARARGS,
     "encode(cdf, length, offset, coarse, indexes, symbols, state) -> (problem, words, state): the "
     "state before the symbols from the one after them"},
    {"decode", rans_decode, METH_VARARGS,
     "decode(cdf, length, offset, coarse, indexes, data, symbols, at, state) -> (problem, at, "
     "state); fills symbols"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "_rans", .m_doc = "The loops of the rANS coder.",
    .m_size = 0, .m_methods = methods};

PyMODINIT_FUNC PyInit__rans(void) { return PyModule_Create(&module); }
