#if defined(VNNI)

/* Three values of each of 16 channels, side by side as vpdpbusd takes them. */
static inline __m512i three(const int8_t *a, const int8_t *b, const int8_t *c, __mmask16 used)
{
    const __m512i first = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(used, a));
    const __m512i second = _mm512_slli_epi32(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(used, b)), 8);
    const __m512i third = _mm512_slli_epi32(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(used, c)), 16);
    return _mm512_or_si512(_mm512_or_si512(first, second), third);
}

/* A column of a map, as x + 128; outside of it there are zeros. */
static inline __m512i column_of(const int8_t *const rows[3], const int step[3], int at, int width, __mmask16 used)
{
    const __m512i flip = _mm512_set1_epi8(-128);
    if (at < 0 || at >= width)
        return flip;
    return _mm512_xor_si512(three(rows[0] + at * step[0], rows[1] + at * step[1], rows[2] + at * step[2], used), flip);
}

/* Sums of 3x3 windows in a row, of up to 16 channels; neighbours share columns. */
static inline void slide(const struct frame *f, const int8_t *x, int row, int column, int count, const int8_t *weight, int first,
                         __mmask16 used, int stride, int32_t (*sums)[BLOCK])
{
    static const int8_t zeros[BLOCK] = {0};
    const __m512i flip = _mm512_set1_epi8(-128);
    const int8_t *rows[3];
    __m512i w[3], a = flip, b = flip, c, start = _mm512_setzero_si512();
    int step[3], u, t;
    for (u = 0; u < 3; u++) {
        const int8_t *tap = weight + first + u * f->channels;
        const int within = row + u >= 0 && row + u < f->height;
        w[u] = three(tap, tap + 3 * f->channels, tap + 6 * f->channels, used);
        start = _mm512_dpbusd_epi32(start, flip, w[u]);
        rows[u] = within ? x + (row + u) * f->width * f->channels + first : zeros;
        step[u] = within ? f->channels : 0;
    }
    start = _mm512_sub_epi32(_mm512_setzero_si512(), start); /* 128 * (sum of the weights) is taken off */
    if (stride == 1) {
        a = column_of(rows, step, column, f->width, used);
        b = column_of(rows, step, column + 1, f->width, used);
    }
    for (t = 0; t < count; t++, column += stride) {
        if (stride > 1) {
            a = column_of(rows, step, column, f->width, used);
            b = column_of(rows, step, column + 1, f->width, used);
        }
        c = column_of(rows, step, column + 2, f->width, used);
        _mm512_storeu_si512(
            sums[t], _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start, a, w[0]), b, w[1]), c, w[2]));
        a = b, b = c;
    }
}

#endif
