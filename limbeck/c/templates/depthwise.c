static void depthwise_@tag@(const struct conv_@a@ *c, const @x@ *x, @y@ *y)
{
    const struct frame *f = &c->frame;
    const int channels = f->channels, pixels = f->out_height * f->out_width;
    const @w@ *weight = (const @w@ *)c->weight;
    struct taps taps;
    int row = -f->top, column = -f->left, pixel, first, t;
    memset(&taps, 0, sizeof taps);
    for (pixel = 0; pixel < pixels; pixel += TILE, y += TILE * channels) {
        const int count = smaller(TILE, pixels - pixel);
        int next_row = row, next_column = column;
        for (first = 0; first < channels; first += BLOCK) {
            const int n = smaller(BLOCK, channels - first);
            int@a@_t sums[TILE][BLOCK];
            next_row = row, next_column = column;
            for (t = 0; t < count; t++) {
                const int at = (next_row * f->width + next_column) * channels + first;
                inside(&taps, f, next_row, next_column);
                if (taps.count == 9 && n == BLOCK)
                    weigh_@weigh@(&taps, 9, x, at, weight, first, BLOCK, sums[t]);
                else if (taps.count == 9)
                    weigh_@weigh@(&taps, 9, x, at, weight, first, n, sums[t]);
                else
                    weigh_@weigh@(&taps, taps.count, x, at, weight, first, n, sums[t]);
                next_column += f->stride;
                if (next_column == f->out_width * f->stride - f->left)
                    next_column = -f->left, next_row += f->stride;
            }
@border@            finish_@finish@(&c->requant, first, n, ROWS(int@a@_t, sums), count, channels, y + first);
        }
        row = next_row, column = next_column;
    }
}
