// Drives the simulated accelerator's ports as commands on stdin say, and answers on stdout; both are 32-bit words.
// What the simulation itself prints, a broken assertion too, goes to stderr.
//
//   1 n (address data)*n              write registers                           -> responses that were not OKAY
//   2 address                         read a register                           -> data
//   3 beats scores (data last)*beats  send pixels, take scores                  -> taken cycles broken (data last)*taken
//   4 seed pixels scores axi          percent of cycles in which each port is stalled
//   5 limit                           cycles without a score after which a transfer is given up
//   6                                 reset
//
// broken counts breaches of AXI4-Stream since the last transfer: a beat that was offered and then changed or withdrawn.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "Vlimbeck.h"
#include "verilated.h"

static Vlimbeck* dut;
static FILE* answers;
static std::mt19937 dice;
static uint32_t stall_pixels, stall_scores, stall_axi, limit_cycles = 1000000;
static uint64_t cycles, broken;
static bool offered;
static uint32_t offered_data, offered_last;

static bool stalled(uint32_t percent) { return percent && dice() % 100 < percent; }

static void tick() {
  dut->aclk = 0;
  dut->eval();
  if (offered && (!dut->m_axis_tvalid || dut->m_axis_tdata != offered_data || dut->m_axis_tlast != offered_last)) broken++;
  offered = dut->m_axis_tvalid && !dut->m_axis_tready;
  offered_data = dut->m_axis_tdata;
  offered_last = dut->m_axis_tlast;
  dut->aclk = 1;
  dut->eval();
  cycles++;
}

// What the ports show before the clock edge that tick() makes.
static void settle() {
  dut->aclk = 0;
  dut->eval();
}

static void reset() {
  uint64_t before = broken;  // a reset withdraws what is offered
  dut->s_axi_awvalid = dut->s_axi_wvalid = dut->s_axi_bready = dut->s_axi_arvalid = dut->s_axi_rready = 0;
  dut->s_axis_tvalid = dut->m_axis_tready = 0;
  dut->aresetn = 0;
  for (int i = 0; i < 80; i++) tick();
  dut->aresetn = 1;
  offered = false;
  broken = before;
  tick();
}

static uint32_t write_register(uint32_t address, uint32_t data) {
  bool address_sent = false, data_sent = false;
  for (uint32_t n = 0; n < limit_cycles; n++) {
    dut->s_axi_awvalid = !address_sent && (dut->s_axi_awvalid || !stalled(stall_axi));
    dut->s_axi_wvalid = !data_sent && (dut->s_axi_wvalid || !stalled(stall_axi));
    dut->s_axi_awaddr = address;
    dut->s_axi_wdata = data;
    dut->s_axi_wstrb = 15;
    dut->s_axi_bready = !stalled(stall_axi);
    settle();
    bool aw = dut->s_axi_awvalid && dut->s_axi_awready, w = dut->s_axi_wvalid && dut->s_axi_wready;
    bool b = dut->s_axi_bvalid && dut->s_axi_bready;
    uint32_t response = dut->s_axi_bresp;
    tick();
    if (aw) address_sent = true, dut->s_axi_awvalid = 0;
    if (w) data_sent = true, dut->s_axi_wvalid = 0;
    if (b) return dut->s_axi_bready = 0, response;
  }
  return 99;
}

static uint32_t read_register(uint32_t address) {
  bool sent = false;
  for (uint32_t n = 0; n < limit_cycles; n++) {
    dut->s_axi_arvalid = !sent && (dut->s_axi_arvalid || !stalled(stall_axi));
    dut->s_axi_araddr = address;
    dut->s_axi_rready = !stalled(stall_axi);
    settle();
    bool ar = dut->s_axi_arvalid && dut->s_axi_arready, r = dut->s_axi_rvalid && dut->s_axi_rready;
    uint32_t data = dut->s_axi_rdata;
    tick();
    if (ar) sent = true, dut->s_axi_arvalid = 0;
    if (r) return dut->s_axi_rready = 0, data;
  }
  return 0xdeadbeef;
}

static std::vector<uint32_t> get(size_t n) {
  std::vector<uint32_t> words(n);
  if (n && fread(words.data(), 4, n, stdin) != n) exit(0);
  return words;
}

static void put(const std::vector<uint32_t>& words) {
  fwrite(words.data(), 4, words.size(), answers);
  fflush(answers);
}

static void transfer(uint32_t beats, uint32_t scores) {
  std::vector<uint32_t> pixels = get(2 * (size_t)beats), taken;
  uint64_t began = cycles, last_taken = cycles;
  size_t sent = 0;
  while ((taken.size() < 2 * (size_t)scores || sent < beats) && cycles - last_taken < limit_cycles) {
    dut->s_axis_tvalid = sent < beats && (dut->s_axis_tvalid || !stalled(stall_pixels));
    if (sent < beats) dut->s_axis_tdata = pixels[2 * sent], dut->s_axis_tlast = pixels[2 * sent + 1];
    dut->m_axis_tready = !stalled(stall_scores);
    settle();
    bool in = dut->s_axis_tvalid && dut->s_axis_tready, out = dut->m_axis_tvalid && dut->m_axis_tready;
    if (out) taken.push_back(dut->m_axis_tdata), taken.push_back(dut->m_axis_tlast), last_taken = cycles;
    tick();
    if (in) sent++, last_taken = cycles, dut->s_axis_tvalid = 0;
  }
  dut->s_axis_tvalid = 0;
  dut->m_axis_tready = 0;
  std::vector<uint32_t> answer = {(uint32_t)(taken.size() / 2), (uint32_t)(cycles - began), (uint32_t)broken};
  broken = 0;
  answer.insert(answer.end(), taken.begin(), taken.end());
  put(answer);
}

int main(int argc, char** argv) {
  Verilated::commandArgs(argc, argv);
  answers = fdopen(dup(1), "wb");
  dup2(2, 1);
  dut = new Vlimbeck;
  reset();
  for (;;) {
    switch (get(1)[0]) {
      case 1: {
        uint32_t n = get(1)[0], bad = 0;
        std::vector<uint32_t> writes = get(2 * (size_t)n);
        for (uint32_t i = 0; i < n; i++) bad += write_register(writes[2 * i], writes[2 * i + 1]) != 0;
        put({bad});
        break;
      }
      case 2: put({read_register(get(1)[0])}); break;
      case 3: {
        std::vector<uint32_t> sizes = get(2);
        transfer(sizes[0], sizes[1]);
        break;
      }
      case 4: {
        std::vector<uint32_t> stalls = get(4);
        dice.seed(stalls[0]);
        stall_pixels = stalls[1], stall_scores = stalls[2], stall_axi = stalls[3];
        break;
      }
      case 5: limit_cycles = get(1)[0]; break;
      case 6: reset(); break;
      default: return 2;
    }
  }
}
