static void border_@tag@(const struct conv_@a@ *c, int pixel, int first, int n, int@a@_t *sums)
{
    const int row = c->border_rows[pixel / c->frame.out_width], column = c->border_columns[pixel % c->frame.out_width];
    const @b@ *table = (const @b@ *)c->border + (row * c->border_classes + column) * c->outs + first;
    int k;
    for (k = 0; k < n; k++)
        sums[k] += (int@a@_t)c->ticks * table[k];
}
