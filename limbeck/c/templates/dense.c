/* Computes `size` pixels from `pixel` on. */
static void conv_@tag@(const struct conv_@a@ *c, const @x@ *x, int pixel, int size, @y@ *y)
{
    const struct frame *f = &c->frame;
    const int share = f->channels / c->groups, outs = c->outs / c->groups;
    const int length = (f->rows * f->columns * share + 3) / 4 * 4, last = pixel + size;
    const int direct = f->rows * f->columns * f->stride * c->groups == 1 && length == f->channels;
    int group, o;
    for (; pixel < last; pixel += TILE, y += TILE * c->outs) {
        const int count = smaller(TILE, last - pixel);
        const @w@ *weight = (const @w@ *)c->weight;
        for (group = 0; group < c->groups; group++) {
            const @x@ *window = x + pixel * f->channels;
            if (!direct) {
                gather_@xs@(f, x, pixel, count, group * share, share, length, WINDOW_@xs@);
                window = WINDOW_@xs@;
            }
            for (o = 0; o < outs; o += BLOCK) {
                const int n = smaller(BLOCK, outs - o), padded = (n + 3) / 4 * 4, first = group * outs + o;
                int@a@_t sums[TILE][BLOCK];
                dot_@dot@(window, length, count, weight, padded, sums);
                weight += length * padded;
@border@                finish_@finish@(&c->requant, first, n, ROWS(int@a@_t, sums), count, c->outs, y + first);
            }
        }
    }
}
