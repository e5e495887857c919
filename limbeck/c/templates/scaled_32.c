/* What ends a sum of up to 32 bits: (sum + offset) * mult / 2**shift, rounded half up, saturated. */
struct requant_32 {
    const int32_t *offset;
    const uint16_t *mult;
    int shift; /* 17 or more */
    int32_t low, high;
};

/* Exact without 64 bits: what the lower 16 bits of the product hold can't reach the result. */
static inline int32_t scaled_32(int32_t sum, uint16_t mult, int shift)
{
    const int32_t low = (int32_t)((((uint32_t)sum & 0xffffu) * mult) >> 16);
    const int32_t high = (sum >> 16) * (int32_t)mult + low;
    return (high + ((int32_t)1 << (shift - 17))) >> (shift - 16);
}
