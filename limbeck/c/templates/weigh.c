/* sums[k] of channel `at` + k of the map, `first` + k of the weights. */
static inline void weigh_@tag@(const struct taps *taps, int count, const @x@ *x, int at, const @w@ *weight, int first, int n,
                               int@a@_t *RESTRICT sums)
{
    int tap, k;
    for (k = 0; k < n; k++)
        sums[k] = 0;
    for (tap = 0; tap < count; tap++) {
        const @x@ *RESTRICT a = x + (at + taps->value[tap]);
        const @w@ *RESTRICT b = weight + (first + taps->weight[tap]);
        for (k = 0; k < n; k++)
            sums[k] += (int@a@_t)a[k] * b[k];
    }
}
