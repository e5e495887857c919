/* sums[t][o] = weights of output o * window t, of `count` windows and `n` outputs. */
static inline void products_@tag@(const @x@ *window, int length, int count, const @w@ *weight, int n,
                                  int@a@_t (*sums)[BLOCK])
{
    int t, q, o;
    for (t = 0; t < count; t++, window += length) {
        const @w@ *w = weight;
        for (o = 0; o < n; o++)
            sums[t][o] = 0;
        for (q = 0; q < length; q += 4, w += 4 * n) {
            const int@a@_t a = window[q], b = window[q + 1], c = window[q + 2], d = window[q + 3];
            for (o = 0; o < n; o++)
                sums[t][o] += a * w[4 * o] + b * w[4 * o + 1] + c * w[4 * o + 2] + d * w[4 * o + 3];
        }
    }
}

static void dot_@tag@(const @x@ *window, int length, int count, const @w@ *weight, int n, int@a@_t (*sums)[BLOCK])
{
    if (n == BLOCK)
        products_@tag@(window, length, count, weight, BLOCK, sums);
    else
        products_@tag@(window, length, count, weight, n, sums);
}
