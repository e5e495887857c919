/* The windows of `count` output pixels, `length` values each, 0 outside the map and after the last tap. */
static void gather_@tag@(const struct frame *f, const @x@ *x, int pixel, int count, int channel, int share, int length,
                         @x@ *window)
{
    for (; count > 0; count--, pixel++, window += length) {
        const int row = pixel / f->out_width * f->stride - f->top;
        const int column = pixel % f->out_width * f->stride - f->left;
        const int first = larger(0, -column), last = smaller(f->columns, f->width - column);
        int u, v;
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
    }
}
