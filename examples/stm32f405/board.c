/* Start-up, and stdout on USART1 (PA9, 115200 baud) with the 16 MHz oscillator that the chip starts with. */
#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define RCC_AHB1ENR REGISTER(0x40023830)
#define RCC_APB2ENR REGISTER(0x40023844)
#define GPIOA_MODER REGISTER(0x40020000)
#define GPIOA_AFRH REGISTER(0x40020024)
#define USART1_SR REGISTER(0x40011000)
#define USART1_DR REGISTER(0x40011004)
#define USART1_BRR REGISTER(0x40011008)
#define USART1_CR1 REGISTER(0x4001100C)

extern uint32_t _estack, _sidata, _sdata, _edata, _sbss, _ebss;
int main(void);
int _write(int file, const char *text, int length);

static void start_usart(void)
{
    RCC_AHB1ENR |= 1u;      /* GPIOA */
    RCC_APB2ENR |= 1u << 4; /* USART1 */
    GPIOA_MODER = (GPIOA_MODER & ~(3u << 18)) | (2u << 18);
    GPIOA_AFRH = (GPIOA_AFRH & ~(15u << 4)) | (7u << 4);
    USART1_BRR = 16000000 / 115200;
    USART1_CR1 = (1u << 13) | (1u << 3); /* on, transmits */
}

int _write(int file, const char *text, int length)
{
    int k;
    (void)file;
    for (k = 0; k < length; k++) {
        while (!(USART1_SR & (1u << 7)))
            ;
        USART1_DR = (uint8_t)text[k];
    }
    return length;
}

/* Ends the emulator with main's answer, by semihosting; on the board there is nothing to go back to. */
static void left(int answer)
{
#ifdef QEMU
    const uint32_t block[2] = {0x20026, (uint32_t)answer};
    __asm volatile("mov r0, #0x20\n mov r1, %0\n bkpt 0xab" : : "r"(block) : "r0", "r1", "memory");
#endif
    (void)answer;
    for (;;)
        ;
}

void Reset_Handler(void)
{
    uint32_t *from = &_sidata, *to;
    for (to = &_sdata; to < &_edata;)
        *to++ = *from++;
    for (to = &_sbss; to < &_ebss;)
        *to++ = 0;
    start_usart();
    left(main());
}

static void stop(void)
{
    for (;;)
        ;
}

__attribute__((section(".isr_vector"), used)) static const void *const vectors[16] = {
    &_estack, (void *)Reset_Handler, (void *)stop, (void *)stop, (void *)stop, (void *)stop, (void *)stop,
};
