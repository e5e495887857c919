/* y = sums / 2**shift, rounded half up, saturated. */
static void total_@tag@(const int@a@_t *RESTRICT sums, @y@ *RESTRICT y, int n, int shift, int32_t low, int32_t high)
{
    const int@a@_t half = ((int@a@_t)1 << shift) >> 1;
    int k;
    for (k = 0; k < n; k++) {
        const int@a@_t value = (sums[k] + half) >> shift;
        y[k] = (@y@)(value < low ? low : value > high ? high : value);
    }
}
