static void scale_@tag@(const struct scale_@a@ *s, const @x@ *x, const @g@ *gate, @y@ *y)
{
    int pixel, first, k;
    for (pixel = 0; pixel < s->pixels; pixel++, x += s->channels, y += s->channels) {
        for (first = 0; first < s->channels; first += BLOCK) {
            const int n = smaller(BLOCK, s->channels - first);
            int@a@_t sums[1][BLOCK];
            for (k = 0; k < n; k++)
                sums[0][k] = (int@a@_t)x[first + k] * gate[first + k];
            finish_@finish@(&s->requant, first, n, ROWS(int@a@_t, sums), 1, s->channels, y + first);
        }
    }
}
