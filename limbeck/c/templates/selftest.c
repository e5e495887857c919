#ifdef LIMBECK_SELFTEST
#include <stdio.h>

/* Images of noise, and the Program's scores of them. */
int main(void)
{
    static const int32_t expected[@images@][@NAME@_CLASSES] = {
@rows@
    };
    static uint8_t pixels[@NAME@_PIXELS];
    uint32_t state = 1;
    int image, k, wrong = 0;
    for (image = 0; image < @images@; image++) {
        int32_t scores[@NAME@_CLASSES];
        for (k = 0; k < @NAME@_PIXELS; k++) {
            state = state * 1664525u + 1013904223u;
            pixels[k] = (uint8_t)(state >> 24);
        }
        (void)@name@_run(pixels, scores);
        for (k = 0; k < @NAME@_CLASSES; k++)
            wrong += scores[k] != expected[image][k];
    }
    puts(wrong ? "@name@: FAIL" : "@name@: pass");
    return wrong != 0;
}
#endif
