/* Every stride-th pixel, and zeros for the channels that it doesn't have. */
static void shortcut_@tag@(const struct frame *f, int outs, const @x@ *x, @x@ *y)
{
    int i, j;
    for (i = 0; i < f->out_height; i++) {
        for (j = 0; j < f->out_width; j++, y += outs) {
            const @x@ *from = x + (i * f->width + j) * f->stride * f->channels;
            memmove(y, from, (size_t)f->channels * sizeof *y);
            memset(y + f->channels, 0, (size_t)(outs - f->channels) * sizeof *y);
        }
    }
}
