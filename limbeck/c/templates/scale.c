/* A map times a value for each channel. */
struct scale_@a@ {
    int channels, pixels;
    struct requant_@a@ requant;
};
