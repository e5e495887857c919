#if defined(VNNI)

/* Three values of each of 16 channels, side by side as vpdpbusd takes them. */
static inline __m512i three(const int8_t *a, const int8_t *b, const int8_t *c, __mmask16 used)
{
    const __m512i first = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(used, a));
    const __m512i second = _mm512_slli_epi32(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(used, b)), 8);
    const __m512i third = _mm512_slli_epi32(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(used, c)), 16);
    return _mm512_or_si512(_mm512_or_si512(first, second), third);
}

/* Sums of 3x3 windows in a row, of up to 16 channels; neighbours share columns. As in products_8, values enter as
 * x + 128. */
static void slide(const struct frame *f, const int8_t *x, int row, int column, int count, const int8_t *weight, int first, int n,
                  int32_t (*sums)[BLOCK])
{
    static const int8_t zeros[BLOCK] = {0};
    const __mmask16 used = (__mmask16)((1u << n) - 1u);
    const __m512i flip = _mm512_set1_epi8(-128);
    const int8_t *rows[3];
    __m512i w[3], seen[3] = {flip, flip, flip}, excess = _mm512_setzero_si512();
    int step[3], u, t;
    for (u = 0; u < 3; u++) {
        const int8_t *tap = weight + first + u * f->channels;
        const int within = row + u >= 0 && row + u < f->height;
        w[u] = three(tap, tap + 3 * f->channels, tap + 6 * f->channels, used);
        excess = _mm512_dpbusd_epi32(excess, flip, w[u]);
        rows[u] = within ? x + (row + u) * f->width * f->channels + first : zeros;
        step[u] = within ? f->channels : 0;
    }
    for (t = 0; t < count; t++, column += f->stride) {
        const int known = t > 0 && f->stride == 1 ? 2 : 0;
        __m512i sum;
        if (known)
            seen[0] = seen[1], seen[1] = seen[2];
        for (u = known; u < 3; u++) {
            const int at = column + u;
            seen[u] = flip;
            if (at >= 0 && at < f->width)
                seen[u] = _mm512_xor_si512(
                    three(rows[0] + at * step[0], rows[1] + at * step[1], rows[2] + at * step[2], used), flip);
        }
        sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), seen[0], w[0]);
        sum = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, seen[1], w[1]), seen[2], w[2]);
        _mm512_storeu_si512(sums[t], _mm512_sub_epi32(sum, excess));
    }
}

#endif
