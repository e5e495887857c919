/* Computes `size` pixels from `pixel` on. */
static void depthwise_@tag@(const struct conv_@a@ *c, const @x@ *x, int pixel, int size, @y@ *y)
{
    const struct frame *f = &c->frame;
    const int channels = f->channels, last = pixel + size;
    const @w@ *weight = (const @w@ *)c->weight;
    struct taps taps;
    int i = pixel / f->out_width, j = pixel % f->out_width, count, first, t;
    memset(&taps, 0, sizeof taps);
    for (; pixel < last; pixel += count, y += count * channels) {
        const int row = i * f->stride - f->top, column = j * f->stride - f->left;
        count = smaller(smaller(TILE, last - pixel), f->out_width - j); /* of one row */
        for (first = 0; first < channels; first += BLOCK) {
            const int n = smaller(BLOCK, channels - first);
            int@a@_t sums[TILE][BLOCK];
@slide@            for (t = 0; t < count; t++) {
                const int at = (row * f->width + column + t * f->stride) * channels + first;
                inside(&taps, f, row, column + t * f->stride);
                if (taps.count == 9 && n == BLOCK)
                    weigh_@weigh@(&taps, 9, x, at, weight, first, BLOCK, sums[t]);
                else if (n == BLOCK)
                    weigh_@weigh@(&taps, taps.count, x, at, weight, first, BLOCK, sums[t]);
                else
                    weigh_@weigh@(&taps, taps.count, x, at, weight, first, n, sums[t]);
            }
@border@            finish_@finish@(&c->requant, first, n, ROWS(int@a@_t, sums), count, channels, y + first);
        }
        j += count;
        if (j == f->out_width)
            j = 0, i++;
    }
}
