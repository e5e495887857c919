/* The taps of a depthwise window that lie inside the map: where their values and weights are. */
struct taps {
    int top, bottom, left, right; /* of the window; at first there are none */
    int count, value[TAPS], weight[TAPS];
};

static inline void inside(struct taps *taps, const struct frame *f, int row, int column)
{
    const int top = larger(0, -row), bottom = smaller(f->rows, f->height - row);
    const int left = larger(0, -column), right = smaller(f->columns, f->width - column);
    int u, v;
    if (top == taps->top && bottom == taps->bottom && left == taps->left && right == taps->right)
        return;
    taps->top = top, taps->bottom = bottom, taps->left = left, taps->right = right;
    taps->count = 0;
    for (u = top; u < bottom; u++) {
        for (v = left; v < right; v++) {
            taps->value[taps->count] = (u * f->width + v) * f->channels;
            taps->weight[taps->count++] = (u * f->columns + v) * f->channels;
        }
    }
}
