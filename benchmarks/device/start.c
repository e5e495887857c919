/* Start-up on qemu's mps2 boards; prints by semihosting, and ends qemu with main's answer. */
#include <stdint.h>

extern uint32_t bss_start, bss_end, stack_top;
int main(void);
void Reset_Handler(void);
int _write(int file, const char *text, int length);

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {&stack_top, (void *)Reset_Handler};

static void semihosting(int what, const void *block)
{
    register int r0 __asm("r0") = what;
    register const void *r1 __asm("r1") = block;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

int _write(int file, const char *text, int length)
{
    int k;
    (void)file;
    for (k = 0; k < length; k++)
        semihosting(3, text + k);
    return length;
}

void Reset_Handler(void)
{
    uint32_t *to, block[2] = {0x20026, 0};
    for (to = &bss_start; to < &bss_end;)
        *to++ = 0;
    block[1] = (uint32_t)main();
    semihosting(0x20, block);
    for (;;) /* until it has ended */
        ;
}
