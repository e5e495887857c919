/* What ends a sum in 64 bits. */
struct requant_64 {
    const int64_t *offset;
    const uint16_t *mult;
    int shift;
    int32_t low, high;
};

static inline int64_t scaled_64(int64_t sum, uint16_t mult, const struct requant_64 *r)
{
    return (sum * mult + (((int64_t)1 << r->shift) >> 1)) >> r->shift;
}
