static void largest_@tag@(const struct frame *f, const @x@ *x, @x@ *y)
{
    const int channels = f->channels, pixels = f->out_height * f->out_width;
    int pixel, first, u, v, k;
    for (pixel = 0; pixel < pixels; pixel++, y += channels) {
        const int row = pixel / f->out_width * f->stride - f->top;
        const int column = pixel % f->out_width * f->stride - f->left;
        const int top = larger(0, -row), bottom = smaller(f->rows, f->height - row);
        const int left = larger(0, -column), right = smaller(f->columns, f->width - column);
        for (first = 0; first < channels; first += BLOCK) {
            const int n = smaller(BLOCK, channels - first);
            const @x@ *start = x + ((row + top) * f->width + column + left) * channels + first;
            @x@ best[BLOCK];
            memcpy(best, start, (size_t)n * sizeof *best);
            for (u = top; u < bottom; u++) {
                for (v = left; v < right; v++) {
                    const @x@ *a = x + ((row + u) * f->width + column + v) * channels + first;
                    for (k = 0; k < n; k++)
                        best[k] = a[k] > best[k] ? a[k] : best[k];
                }
            }
            memcpy(y + first, best, (size_t)n * sizeof *best);
        }
    }
}
