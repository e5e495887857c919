// Made of limbeck/fpga/contract.py by `make reference`; a test compares. Included inside of modules.

/* verilator lint_off UNUSEDPARAM */  // each module uses some
localparam int WordBits = 10;  // of the number of a word among a pixel's channels

// Widths of the micro-ops.
localparam int FrontOpW = 138;
localparam int BackOpW = 74;
localparam int ResultOpW = 228;

// Latencies, in cycles.
localparam int RamCycles = 2;  // from an address to its word
localparam int WindowCycles = 2;  // from the words of three rows to their windows
localparam int TapsCycles = 1;  // from windows to the words of a dense convolution
localparam int ChainCycles = 2;  // from the first product's factors to a chain's sum, besides a cycle per lane
localparam int RequantCycles = 5;  // from an accumulator to its requantised value
localparam int RequantShiftCycles = 2;  // of these, those before the shift is taken
localparam int RequantSidesCycles = 4;  // of these, those before ReLU and width are taken
localparam int NoticeCycles = 3;  // by which the end of an accumulation comes before its sums
localparam int PoolCycles = 2;  // from a window's last values to their maximum
localparam int DropCycles = 2;  // from a value to what is written to the map
localparam int SettleCycles = 64;  // from RUN to the first pixel: what a run before left in the pipelines passes
localparam int DepthwiseTableCycles = 6;  // from windows to the accumulators of a depthwise convolution: a chain of three, and the sum of three
localparam int DepthwiseCycles = 11;  // from windows to requantised values
localparam int FrontCycles = 15;  // from the outputs of `front` to a word for `pointwise`
localparam int BackCycles = 16;  // from the outputs of `back` to the reading of a word: one more, since it was written
localparam int PointwiseCycles = 5;  // from the reading of a word to sums, besides a cycle per lane of a chain: the word, part, accumulator
localparam int AddedCycles = 7;  // from the address of a result's word to its requantised value, to which the shortcut is added
localparam int ValueCycles = 9;  // from the address of a result's word to its value: the sum with the shortcut, saturated
localparam int StartToScoreCycles = 30;  // from the end of an accumulation in `back` to its scores, besides a cycle per lane of a chain
localparam int ReadAfterWriteCycles = 32;  // from the end of an accumulation to the first read of its map, besides a cycle per lane of a chain
localparam int SumAfterSumCycles = 9;  // from the last summand's accumulation to that which reads the sum over a map

// Registers.
localparam logic [7:0] RegisterRun = 8'h00;
localparam logic [7:0] RegisterStatus = 8'h04;
localparam logic [7:0] RegisterErrors = 8'h08;
localparam logic [7:0] RegisterImages = 8'h0c;
localparam logic [7:0] RegisterInterval = 8'h10;
localparam logic [7:0] RegisterLatency = 8'h14;
localparam logic [7:0] RegisterWaitPixels = 8'h18;
localparam logic [7:0] RegisterWaitScores = 8'h1c;
localparam logic [7:0] RegisterIdentity = 8'h20;
localparam logic [7:0] RegisterLastOp = 8'h24;
localparam logic [7:0] RegisterMemory = 8'h28;
localparam logic [7:0] RegisterAddress = 8'h2c;
localparam logic [7:0] RegisterData = 8'h30;
localparam int ErrorShortFrame = 0;
localparam int ErrorLongFrame = 1;
localparam int ErrorRegister = 2;
localparam int ErrorLoad = 3;
localparam int Errors = 4;

// Memories.
localparam logic [7:0] SelectFront = 8'd0;
localparam logic [7:0] SelectBack = 8'd1;
localparam logic [7:0] SelectResult = 8'd2;
localparam logic [7:0] SelectKernel = 8'd3;
localparam logic [7:0] SelectTable = 8'd4;
localparam logic [7:0] SelectOffset = 8'd5;
localparam logic [7:0] SelectMult = 8'd6;
localparam logic [7:0] SelectWeight = 8'd16;
/* verilator lint_on UNUSEDPARAM */

// A micro-op as `front` reads it: what is read, and what becomes of it.
typedef struct packed {
  logic        final_op;      // the last micro-op of the program
  logic        image;         // reads the image, else a map
  logic        taps;          // passes on window taps, else depthwise results
  logic        stem;          // the 7x7 of the image: walks by three rows, a row of output further on
  logic        stride_2;
  logic        bottom;        // the last row's window has a row below the map
  logic        right;         // the last slot's next word is right of the map
  logic  [4:0] tap_first;     // 0 to 8: a place of the window; from 9: packed taps of the image
  logic  [4:0] tap_last;
  logic  [9:0] groups;        // channel groups of the map read, less one
  logic [11:0] rows;          // rows of the output, less one
  logic [11:0] slots;         // words in a row of the output, less one
  logic [15:0] base;          // first address of the map read
  logic [15:0] pitch;         // words from one row to the next in the same bank
  logic [15:0] kernel;        // first address of the depthwise weights
  logic [15:0] table_base;    // first address of depthwise offsets and multipliers
  logic  [5:0] shift_less_1;
  logic        relu;
  logic [15:0] gap;           // cycles to wait for what the previous micro-op has yet to write
} front_op_t;

// A micro-op as `back` reads it: what is multiplied.
typedef struct packed {
  logic [11:0] groups;      // words of an accumulation, less one
  logic [11:0] period;      // cycles of an output group, less one: at least groups, and what the last one drains in
  logic  [9:0] out_groups;  // less one
  logic [23:0] slots;       // slots in all rows, less one
  logic [15:0] weight;
} back_op_t;

// A micro-op as `result` reads it: what becomes of the sums, and where it goes.
typedef struct packed {
  logic  [9:0] out_groups;    // less one
  logic [11:0] rows;          // less one
  logic [11:0] slots;         // less one
  logic [10:0] words;         // words of a pixel's channels
  logic  [3:0] last_pixel;    // pixels of a row's last slot, less one
  logic        pool;          // keeps the largest of each 3x3, of every other row and column
  logic [15:0] map_base;      // first address of the map written
  logic [15:0] map_pitch;
  logic        write_map;
  logic [15:0] offset;
  logic [15:0] offset_pitch;  // words from one row class to the next
  logic        stem;          // one more row class, and the first columns' offsets before the others'
  logic [15:0] mult;
  logic  [5:0] shift_less_1;
  logic        relu;
  logic        narrow;        // requantises to the bits of a map
  logic        add;           // adds the shortcut
  logic        strided;       // the shortcut takes every other pixel: two words for one
  logic [15:0] short_base;    // first address of the shortcut's state
  logic [15:0] short_slot;    // words from one slot to the next
  logic [15:0] short_row;
  logic [10:0] short_words;   // words of a pixel's channels; later channels have no shortcut
  logic        write_state;
  logic [15:0] state_base;    // first address of the state written
  logic        state_relu;    // ReLU after the shortcut
  logic        state_narrow;  // saturates the sum to the bits of a map
  logic  [4:0] drop;          // bits dropped from state to map
  logic        sum;           // adds up over the map
  logic        from_sum;      // requantises the sums instead of accumulators
  logic        score;         // the result is the scores
} result_op_t;
