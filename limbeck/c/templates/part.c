/* Writes x's channels into those of y from `first` on. */
static void part_@tag@(const @x@ *x, @y@ *y, int pixels, int channels, int first, int outs)
{
    int k;
    for (; pixels > 0; pixels--, x += channels, y += outs)
        for (k = 0; k < channels; k++)
            y[first + k] = x[k];
}
