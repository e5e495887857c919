static void border_@tag@(const struct conv_@a@ *c, int pixel, int first, int n, int@a@_t (*sums)[BLOCK], int count)
{
    const int width = c->frame.out_width, ticks = c->ticks;
    int row = pixel / width, column = pixel % width, t, k;
    for (t = 0; t < count; t++) {
        const int at = c->border_rows[row] * c->border_classes + c->border_columns[column];
        const @b@ *table = (const @b@ *)c->border + at * c->outs + first;
        for (k = 0; k < n; k++)
            sums[t][k] += (int@a@_t)ticks * table[k];
        if (++column == width)
            column = 0, row++;
    }
}
