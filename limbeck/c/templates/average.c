/* Means of windows; with `every` they are of the places inside the map, which divide it. */
struct average_@a@ {
    struct frame frame;
    int every;
    struct requant_@a@ requant;
};
