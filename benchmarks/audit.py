"""Does an audit's 95% interval cover the truth? Simulated audits of a net on images whose labels are known.

    OMP_NUM_THREADS=1 python benchmarks/audit.py MODEL --data digits:mnist --split train --audits 100

Each audit draws its images as `limbeck audit` does, and is answered by the labels. Beside it: as many images drawn
evenly, with Wilson's interval. Prints a table: images asked, audits whose interval covers the truth, its mean width.
"""

import argparse

import numpy as np

from limbeck.artefacts.models import load_model
from limbeck.deploy.audit import Group, draw, estimate
from limbeck.images.sources import open_source
from limbeck.learn.evaluate import answers
from limbeck.page.values import wilson
from limbeck.training.sets import judged


def main() -> None:
    """Simulate, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", nargs="+", type=int, default=[20, 50, 100])
    parser.add_argument("--audits", type=int, default=100)
    given = parser.parse_args()
    net, source = load_model(given.model), open_source(given.data, given.split)
    found = answers(net, judged(net, source, 64))
    shares = found.logits.double().softmax(1)
    right = (shares.argmax(1) == found.labels).numpy()
    confidence, truth = shares.max(1).values.numpy(), right.mean()
    print(f"{len(right):,} images, {truth:.1%} right, mean confidence {confidence.mean():.1%}")
    print("| images asked | covered | width | covered, evenly drawn | width |\n|---:|---:|---:|---:|---:|")
    for images in given.images:
        audits, even = [], []
        for seed in range(given.audits):
            generator = np.random.default_rng(seed)
            drawn = draw(confidence, images, generator)
            audits.append(estimate([Group(size, len(own), int(right[own].sum())) for size, own in drawn])[1])
            even.append(wilson(right[generator.choice(len(right), images, replace=False)].mean(), images))
        cells = []
        for ends in (audits, even):
            cells += [f"{sum(low <= truth <= high for low, high in ends)} of {given.audits}"]
            cells += [f"{100 * np.mean([high - low for low, high in ends]):.1f} points"]
        print(f"| {images} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
