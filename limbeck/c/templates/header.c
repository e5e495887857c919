/*
 * @name@.h: a classifier of @channels@x@height@x@width@ pixels into @classes@ classes, by Limbeck @version@.
 *
 * Pixels are uint8, [height][width][channels] from the upper left corner, @kind@, not normalised. Of a picture take
 * @crop@, and resize it to @height@ rows of @width@ (@filter@).@white@ Scores lie from @low@ to @high@; one unit stands for
 * @scale@ of the net's logits.
 * @seal@
 */
#ifndef @NAME@_H
#define @NAME@_H

#include <stdint.h>

#define @NAME@_CHANNELS @channels@
#define @NAME@_HEIGHT @height@
#define @NAME@_WIDTH @width@
#define @NAME@_PIXELS (@NAME@_CHANNELS * @NAME@_HEIGHT * @NAME@_WIDTH)
#define @NAME@_CLASSES @classes@
#define @NAME@_ARENA @arena@ /* bytes of RAM */
#define @NAME@_TABLES @tables@ /* bytes of flash; code comes on top */

#ifdef __cplusplus
extern "C" {
#endif

extern const char *const @name@_classes[@NAME@_CLASSES];

/* Writes the score of each class and returns the class with the largest. Not for two threads at once. */
int @name@_run(const uint8_t *pixels, int32_t *scores);

#ifdef __cplusplus
}
#endif

#endif
