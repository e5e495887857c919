#include "@name@.h"
#include <string.h>

#ifdef __cplusplus
#define RESTRICT
#else
#define RESTRICT restrict
#endif

typedef char right_shifts_are_arithmetic[(-1 >> 1) == -1 ? 1 : -1];
typedef char int_has_32_bits[sizeof(int) >= 4 ? 1 : -1];

#define BLOCK 16 /* outputs, or channels, at once */
#define TAPS 64  /* of a depthwise window, at most */
@simd@
/* Maps are [height][width][channels] and lie in one arena; its plan lets them overlap where that is exact. */
static union {
    int64_t alignment;
    unsigned char bytes[@NAME@_ARENA];
} arena;
#define S8(at) ((int8_t *)(void *)(arena.bytes + (at)))
#define S16(at) ((int16_t *)(void *)(arena.bytes + (at)))
#define S32(at) ((int32_t *)(void *)(arena.bytes + (at)))

/* C lets constant rows stand for rows only by a cast. */
#define ROWS(type, sums) ((const type(*)[BLOCK])(sums))

/* A window of rows x columns that goes over a map. */
struct frame {
    int channels, height, width;
    int rows, columns, stride, top, left;
    int out_height, out_width;
};

static inline int smaller(int a, int b) { return a < b ? a : b; }
static inline int larger(int a, int b) { return a > b ? a : b; }
