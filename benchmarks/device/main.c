/* Prints a hash of the scores of some images of noise; on a Cortex-M in qemu (mps2) the instructions of one too. */
#include <stdint.h>
#include <stdio.h>

#include "net.h"

#define IMAGES 4
#if defined(__arm__) && defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#define SYSTICK ((volatile uint32_t *)0xE000E010) /* 25 MHz: 40 instructions a tick with -icount shift=0 */
#endif

int main(void)
{
    static uint8_t pixels[NET_PIXELS];
    int32_t scores[NET_CLASSES];
    uint32_t state = 1, hash = 2166136261u;
    int image, k;
    for (image = 0; image < IMAGES; image++) {
        for (k = 0; k < NET_PIXELS; k++) {
            state = state * 1664525u + 1013904223u;
            pixels[k] = (uint8_t)(state >> 24);
        }
#ifdef SYSTICK
        SYSTICK[1] = 0xFFFFFF; /* 24 bits: 671 million instructions */
        SYSTICK[2] = 0;
        SYSTICK[0] = 5;
#endif
        (void)net_run(pixels, scores);
#ifdef SYSTICK
        state = image ? state : (printf("instructions %lu\n", 40ul * (0xFFFFFF - SYSTICK[2])), state);
#endif
        for (k = 0; k < NET_CLASSES; k++)
            hash = (hash ^ (uint32_t)scores[k]) * 16777619u;
    }
    printf("scores %08lx\n", (unsigned long)hash);
    return 0;
}
