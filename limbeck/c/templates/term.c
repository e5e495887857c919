static void term_@tag@(int@a@_t *RESTRICT sums, const @x@ *RESTRICT x, int n, int32_t factor)
{
    int k;
    for (k = 0; k < n; k++)
        sums[k] += (int@a@_t)x[k] * factor;
}
