static void table_@tag@(const @y@ *table, const int8_t *x, @y@ *y, int n)
{
    int k;
    for (k = 0; k < n; k++)
        y[k] = table[x[k] + 128];
}
