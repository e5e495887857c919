static void average_@tag@(const struct average_@a@ *p, const @x@ *x, @y@ *y)
{
    const struct frame *f = &p->frame;
    const int pixels = f->out_height * f->out_width;
    int pixel, first, u, v, k;
    for (pixel = 0; pixel < pixels; pixel++, y += f->channels) {
        const int row = pixel / f->out_width * f->stride - f->top;
        const int column = pixel % f->out_width * f->stride - f->left;
        const int top = larger(0, -row), bottom = smaller(f->rows, f->height - row);
        const int left = larger(0, -column), right = smaller(f->columns, f->width - column);
        const int factor = p->every ? p->every / ((bottom - top) * (right - left)) : 1;
        for (first = 0; first < f->channels; first += BLOCK) {
            const int n = smaller(BLOCK, f->channels - first);
            int@a@_t sums[1][BLOCK] = {{0}};
            for (u = top; u < bottom; u++) {
                for (v = left; v < right; v++) {
                    const @x@ *a = x + ((row + u) * f->width + column + v) * f->channels + first;
                    for (k = 0; k < n; k++)
                        sums[0][k] += a[k];
                }
            }
            for (k = 0; k < n; k++)
                sums[0][k] *= factor;
            finish_@finish@(&p->requant, first, n, ROWS(int@a@_t, sums), 1, f->channels, y + first);
        }
    }
}
