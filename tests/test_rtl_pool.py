"""rtl/pool.sv is the program's 3x3 max-pool with stride 2 of maps without negatives."""

import numpy as np
import pytest
from rtl import run_bench, words

BENCH = """
module bench;
  logic clk = 0;
  logic [39:0] control [0:{count}-1];
  logic [{width}-1:0] values [0:{count}-1];
  logic [{width}-1:0] v, y;
  logic [39:0] c, after;
  logic [1:0] keep = 0;
  pool #(.Px({px}), .Lanes(2), .StateW(16), .Words({words}), .Depth({depth})) dut (
      .clk_i(clk), .v_i(v), .word_i(after[7:0]), .place_i(after[23:8]), .valid_i(c[24]), .first_slot_i(c[25]),
      .last_slot_i(c[26]), .odd_slot_i(c[27]), .first_row_i(c[28]), .odd_row_i(c[29]), .last_pixel_i(c[35:32]), .y_o(y)
  );
  initial begin
    $readmemh("vectors.mem", control);
    $readmemh("values.mem", values);
    for (int i = -1; i < {count} + 2; i++) begin
      if (keep[1]) $display("%h", y);
      c = i >= 0 && i < {count} ? control[i] : 40'b0;
      after = i + 1 < {count} ? control[i+1] : 40'b0;
      v = i >= 0 && i < {count} ? values[i] : 0;
      keep = {{keep[0], c[30]}};
      #1 clk = 1;
      #1 clk = 0;
    end
    $finish;
  end
endmodule
"""


def pooled(x):
    """Return the maxima [C, ceil(H / 2), ceil(W / 2)] of 3x3 windows, by definition."""
    height, width = x.shape[1:]
    padded = np.pad(x, [(0, 0), (1, 2), (1, 2)])
    out = [
        [padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((1, 2)) for j in range(-(-width // 2))]
        for i in range(-(-height // 2))
    ]
    return np.array(out).transpose(2, 0, 1)


def by_words(x, px):
    """Yield (row, slot, word, values) of a map in the engine's order; a word is px pixels of two channels."""
    channels, height, width = x.shape
    slots = -(-width // px)
    padded = np.pad(x, [(0, 0), (0, 0), (0, slots * px - width)])
    for row in range(height):
        for slot in range(slots):
            for word in range(channels // 2):
                block = padded[2 * word : 2 * word + 2, row, slot * px : slot * px + px]
                yield row, slot, word, "".join(words(int(v), 16) for v in block.T.ravel()[::-1])


@pytest.mark.parametrize(
    ("px", "shape"),
    [
        (1, (4, 5, 6)),
        (1, (2, 4, 5)),
        (2, (4, 6, 8)),
        (2, (6, 5, 7)),
        (4, (2, 3, 9)),
        (4, (4, 4, 14)),
        (2, (2, 1, 1)),
        (1, (2, 9, 1)),
        (2, (2, 9, 2)),
        (2, (4, 9, 2)),
    ],  # a word a row: each row's maxima are read as those before are written
)
def test_a_pool_keeps_the_largest_of_each_window(tmp_path, px, shape):
    x = np.random.default_rng(sum(shape)).integers(0, 1 << 15, shape)
    channels, height, width = shape
    slots, of_pixel = -(-width // px), channels // 2
    control, values = [], []
    for row, slot, word, value in by_words(x, px):
        keep = (row % 2 == 1 or row == height - 1) and (slot % 2 == 1 or slot == slots - 1)
        flags = [True, slot == 0, slot == slots - 1, slot % 2, row == 0, row % 2, keep]
        bits = sum(int(flag) << 24 + i for i, flag in enumerate(flags)) | (width - 1) % px << 32
        control.append(words(bits | (slot // 2 * of_pixel + word) << 8 | word, 40))
        values.append(value)
    (tmp_path / "values.mem").write_text("\n".join(values))
    depth = -(-slots // 2) * of_pixel
    bench = BENCH.format(count=len(control), width=32 * px, px=px, words=of_pixel, depth=depth)
    found = [line for (line,) in run_bench(tmp_path, bench, ["pool"], vectors=control)]
    assert found == [value for *_, value in by_words(pooled(x), px)]
