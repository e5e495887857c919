// The board's serial line, simulated: bytes from stdin go in over rx, bytes that come out over tx go to stdout.
#include <poll.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <deque>

#include "Vboard.h"
#include "verilated.h"

#ifndef DIVIDER
#define DIVIDER 4  // cycles per bit, the board's parameter
#endif

static Vboard* dut;

static void tick() {
  dut->clk_i = 0;
  dut->eval();
  dut->clk_i = 1;
  dut->eval();
}

// Takes what stdin has into the queue; waits for it where `wait`. False at its end.
static bool take(std::deque<uint8_t>& queue, bool wait) {
  pollfd in = {0, POLLIN, 0};
  if (poll(&in, 1, wait ? -1 : 0) <= 0) return true;
  uint8_t bytes[4096];
  ssize_t count = read(0, bytes, sizeof bytes);
  if (count <= 0) return false;
  queue.insert(queue.end(), bytes, bytes + count);
  return true;
}

int main(int argc, char** argv) {
  Verilated::commandArgs(argc, argv);
  dut = new Vboard;
  dut->rst_ni = 0;
  dut->rx_i = 1;
  for (int i = 0; i < 80; i++) tick();
  dut->rst_ni = 1;

  std::deque<uint8_t> queue;
  uint32_t sending = 0, left = 0, wait_in = 0;  // a frame, its bits from the lowest
  uint32_t received = 0, bits = 0, wait_out = 0, hold = 0;
  uint32_t quiet = 0;  // cycles without traffic
  for (uint64_t cycle = 0;; cycle++) {
    if (cycle % 256 == 0 && !take(queue, quiet > 4000000)) return 0;
    if (left == 0 && wait_in == 0 && !queue.empty()) {
      sending = 0x200u | queue.front() << 1;
      queue.pop_front();
      left = 10;
    }
    if (left && wait_in == 0) {
      dut->rx_i = sending & 1;
      sending >>= 1;
      left--;
      wait_in = DIVIDER;
    }
    if (wait_in) wait_in--;
    if (left) quiet = 0;
    tick();
    if (hold) {
      hold--;
    } else if (bits == 0 && !dut->tx_o) {
      bits = 8;
      wait_out = DIVIDER + DIVIDER / 2;
    } else if (bits && --wait_out == 0) {
      wait_out = DIVIDER;
      received = received >> 1 | (uint32_t)dut->tx_o << 7;
      if (--bits == 0) {
        uint8_t byte = received & 0xff;
        if (write(1, &byte, 1) != 1) return 0;
        hold = DIVIDER;  // until the stop bit
        quiet = 0;
      }
    }
    quiet++;
  }
}
