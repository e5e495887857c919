/* Classifies one grey picture; fill `pixels` from a camera, [height][width][channels], as net.h says. */
#include <stdio.h>

#include "net.h"

int main(void)
{
    static uint8_t pixels[NET_PIXELS];
    int32_t scores[NET_CLASSES];
    const int found = net_run(pixels, scores);
    printf("%s, score %ld\n", net_classes[found], (long)scores[found]);
    return 0;
}
