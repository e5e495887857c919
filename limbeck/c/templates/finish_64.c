/* `count` pixels of y, `outs` values each: those of the channels from `first` on, from their sums. */
static void finish_@tag@(const struct requant_64 *requant, int first, int n, const int64_t (*RESTRICT sums)[BLOCK], int count,
                         int outs, @y@ *RESTRICT y)
{
    const struct requant_64 r = *requant;
    int t, k;
    for (t = 0; t < count; t++, y += outs) {
        for (k = 0; k < n; k++) {
            const int64_t value = scaled_64(sums[t][k] + r.offset[first + k], r.mult[first + k], &r);
            y[k] = (@y@)(value < r.low ? r.low : value > r.high ? r.high : value);
        }
    }
}
