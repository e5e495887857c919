/* y[k] from the sums of channel first + k. */
static inline void some_@tag@(const struct requant_@a@ *r, int first, int n, const int@a@_t *RESTRICT sums,
                              @y@ *RESTRICT y)
{
    const int@a@_t *RESTRICT offset = r->offset + first;
    const uint16_t *RESTRICT mult = r->mult + first;
    const int shift = r->shift;
    const int32_t low = r->low, high = r->high;
    int k;
    for (k = 0; k < n; k++) {
        const int@a@_t value = scaled_@a@(sums[k] + offset[k], mult[k], shift);
        y[k] = (@y@)(value < low ? low : value > high ? high : value);
    }
}

static void finish_@tag@(const struct requant_@a@ *r, int first, int n, const int@a@_t *sums, @y@ *y)
{
    if (n == BLOCK)
        some_@tag@(r, first, BLOCK, sums, y);
    else
        some_@tag@(r, first, n, sums, y);
}
