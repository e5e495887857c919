"""The integer program: run equals a direct int64 implementation, files give back what was saved."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as tensors_of
from safetensors.numpy import save as serialise

from limbeck.errors import InputError
from limbeck.integer import file
from limbeck.integer.program import (
    STAGES,
    Border,
    Conv,
    Depthwise,
    GlobalAverage,
    Input,
    MaxPool,
    Narrow,
    Ode,
    Pointwise,
    Program,
    Requant,
    Residual,
    run,
    trace,
)
from limbeck.integer.survey import stored, survey

# --- an independent implementation, in loops over int64 [N, C, H, W] ---------------------------------------------


def direct(program, images, accumulators=None):
    """Yield every map; collect every partial sum's largest magnitude by layer name in `accumulators`."""
    x = images.astype(np.int64) - 128
    yield x
    for layer in program.layers:
        for y in direct_layer(layer, x, 0, accumulators):
            yield y
        x = y


def direct_layer(layer, x, evaluation, log):  # noqa: C901 - a case a layer
    match layer:
        case Residual():
            k = x
            for inner in layer.field:
                (k,) = direct_layer(inner, k, 0, log)
                yield k
            short = np.zeros_like(k)
            short[:, : x.shape[1]] = x[:, :, :: layer.stride, :: layer.stride]
            z = clip(short + k, layer.bits)
            yield np.where(z < 0, 0, z) if layer.relu else z
        case Ode():
            evaluation = 0
            for _ in range(layer.steps):
                start, end = x, x
                for number, (a, b) in enumerate(STAGES[layer.solver]):
                    k = start
                    for inner in layer.field:
                        (k,) = direct_layer(inner, k, evaluation, log)
                        yield k
                    start, end = clip(x + a * k, layer.bits), clip(end + b * k, layer.bits)
                    evaluation += 1
                    yield end if number == len(STAGES[layer.solver]) - 1 else start
                x = end
        case Narrow():
            yield clip((x + (1 << layer.shift >> 1)) >> layer.shift, layer.bits)
        case MaxPool():
            yield direct_pool(layer, x)
        case GlobalAverage():
            yield direct_requant(layer, np.abs(x).sum((2, 3)), x.sum((2, 3))[:, :, None, None], evaluation, log)
        case Pointwise():
            yield direct_conv(layer, layer.weight[:, :, None, None], x, 1, 0, 1, evaluation, log)
        case Depthwise():
            weight = layer.weight[:, None]
            yield direct_conv(layer, weight, x, layer.stride, layer.padding, len(weight), evaluation, log)
        case Conv():
            yield direct_conv(layer, layer.weight, x, layer.stride, layer.padding, 1, evaluation, log)


def direct_pool(layer, x):
    n, c, h, w = x.shape
    out = [(side + 2 * layer.padding - layer.size) // layer.stride + 1 for side in (h, w)]
    y = np.empty((n, c, *out), np.int64)
    for i in range(out[0]):
        for j in range(out[1]):
            top, left = i * layer.stride - layer.padding, j * layer.stride - layer.padding
            window = x[:, :, max(top, 0) : top + layer.size, max(left, 0) : left + layer.size]
            y[:, :, i, j] = window.max((2, 3))
    return y


def direct_conv(layer, weight, x, stride, padding, groups, evaluation, log):
    o, i, k, _ = weight.shape
    n, c, h, w = x.shape
    padded = np.zeros((n, c, h + 2 * padding, w + 2 * padding), np.int64)
    padded[:, :, padding : padding + h, padding : padding + w] = x
    height, width = (h + 2 * padding - k) // stride + 1, (w + 2 * padding - k) // stride + 1
    acc = np.zeros((n, o, height, width), np.int64)
    largest = np.zeros_like(acc)
    for y in range(height):
        for z in range(width):
            window = padded[:, :, y * stride : y * stride + k, z * stride : z * stride + k]
            window = window.reshape(n, groups, 1, i * k * k)
            products = weight.reshape(1, groups, o // groups, i * k * k) * window
            acc[:, :, y, z] = products.sum(-1).reshape(n, o)
            largest[:, :, y, z] = np.abs(products).sum(-1).reshape(n, o)
    return direct_requant(layer, largest, acc, evaluation, log)


def direct_requant(layer, largest, acc, evaluation, log):
    r = layer.requant
    acc = acc + r.offset[evaluation if len(r.offset) > 1 else 0][:, None, None]
    if r.border is not None:
        ticks = r.border.ticks[evaluation if len(r.border.ticks) > 1 else 0]
        for y in range(acc.shape[2]):
            for z in range(acc.shape[3]):
                acc[:, :, y, z] += ticks * r.border.table[:, r.border.rows[y], r.border.columns[z]]
    if log is not None:
        seen = max(int(np.abs(acc).max()), int(largest.max()))
        log[layer.name] = max(log.get(layer.name, 0), seen)
    scaled = acc * r.mult[evaluation if len(r.mult) > 1 else 0][:, None, None]
    scaled = (scaled + (2 ** (r.shift - 1) if r.shift else 0)) // 2**r.shift
    return np.clip(scaled, 0 if r.relu else -(2 ** (r.bits - 1)), 2 ** (r.bits - 1) - 1)


def clip(x, bits):
    return np.clip(x, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


# --- random programs ---------------------------------------------------------------------------------------------


class Maker:
    """Draws layers; `extreme` takes weights, tables and pixels from the ends of their ranges."""

    def __init__(self, seed, bits, extreme, weight_bits=None):
        self.rng, self.bits, self.extreme, self.count = np.random.default_rng(seed), bits, extreme, 0
        self.weights = weight_bits or bits

    def name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    def weight(self, *shape):
        high = 2 ** (self.weights - 1) - 1
        if self.extreme:
            return self.rng.choice([-high, high], shape).astype(np.int64)
        return self.rng.integers(-high, high + 1, shape)

    def requant(self, taps, size, *, rows=1, bits=None, relu=False, border=False):
        channels = size[0]
        bits = bits or self.bits
        spread = np.sqrt(taps) * 2.0 ** (self.bits + self.weights - 3)
        ratio = 2.0 ** (bits - 2) / spread
        shift = int(np.clip(15 - np.floor(np.log2(ratio)), 0, 46))
        low = 0 if self.extreme else 1 << 13
        return Requant(
            self.rng.integers(-int(spread), int(spread) + 1, (rows, channels)),
            self.rng.integers(low, 1 << 16, (rows, channels)),
            shift,
            bits,
            relu,
            (1.0,),
            self.border(size, spread, rows) if border else None,
        )

    def border(self, size, spread, ticks):
        table = self.rng.integers(-int(spread), int(spread) + 1, (size[0], 3, 2))
        rows, columns = self.rng.integers(0, 3, size[1]), self.rng.integers(0, 2, size[2])
        return Border(table, rows, columns, tuple(int(t) for t in self.rng.integers(0, 4, ticks)))

    def field(self, size, *, out=None, stride=1, rows=1, state=16, dense=False):
        c, h, w = size
        small = (-(-h // stride), -(-w // stride))
        out = out or c
        if dense:
            yield Narrow(self.name("narrow"), int(self.rng.integers(0, 9)), self.bits)
            weight = self.weight(out, c, 3, 3)
            requant = self.requant(9 * c, (out, *small), rows=rows, bits=state, border=rows > 1)
            yield Conv(self.name("conv"), weight, self.weights, stride, 1, requant)
        else:
            yield Narrow(self.name("narrow"), state - self.bits, self.bits)
            yield Depthwise(
                self.name("dw"), self.weight(c, 3, 3), self.weights, stride, 1, self.requant(9, (c, *small))
            )
            requant = self.requant(c, (out, *small), rows=rows, bits=state, border=rows > 1)
            yield Pointwise(self.name("pw"), self.weight(out, c), self.weights, requant)

    def program(self, side, solver):
        c, h, w, half = 2, side, side + 1, (side + 1) // 2
        size, small = (3, h, w), (5, half, (side + 2) // 2)
        evaluations = 2 * len(STAGES[solver])
        layers = (
            Conv("stem", self.weight(3, c, 3, 3), self.weights, 1, 1, self.requant(18, size, bits=16, border=True)),
            MaxPool("pool", 3, 1, 1),
            Ode("ode", tuple(self.field(size, rows=evaluations)), 2, solver, 16),
            Residual("down", tuple(self.field(size, out=5, stride=2)), 2, 5, True, 16),
            Residual("same", tuple(self.field(small, dense=True)), 1, 5, False, 16),
            Narrow("narrow", 16 - self.bits, self.bits),
            GlobalAverage("mean", self.requant(1, (5, 1, 1))),
            Pointwise("fc", self.weight(4, 5), self.weights, self.requant(5, (4, 1, 1), bits=24)),
        )
        return Program(Input(c, h, w), layers, ("a", "b", "c", "d"))

    def images(self, count, program):
        shape = (count, program.input.channels, program.input.height, program.input.width)
        if self.extreme:
            return self.rng.choice([0, 255], shape).astype(np.uint8)
        return self.rng.integers(0, 256, shape, np.uint8)


makers = st.builds(Maker, st.integers(0, 2**32), st.sampled_from([8, 16]), st.booleans(), st.sampled_from([None, 4]))


@settings(max_examples=40, deadline=None)
@given(makers, st.integers(1, 6), st.sampled_from(sorted(STAGES)))
def test_run_is_direct_int64_arithmetic_on_every_map(maker, side, solver):
    program = maker.program(side, solver)
    images = maker.images(3, program)
    survey(program)
    maps = list(trace(program, images))
    expected = list(direct(program, images))
    assert len(maps) == len(expected)
    for (name, ours), theirs in zip(maps, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)
    np.testing.assert_array_equal(run(program, images), expected[-1][:, :, 0, 0])


@settings(max_examples=20, deadline=None)
@given(makers, st.integers(2, 5))
def test_no_accumulator_exceeds_its_proved_bound(maker, side):
    program = maker.program(side, "heun")
    seen = {}
    for _ in direct(program, maker.images(2, program), seen):
        pass
    bounds = {site.layer.name: site.bound for site in survey(program)}
    assert all(largest <= bounds[name] for name, largest in seen.items())


def test_the_bound_is_reached_by_the_worst_image():
    requant = Requant(np.array([[-5]]), np.array([[1]]), 0, 24, False, (1.0,))
    layers = (Pointwise("fc", np.array([[-127, 100]]), 8, requant),)
    program = Program(Input(2, 1, 1), layers, ("only",))
    worst = np.array([255, 0], np.uint8).reshape(1, 2, 1, 1)  # 127 and -128
    assert survey(program)[0].bound == 227 * 128 + 5
    assert run(program, worst) == -127 * 127 - 100 * 128 - 5


def test_scores_do_not_depend_on_the_batch():
    maker = Maker(1, 8, False)
    program = maker.program(5, "euler")
    images = maker.images(70, program)
    alone = np.concatenate([run(program, images[i : i + 1]) for i in range(70)])
    np.testing.assert_array_equal(run(program, images), alone)
    assert run(program, images[:0]).shape == (0, 4)


def test_images_of_another_shape_or_type_are_refused():
    program = Maker(1, 8, False).program(4, "euler")
    with pytest.raises(InputError, match=r"takes uint8 images \[N, 2, 4, 5\]; these are uint8 \[1, 2, 5, 5\]"):
        run(program, np.zeros((1, 2, 5, 5), np.uint8))
    with pytest.raises(InputError, match="these are float64"):
        run(program, np.zeros((1, 2, 4, 5)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.full((4, 5), -128)}, "smallest of fc: weights is -128; it must lie from -127 to 127"),
        ({"weight": np.zeros((4, 6), np.int64)}, r"fc: weights \(4, 6\) don't fit a map of 5 channels"),
        ({"weight": np.zeros((3, 5), np.int64)}, "fc: offsets"),
        ({"weight_bits": 9}, "fc: weight bits is 9; it must be one of 4, 8, 16"),
    ],
)
def test_a_program_that_breaks_a_limit_is_refused_by_name(change, message):
    program = Maker(1, 8, False).program(4, "euler")
    broken = replace(program, layers=(*program.layers[:-1], replace(program.layers[-1], **change)))
    with pytest.raises(InputError, match=message):
        survey(broken)


def test_an_accumulator_too_wide_is_refused_with_the_remedy():
    channels = 1 << 14
    requant = Requant(np.array([[0]]), np.array([[1]]), 0, 16, False, (1.0,))
    first = Conv(
        "wide",
        np.full((channels, 1, 1, 1), 1),
        8,
        1,
        0,
        Requant(np.zeros((1, channels), np.int64), np.ones((1, channels), np.int64), 0, 16, False, (1.0,)),
    )
    last = Pointwise("fc", np.full((1, channels), 32767), 16, requant)
    with pytest.raises(InputError, match="fc: its accumulators need 45 bits, the limit is 44; lower its weight bits"):
        survey(Program(Input(1, 1, 1), (first, last), ("only",)))


# --- files -------------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(makers, st.sampled_from(sorted(STAGES)))
def test_a_saved_program_comes_back_the_same(tmp_path_factory, maker, solver):
    path = tmp_path_factory.mktemp("program") / "x.program"
    program = replace(maker.program(4, solver), lineage={"tag": "ünïcode", "teachers": [{"tag": "a"}]})
    file.save(program, path)
    loaded = file.load(path)
    images = maker.images(2, program)
    np.testing.assert_array_equal(run(loaded, images), run(program, images))
    assert (loaded.input, loaded.classes, loaded.lineage) == (program.input, program.classes, program.lineage)
    again = path.with_suffix(".again")
    file.save(loaded, again)
    assert again.read_bytes() == path.read_bytes()


@pytest.fixture
def parts(tmp_path):
    """A good file's header and tensors, and how to load them once changed."""
    path = tmp_path / "x.program"
    file.save(Maker(3, 8, False).program(4, "euler"), path)
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["limbeck.program"])
    header.pop("seal")

    def reload(tensors, text=None):
        path.write_bytes(serialise(tensors, {"limbeck.program": json.dumps(header) if text is None else text}))
        return file.load(path)

    return header, tensors_of(raw), reload


def test_the_helper_alone_changes_nothing(parts):
    _, tensors, reload = parts
    assert reload(tensors).classes == ("a", "b", "c", "d")


def test_four_bit_weights_take_half_a_byte_in_the_file_and_on_a_device(tmp_path):
    four = Maker(1, 8, False, 4).program(4, "euler")
    layers = tuple(map(_in_eight_bits, four.layers))
    eight = replace(four, layers=layers)
    for name, program in (("4", four), ("8", eight)):
        file.save(program, tmp_path / name)
    sizes = [
        sum(t.nbytes for key, t in tensors_of((tmp_path / name).read_bytes()).items() if key.endswith("weight"))
        for name in ("4", "8")
    ]
    weights = [site.layer.weight for site in survey(four) if hasattr(site.layer, "weight")]
    assert sizes == [sum(-(-w.size // 2) for w in weights), sum(w.size for w in weights)]
    assert stored(eight) - stored(four) == sizes[1] - sizes[0]


def _in_eight_bits(layer):
    if hasattr(layer, "field"):
        return replace(layer, field=tuple(map(_in_eight_bits, layer.field)))
    return replace(layer, weight_bits=8) if hasattr(layer, "weight") else layer


def test_what_a_device_stores_is_the_sum_of_its_tables():
    requant = Requant(np.array([[300, -2]]), np.array([[1, 2]]), 0, 16, False, (1.0,))  # 2 bytes each
    program = Program(Input(3, 1, 1), (Pointwise("fc", np.ones((2, 3), np.int64), 4, requant),), ("a", "b"))
    assert stored(program) == 3 + 2 * 2 + 2 * 2


@pytest.mark.parametrize(
    "packed",
    [
        {"int4": "elsewhere", "shape": [3, 2, 3, 3]},
        {"int4": ".layers.0.weight", "shape": [3, 2, 3, 4]},
        {"int4": ".layers.0.weight", "shape": [-3, -2, 3, 3]},
        {"int4": ".layers.0.weight", "shape": [54, True]},
        {"int4": ".layers.0.weight", "shape": []},
        {"int4": ".layers.0.requant.mult", "shape": [1, 3]},
        {"int4": [], "shape": 7},
        {},
    ],
)
def test_packed_weights_that_are_not_there_are_refused(parts, packed):
    header, tensors, reload = parts
    file_of_four = {".layers.0.weight": np.zeros(27, np.uint8)}
    _first(header).update(weight_bits=4, weight={"int4": ".layers.0.weight", "shape": [3, 2, 3, 3]})
    assert reload(tensors | file_of_four).layers[0].weight_bits == 4
    _first(header).update(weight=packed)
    with pytest.raises(InputError, match=r"program\.layers\.0\.weight has no table of 4-bit integers"):
        reload(tensors | file_of_four)


def test_the_lowest_code_is_refused_in_four_bits_too(parts):
    header, tensors, reload = parts
    _first(header).update(weight_bits=4, weight={"int4": ".layers.0.weight", "shape": [3, 2, 3, 3]})
    with pytest.raises(InputError, match="smallest of stem: weights is -8; it must lie from -7 to 7"):
        reload(tensors | {".layers.0.weight": np.full(27, 0x88, np.uint8)})


def _first(header):
    return header["program"]["layers"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(version=2), "has version 2; this Limbeck reads version 1"),
        (lambda h: h.pop("version"), "is not a program file"),
        (lambda h: _first(h).update(kind="Popen"), "program.layers.0 is not Conv or"),
        (lambda h: _first(h).update(kind="Requant"), "program.layers.0 is not Conv or"),
        (lambda h: _first(h).update(extra=1), "program.layers.0 must have exactly"),
        (lambda h: _first(h).pop("stride"), "program.layers.0 must have exactly"),
        (lambda h: _first(h).update(stride=True), "program.layers.0.stride is 'True'"),
        (lambda h: _first(h).update(stride="1"), "program.layers.0.stride is '1'"),
        (lambda h: _first(h).update(stride=0), "stem: stride is 0; it must lie from 1"),
        (lambda h: _first(h).update(padding=10**9), "stem: padding is 1000000000"),
        (lambda h: _first(h).update(weight="elsewhere"), "program.layers.0.weight has no table"),
        (lambda h: _first(h)["requant"].update(shift=99), "stem: shift is 99"),
        (lambda h: _first(h)["requant"].update(scale=[float("nan")]), r"stem: scales \(nan,\) must be positive"),
        (lambda h: _first(h)["requant"].update(border=3), "program.layers.0.requant.border is not Border"),
        (lambda h: h["program"]["layers"][2].update(solver="exec"), "program.layers.2.solver is 'exec'"),
        (lambda h: h["program"]["layers"][2].update(steps=10**9), "ode: steps is 1000000000"),
        (lambda h: h["program"]["classes"].pop(), r"the program ends with a map \(4, 1, 1\)"),
        (lambda h: h["program"].update(layers=[]), "holds a tensor that no layer uses"),
        (lambda h: h["program"]["input"].update(height=10**6), "input height is 1000000"),
    ],
)
def test_a_changed_header_is_refused(parts, change, message):
    header, tensors, reload = parts
    change(header)
    with pytest.raises(InputError, match=message):
        reload(tensors)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"version": 1, "program": ' + "[" * 50_000])
def test_a_header_that_is_no_program_is_refused(parts, text):
    _, tensors, reload = parts
    with pytest.raises(InputError, match="is not a"):
        reload(tensors, text)


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        (".layers.0.weight", np.ones((3, 2, 3, 3), np.float32), "has no table of integers"),
        (".layers.0.weight", np.full((3, 2, 3, 3), -(2**63)), "weights is -9223372036854775808"),
        (".layers.0.requant.offset", np.full((1, 3), 2**62), "offsets is 4611686018427387904"),
        (".layers.0.requant.mult", np.full((1, 3), -1), "multipliers is -1"),
        (".layers.0.requant.border.rows", np.full(4, 3), "border rows is 3; it must lie from 0 to 2"),
        (".layers.0.requant.border.table", np.full((3, 3, 2), 2**60), "border table"),
        (".extra", np.ones(1, np.int8), "holds a tensor that no layer uses, .extra"),
    ],
)
def test_a_changed_table_is_refused(parts, name, table, message):
    _, tensors, reload = parts
    assert name in tensors or name == ".extra"
    with pytest.raises(InputError, match=message):
        reload(tensors | {name: table})


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "x.program"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a program file"):
        file.load(path)
    with pytest.raises(InputError, match="is missing"):
        file.load(tmp_path / "none")
