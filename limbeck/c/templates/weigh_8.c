#if defined(VNNI) || defined(AVX2) || defined(SSE4) || defined(NEON)

/* Two products of 128 * 127 at most fit 16 bits: taps are taken in pairs, an odd one with itself, weighed 0. */
static inline void eight(const struct taps *taps, int count, const int8_t *x, int at, const int8_t *weight, int first, int32_t *sums)
{
    int tap;
#if defined(NEON)
    int32x4_t low = vdupq_n_s32(0), high = low;
    UNROLL for (tap = 0; tap < count; tap += 2) {
        int16x8_t two = vmull_s8(vld1_s8(x + (at + taps->value[tap])), vld1_s8(weight + (first + taps->weight[tap])));
        if (tap + 1 < count)
            two = vmlal_s8(two, vld1_s8(x + (at + taps->value[tap + 1])),
                           vld1_s8(weight + (first + taps->weight[tap + 1])));
        low = vaddw_s16(low, vget_low_s16(two));
        high = vaddw_high_s16(high, two);
    }
    vst1q_s32(sums, low);
    vst1q_s32(sums + 4, high);
#else
#define WIDE(from) _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)(from)))
    __m128i low = _mm_setzero_si128(), high = low;
    UNROLL for (tap = 0; tap < count; tap += 2) {
        __m128i two = _mm_mullo_epi16(WIDE(x + (at + taps->value[tap])), WIDE(weight + (first + taps->weight[tap])));
        if (tap + 1 < count)
            two = _mm_add_epi16(two, _mm_mullo_epi16(WIDE(x + (at + taps->value[tap + 1])),
                                                     WIDE(weight + (first + taps->weight[tap + 1]))));
        low = _mm_add_epi32(low, _mm_cvtepi16_epi32(two));
        high = _mm_add_epi32(high, _mm_cvtepi16_epi32(_mm_unpackhi_epi64(two, two)));
    }
    _mm_storeu_si128((__m128i *)(void *)sums, low);
    _mm_storeu_si128((__m128i *)(void *)(sums + 4), high);
#undef WIDE
#endif
}

#endif

/* sums[k] of channel `at` + k of the map, `first` + k of the weights. */
static inline void weigh_s8_w8_32(const struct taps *taps, int count, const int8_t *x, int at, const int8_t *weight, int first, int n,
                                  int32_t *RESTRICT sums)
{
    int tap, k;
#if defined(VNNI) || defined(AVX2)
    if (n == BLOCK) {
#define WIDE(from) _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(from)))
        __m256i low = _mm256_setzero_si256(), high = low;
        UNROLL for (tap = 0; tap < count; tap += 2) {
            __m256i two =
                _mm256_mullo_epi16(WIDE(x + (at + taps->value[tap])), WIDE(weight + (first + taps->weight[tap])));
            if (tap + 1 < count)
                two = _mm256_add_epi16(two, _mm256_mullo_epi16(WIDE(x + (at + taps->value[tap + 1])),
                                                               WIDE(weight + (first + taps->weight[tap + 1]))));
            low = _mm256_add_epi32(low, _mm256_cvtepi16_epi32(_mm256_castsi256_si128(two)));
            high = _mm256_add_epi32(high, _mm256_cvtepi16_epi32(_mm256_extracti128_si256(two, 1)));
        }
        _mm256_storeu_si256((__m256i *)(void *)sums, low);
        _mm256_storeu_si256((__m256i *)(void *)(sums + 8), high);
#undef WIDE
        return;
    }
#endif
#if defined(VNNI) || defined(AVX2) || defined(SSE4) || defined(NEON)
    for (; n >= 8; n -= 8, at += 8, first += 8, sums += 8)
        eight(taps, count, x, at, weight, first, sums);
#endif
    for (k = 0; k < n; k++)
        sums[k] = 0;
    for (tap = 0; tap < count; tap++) {
        const int8_t *RESTRICT a = x + (at + taps->value[tap]);
        const int8_t *RESTRICT b = weight + (first + taps->weight[tap]);
        for (k = 0; k < n; k++)
            sums[k] += (int32_t)a[k] * b[k];
    }
}
