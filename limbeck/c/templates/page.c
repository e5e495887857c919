#include "@name@.h"

void *memcpy(void *to, const void *from, unsigned long size);
void *memmove(void *to, const void *from, unsigned long size);
void *memset(void *to, int value, unsigned long size);

static uint8_t pixels[@NAME@_PIXELS];
static int32_t scores[@NAME@_CLASSES];

uint8_t *page_pixels(void) { return pixels; }
int32_t *page_scores(void) { return scores; }
int page_run(void) { return @name@_run(pixels, scores); }

void *memcpy(void *to, const void *from, unsigned long size) { return memmove(to, from, size); }

void *memmove(void *to, const void *from, unsigned long size)
{
    unsigned char *a = (unsigned char *)to;
    const unsigned char *b = (const unsigned char *)from;
    if (a <= b)
        for (; size > 0; size--)
            *a++ = *b++;
    else
        for (; size > 0; size--)
            a[size - 1] = b[size - 1];
    return to;
}

void *memset(void *to, int value, unsigned long size)
{
    unsigned char *a = (unsigned char *)to;
    for (; size > 0; size--)
        *a++ = (unsigned char)value;
    return to;
}
