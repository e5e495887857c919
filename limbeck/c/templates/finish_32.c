#if !defined(VNNI)
static inline void row_@tag@(const int32_t *RESTRICT sums, const int32_t *RESTRICT offset, const uint16_t *RESTRICT mult,
                             const struct requant_32 *r, int n, @y@ *RESTRICT y)
{
    int k;
    for (k = 0; k < n; k++)
        y[k] = (@y@)larger(r->low, smaller(r->high, scaled_32(sums[k] + offset[k], mult[k], r)));
}
#endif

/* `count` pixels of y, `outs` values each: those of the channels from `first` on, from their sums. */
static void finish_@tag@(const struct requant_32 *requant, int first, int n, const int32_t (*RESTRICT sums)[BLOCK], int count,
                         int outs, @y@ *RESTRICT y)
{
    const struct requant_32 r = *requant;
    const int32_t *RESTRICT offset = r.offset + first;
    const uint16_t *RESTRICT mult = r.mult + first;
    int t, k = 0;
#if defined(VNNI)
    const __mmask16 used = (__mmask16)((1u << n) - 1u);
    const __m512i offsets = _mm512_maskz_loadu_epi32(used, offset);
    const __m512i mults = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(used, mult));
    const __m512i lower = _mm512_set1_epi32((1 << r.split) - 1), half = _mm512_set1_epi32(1 << (r.shift - 1));
    const __m512i low = _mm512_set1_epi32(r.low), high = _mm512_set1_epi32(r.high);
    const __m128i split = _mm_cvtsi32_si128(r.split), shift = _mm_cvtsi32_si128(r.shift);
    (void)k; /* masks leave nothing over */
    for (t = 0; t < count; t++, y += outs) {
        const __m512i sum = _mm512_add_epi32(_mm512_loadu_si512(sums[t]), offsets);
        const __m512i below = _mm512_srl_epi32(_mm512_mullo_epi32(_mm512_and_si512(sum, lower), mults), split);
        const __m512i product = _mm512_add_epi32(_mm512_mullo_epi32(_mm512_sra_epi32(sum, split), mults), below);
        const __m512i value = _mm512_sra_epi32(_mm512_add_epi32(product, half), shift);
        _mm512_mask_@store@(y, used, _mm512_max_epi32(low, _mm512_min_epi32(high, value)));
    }
#else
#if defined(AVX2)
    const __m256i lower = _mm256_set1_epi32((1 << r.split) - 1), half = _mm256_set1_epi32(1 << (r.shift - 1));
    const __m256i low = _mm256_set1_epi32(r.low), high = _mm256_set1_epi32(r.high);
    const __m128i split = _mm_cvtsi32_si128(r.split), shift = _mm_cvtsi32_si128(r.shift);
    for (; k + 8 <= n; k += 8) {
        const __m256i offsets = _mm256_loadu_si256((const __m256i *)(const void *)(offset + k));
        const __m256i mults = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(mult + k)));
        for (t = 0; t < count; t++) {
            const __m256i sum = _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(sums[t] + k)), offsets);
            const __m256i below = _mm256_srl_epi32(_mm256_mullo_epi32(_mm256_and_si256(sum, lower), mults), split);
            const __m256i above = _mm256_mullo_epi32(_mm256_sra_epi32(sum, split), mults);
            const __m256i product = _mm256_add_epi32(_mm256_add_epi32(above, below), half);
            const __m256i value = _mm256_max_epi32(low, _mm256_min_epi32(high, _mm256_sra_epi32(product, shift)));
            STORE_@y@(y + t * outs + k, value);
        }
    }
    if (k == n)
        return;
#endif
    for (t = 0; t < count; t++, y += outs) {
        if (n - k == BLOCK)
            row_@tag@(sums[t], offset, mult, &r, BLOCK, y);
        else
            row_@tag@(sums[t] + k, offset + k, mult + k, &r, n - k, y + k);
    }
#endif
}
