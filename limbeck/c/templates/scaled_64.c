/* What ends a sum of more than 32 bits, or with a small shift: as above, in 64 bits. */
struct requant_64 {
    const int64_t *offset;
    const uint16_t *mult;
    int shift;
    int32_t low, high;
};

static inline int64_t scaled_64(int64_t sum, uint16_t mult, int shift)
{
    return (sum * mult + (((int64_t)1 << shift) >> 1)) >> shift;
}
