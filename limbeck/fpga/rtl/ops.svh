// One micro-op, as its three readers see it; limbeck/fpga/plan.py writes the same fields, the first one in the highest
// bits. Counts are one less.

typedef struct packed {
  logic        final_op;   // of the program
  logic        image;      // reads the image, else a map
  logic        taps;       // hands on window taps, else depthwise results
  logic        stem;       // the 7x7 of the image: walks by three rows, a row of output on
  logic        stride_2;
  logic        bottom;     // the last row's window has a row below the map
  logic        right;      // the last slot's next word is right of the map
  logic [ 4:0] tap_first;  // 0 to 8: a place of the window; from 9: packed taps of the image
  logic [ 4:0] tap_last;
  logic [ 7:0] groups;     // channel groups of the map read
  logic [11:0] rows;       // of the output
  logic [11:0] slots;      // words in a row of the output
  logic [15:0] base;       // of the map read
  logic [15:0] pitch;      // words from a row to the next in the same bank
  logic [15:0] weight;     // depthwise weights
  logic [15:0] table_base; // depthwise offsets and multipliers
  logic [ 5:0] shift_less_1;
  logic        relu;
  logic [15:0] gap;        // cycles to wait for what the previous op has yet to write
} front_op_t;

typedef struct packed {
  logic [11:0] groups;      // words of an accumulation
  logic [11:0] period;      // cycles of an output group: no fewer than groups, and enough to drain the one before
  logic [ 7:0] out_groups;
  logic [23:0] slots;       // in all rows
  logic [15:0] weight;
} back_op_t;

typedef struct packed {
  logic [ 7:0] out_groups;
  logic [11:0] rows;
  logic [11:0] slots;
  logic [ 8:0] words;        // of a pixel's channels: not one less
  logic [ 3:0] last_pixel;   // the last slot's pixels: one less
  logic        pool;         // keeps the largest of each 3x3, of every other row and column
  logic [15:0] base;         // of the map written
  logic [15:0] pitch;
  logic        write_map;
  logic [15:0] offset;
  logic [15:0] offset_pitch; // from a row class to the next
  logic        wide;         // a stem's: one more row class, and the first columns' offsets before the others'
  logic [15:0] mult;
  logic [ 5:0] shift_less_1;
  logic        relu;
  logic        narrow;       // requantise to the bits of a map
  logic        add;          // the shortcut
  logic        add_twice;    // the shortcut is strided: two words for one
  logic [15:0] state;        // base of the shortcut
  logic [15:0] state_slot;   // words from a slot to the next
  logic [15:0] state_row;
  logic [ 8:0] state_words;  // of a pixel's channels; later channels have no shortcut
  logic        write_state;
  logic [15:0] state_base;   // of the state written
  logic        state_relu;
  logic        state_narrow; // saturate the sum to the bits of a map
  logic [ 4:0] drop;         // bits from state to activation
  logic        sum;          // add up over the map
  logic        from_sum;     // requantise the sums instead of accumulators
  logic        score;        // the result is the scores
} out_op_t;
