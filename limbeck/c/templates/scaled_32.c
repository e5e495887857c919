/* What ends a sum of up to 32 bits: (sum + offset) * mult / 2**(split + shift), rounded half up, saturated. */
struct requant_32 {
    const int32_t *offset;
    const uint16_t *mult;
    int split, shift;
    int32_t low, high;
};

#if defined(AVX2) /* eight values, which fit */
#define HALVES(x) _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1))
#define STORE_int32_t(y, x) _mm256_storeu_si256((__m256i *)(void *)(y), x)
#define STORE_int16_t(y, x) _mm_storeu_si128((__m128i *)(void *)(y), HALVES(x))
#define STORE_int8_t(y, x) _mm_storel_epi64((__m128i *)(void *)(y), _mm_packs_epi16(HALVES(x), HALVES(x)))
#endif

#if !defined(VNNI)
/* Exact in 32 bits: the lower `split` bits of the product lie below the bit that rounds. */
static inline int32_t scaled_32(int32_t sum, uint16_t mult, const struct requant_32 *r)
{
    const uint32_t lower = ((uint32_t)sum & (((uint32_t)1 << r->split) - 1u)) * mult;
    const int32_t product = (sum >> r->split) * (int32_t)mult + (int32_t)(lower >> r->split);
    return (product + ((int32_t)1 << (r->shift - 1))) >> r->shift;
}
#endif
