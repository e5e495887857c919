static void depthwise_@tag@(const struct conv_@a@ *c, const @x@ *x, @y@ *y)
{
    const struct frame *f = &c->frame;
    const int channels = f->channels, pixels = f->out_height * f->out_width;
    int pixel, first, u, v, k;
    for (pixel = 0; pixel < pixels; pixel++, y += channels) {
        const int row = pixel / f->out_width * f->stride - f->top;
        const int column = pixel % f->out_width * f->stride - f->left;
        const int left = larger(0, -column), right = smaller(f->columns, f->width - column);
        for (first = 0; first < channels; first += BLOCK) {
            const int n = smaller(BLOCK, channels - first);
            int@a@_t sums[BLOCK] = {0};
            for (u = larger(0, -row); u < f->rows && row + u < f->height; u++) {
                for (v = left; v < right; v++) {
                    const @x@ *RESTRICT a = x + ((row + u) * f->width + column + v) * channels + first;
                    const @w@ *RESTRICT b = (const @w@ *)c->weight + (u * f->columns + v) * channels + first;
                    if (n == BLOCK)
                        for (k = 0; k < BLOCK; k++)
                            sums[k] += (int@a@_t)a[k] * b[k];
                    else
                        for (k = 0; k < n; k++)
                            sums[k] += (int@a@_t)a[k] * b[k];
                }
            }
@border@            finish_@finish@(&c->requant, first, n, sums, y + first);
        }
    }
}
