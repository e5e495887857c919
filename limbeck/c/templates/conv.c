/* Convolutions: weights lie in blocks of up to 16 outputs, [taps / 4][outputs][4], taps being [rows][columns][channels];
 * a border adds ticks * table[row class][column class][output]. */
struct conv_@a@ {
    struct frame frame;
    int groups, outs;
    const void *weight;
    struct requant_@a@ requant;
    const void *border;
    const uint16_t *border_rows, *border_columns;
    int border_classes, ticks;
};
