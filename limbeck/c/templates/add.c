/* y = the sum of x * factor / 2**shift, rounded half up, saturated. */
static void add_@tag@(@terms@, @y@ *y, int size, int shift, int32_t low, int32_t high)
{
    const int@a@_t half = ((int@a@_t)1 << shift) >> 1;
    int first, k;
    for (first = 0; first < size; first += 256) {
        const int last = smaller(first + 256, size);
        int@a@_t sums[256]; /* y may be one of the maps that are summed */
        for (k = first; k < last; k++)
            sums[k - first] = half + @sum@;
        for (k = first; k < last; k++) {
            const int@a@_t value = sums[k - first] >> shift, above = value < low ? low : value;
            y[k] = (@y@)(above > high ? high : above);
        }
    }
}
