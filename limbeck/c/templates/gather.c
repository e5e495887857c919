/* The windows of `count` output pixels, `length` values each, 0 outside the map and after the last tap. */
static void gather_@tag@(const struct frame *f, const @x@ *x, int pixel, int count, int channel, int share, int length,
                         @x@ *window)
{
    int i = pixel / f->out_width, j = pixel % f->out_width;
    for (; count > 0; count--, window += length) {
        const int row = i * f->stride - f->top, column = j * f->stride - f->left;
        const int first = larger(0, -column), last = smaller(f->columns, f->width - column);
        const int all = first == 0 && last == f->columns && row >= 0 && row + f->rows <= f->height;
        int u, v;
        if (!all || length != f->rows * f->columns * share)
            memset(window, 0, (size_t)length * sizeof *window);
        for (u = larger(0, -row); u < f->rows && row + u < f->height; u++) {
            const @x@ *from = x + ((row + u) * f->width + column + first) * f->channels + channel;
            @x@ *to = window + (u * f->columns + first) * share;
            if (share == f->channels && last > first)
                memcpy(to, from, (size_t)((last - first) * share) * sizeof *to);
            else
                for (v = first; v < last; v++, from += f->channels, to += share)
                    memcpy(to, from, (size_t)share * sizeof *to);
        }
        if (++j == f->out_width)
            j = 0, i++;
    }
}
