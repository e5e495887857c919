/* -DLIMBECK_PLAIN leaves instructions of one processor out: the integers are the same. */
#if defined(LIMBECK_PLAIN)
#define TILE 1 /* output pixels of a convolution at once */
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>
#define VNNI
#define TILE 8
#elif defined(__AVX2__)
#include <immintrin.h>
#define AVX2
#define TILE 8
#elif defined(__SSE4_1__)
#include <smmintrin.h>
#define SSE4
#define TILE 8
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#define NEON
#define TILE 8
#elif defined(__ARM_FEATURE_DSP)
#include <arm_acle.h>
#define DSP
#define TILE 1
#else
#define TILE 1
#endif
#define UNROLL _Pragma("GCC unroll 8")
