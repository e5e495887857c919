#if TILE > 1 || defined(DSP)
static inline int32_t four(const int8_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return word;
}
#endif

#if defined(VNNI)

/* vpdpbusd takes unsigned by signed: windows enter as x + 128, and 128 * (sum of the weights) is taken off again. */
static inline void products_8(const int8_t *window, int length, int count, const int8_t *weight, int n, int32_t (*sums)[BLOCK])
{
    const __mmask16 used = (__mmask16)((1u << n) - 1u);
    const __m512i flip = _mm512_set1_epi8(-128);
    __m512i excess = _mm512_setzero_si512(), s[TILE];
    int t, q;
    UNROLL for (t = 0; t < count; t++)
        s[t] = _mm512_setzero_si512();
    for (q = 0; q < length; q += 4, weight += 4 * n) {
        const __m512i w = _mm512_maskz_loadu_epi32(used, weight);
        excess = _mm512_dpbusd_epi32(excess, flip, w);
        UNROLL for (t = 0; t < count; t++)
            s[t] = _mm512_dpbusd_epi32(s[t], _mm512_xor_si512(_mm512_set1_epi32(four(window + t * length + q)), flip), w);
    }
    UNROLL for (t = 0; t < count; t++)
        _mm512_storeu_si512(sums[t], _mm512_sub_epi32(s[t], excess));
}

#elif defined(AVX2)

/* |x| * (w with the sign of x): two products of 128 * 127 at most fit 16 bits. */
static inline void products_8(const int8_t *window, int length, int count, const int8_t *weight, int n, int32_t (*sums)[BLOCK])
{
    const __m256i ones = _mm256_set1_epi16(1), places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    int t, q, o;
    for (o = 0; o < n; o += 8) {
        const __m256i used = _mm256_cmpgt_epi32(_mm256_set1_epi32(n - o), places);
        const int8_t *w = weight + 4 * o;
        __m256i s[TILE];
        UNROLL for (t = 0; t < count; t++)
            s[t] = _mm256_setzero_si256();
        for (q = 0; q < length; q += 4, w += 4 * n) {
            const __m256i b = _mm256_maskload_epi32((const int *)(const void *)w, used);
            UNROLL for (t = 0; t < count; t++) {
                const __m256i a = _mm256_set1_epi32(four(window + t * length + q));
                const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a));
                s[t] = _mm256_add_epi32(s[t], _mm256_madd_epi16(pairs, ones));
            }
        }
        UNROLL for (t = 0; t < count; t++)
            _mm256_storeu_si256((__m256i *)(void *)(sums[t] + o), s[t]);
    }
}

#elif defined(SSE4) || defined(NEON)

static inline void products_8(const int8_t *window, int length, int count, const int8_t *weight, int n, int32_t (*sums)[BLOCK])
{
    int t, q, o;
    for (o = 0; o < n; o += 4) {
        const int8_t *w = weight + 4 * o;
#if defined(SSE4) /* |x| * (w with the sign of x): two products of 128 * 127 at most fit 16 bits */
        const __m128i ones = _mm_set1_epi16(1);
        __m128i s[TILE];
        UNROLL for (t = 0; t < count; t++)
            s[t] = _mm_setzero_si128();
        for (q = 0; q < length; q += 4, w += 4 * n) {
            const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)w);
            UNROLL for (t = 0; t < count; t++) {
                const __m128i a = _mm_set1_epi32(four(window + t * length + q));
                const __m128i pairs = _mm_maddubs_epi16(_mm_abs_epi8(a), _mm_sign_epi8(b, a));
                s[t] = _mm_add_epi32(s[t], _mm_madd_epi16(pairs, ones));
            }
        }
        UNROLL for (t = 0; t < count; t++)
            _mm_storeu_si128((__m128i *)(void *)(sums[t] + o), s[t]);
#elif defined(__ARM_FEATURE_DOTPROD)
        int32x4_t s[TILE];
        UNROLL for (t = 0; t < count; t++)
            s[t] = vdupq_n_s32(0);
        for (q = 0; q < length; q += 4, w += 4 * n) {
            const int8x16_t b = vld1q_s8(w);
            UNROLL for (t = 0; t < count; t++)
                s[t] = vdotq_s32(s[t], b, vreinterpretq_s8_s32(vdupq_n_s32(four(window + t * length + q))));
        }
        UNROLL for (t = 0; t < count; t++)
            vst1q_s32(sums[t] + o, s[t]);
#else /* pairs of products, of two outputs in each half */
        int32x4_t s[TILE][2];
        UNROLL for (t = 0; t < count; t++)
            s[t][0] = s[t][1] = vdupq_n_s32(0);
        for (q = 0; q < length; q += 4, w += 4 * n) {
            const int8x16_t b = vld1q_s8(w);
            UNROLL for (t = 0; t < count; t++) {
                const int8x8_t a = vreinterpret_s8_s32(vdup_n_s32(four(window + t * length + q)));
                s[t][0] = vpadalq_s16(s[t][0], vmull_s8(vget_low_s8(b), a));
                s[t][1] = vpadalq_s16(s[t][1], vmull_s8(vget_high_s8(b), a));
            }
        }
        UNROLL for (t = 0; t < count; t++)
            vst1q_s32(sums[t] + o, vpaddq_s32(s[t][0], s[t][1]));
#endif
    }
}

#elif defined(DSP)

/* Four values are two pairs of 16 bits: those at even places, and those at odd ones. */
static inline int16x2_t even(uint32_t x) { return __sxtb16(x); }
static inline int16x2_t odd(uint32_t x) { return __sxtb16(x >> 8 | x << 24); }

static inline void products_8(const int8_t *window, int length, int count, const int8_t *weight, int n, int32_t (*sums)[BLOCK])
{
    int q, o;
    (void)count; /* 1 */
    for (o = 0; o < n; o += 4) {
        const int8_t *w = weight + 4 * o;
        int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        for (q = 0; q < length; q += 4, w += 4 * n) {
            const uint32_t x = (uint32_t)four(window + q), w0 = (uint32_t)four(w), w1 = (uint32_t)four(w + 4),
                           w2 = (uint32_t)four(w + 8), w3 = (uint32_t)four(w + 12);
            const int16x2_t a = even(x), b = odd(x);
            s0 = __smlad(odd(w0), b, __smlad(even(w0), a, s0));
            s1 = __smlad(odd(w1), b, __smlad(even(w1), a, s1));
            s2 = __smlad(odd(w2), b, __smlad(even(w2), a, s2));
            s3 = __smlad(odd(w3), b, __smlad(even(w3), a, s3));
        }
        sums[0][o] = s0;
        sums[0][o + 1] = s1;
        sums[0][o + 2] = s2;
        sums[0][o + 3] = s3;
    }
}

#else

static inline void products_8(const int8_t *RESTRICT window, int length, int count, const int8_t *RESTRICT weight, int n,
                              int32_t (*RESTRICT sums)[BLOCK])
{
    int q, o;
    (void)count; /* 1 */
    for (o = 0; o < n; o++)
        sums[0][o] = 0;
    for (q = 0; q < length; q += 4, weight += 4 * n) {
        const int32_t a = window[q], b = window[q + 1], c = window[q + 2], d = window[q + 3];
#if defined(__x86_64__) || defined(__i386__) || defined(__wasm__) /* compilers take words in vectors, but not bytes */
        int32_t words[BLOCK];
        memcpy(words, weight, 4 * (size_t)n);
        for (o = 0; o < n; o++)
            sums[0][o] += a * (int8_t)words[o] + b * (int8_t)(words[o] >> 8) + c * (int8_t)(words[o] >> 16) + d * (words[o] >> 24);
#else
        for (o = 0; o < n; o++) {
            const int8_t *w = weight + 4 * o;
            sums[0][o] += a * w[0] + b * w[1] + c * w[2] + d * w[3];
        }
#endif
    }
}

#endif

/* sums[t][o] = weights of output o * window t, of `count` windows and `n` outputs. */
static void dot_s8_w8_32(const int8_t *window, int length, int count, const int8_t *weight, int n, int32_t (*sums)[BLOCK])
{
    if (count == TILE && n == BLOCK)
        products_8(window, length, TILE, weight, BLOCK, sums);
    else if (count == TILE)
        products_8(window, length, TILE, weight, n, sums);
    else
        for (; count > 0; count--, window += length, sums++)
            products_8(window, length, 1, weight, n, sums);
}
