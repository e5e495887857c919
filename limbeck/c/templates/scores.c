/* The scores, and the first of the largest. */
static int best_of_@tag@(const @x@ *x, int32_t *scores)
{
    int k, best = 0;
    for (k = 0; k < @NAME@_CLASSES; k++) {
        scores[k] = x[k];
        best = x[k] > x[best] ? k : best;
    }
    return best;
}
