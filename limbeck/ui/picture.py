"""Pictures that strangers send: limited in bytes, pixels and formats, then read as those of a data set are."""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image

from limbeck.errors import InputError
from limbeck.images.images import bombs_raise, decoding, formats, look, open_image, to_channels
from limbeck.images.source import Source
from limbeck.images.views import Augment, draw, render_image
from limbeck.ui.shift import Pixels

LARGEST_BYTES = 10_000_000
LARGEST_PIXELS = 50_000_000


class TooLargeError(InputError):
    """More bytes or pixels than are taken."""


@dataclass(frozen=True)
class Picture:
    """A picture that can be looked at more than once."""

    read: Callable[[int], Image.Image]  # mode RGB, upright, pixels not decoded yet; its argument is the value of white
    height: int  # pixels
    width: int
    label: str = ""  # its class, where that is known
    name: str = ""


def uploaded(data: bytes) -> Picture:
    """Return the picture in a file's bytes; InputError or TooLargeError where it can't be used."""
    if not data:
        raise InputError("no image was sent; drop, pick or draw one")
    if len(data) > LARGEST_BYTES:
        raise too_many_bytes()
    try:
        with bombs_raise(), Image.open(io.BytesIO(data), formats=formats()) as image:
            pixels = image.width * image.height
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        pixels = LARGEST_PIXELS + 1
    except Exception as error:  # decoders raise anything
        raise InputError(f"that is not an image of a known kind ({', '.join(formats())}); choose another") from error
    if pixels > LARGEST_PIXELS:
        raise TooLargeError(f"the image has more than {LARGEST_PIXELS:,} pixels; make it smaller and send it again")
    with _decoding():
        header = look(io.BytesIO(data))
    return Picture(lambda white: open_image(data, 3, white), header.height, header.width)


def too_many_bytes() -> TooLargeError:
    """Return what to raise of a body that is over the limit, whether it was read or not."""
    return TooLargeError(f"the image has more than {LARGEST_BYTES:,} bytes; make it smaller and send it again")


@contextlib.contextmanager
def _decoding() -> Iterator[None]:
    """Turn whatever a decoder raises into an InputError for the person at the page."""
    try:
        with decoding("the image"):
            yield
    except InputError as error:
        raise InputError(f"{str(error).partition(';')[0]}; choose another") from error


def of_source(source: Source, number: int) -> Picture:
    """Return image `number` of a source, with its label; InputError where there is no such image."""
    if not 0 <= number < len(source):
        raise InputError(f"there is no image {number}; there are {len(source)}")
    height, width = (int(side) for side in source.sizes[number])
    label = "" if source.labels is None else source.classes[int(source.labels[number])]
    read = lambda white: to_channels(source.read(number, white=white), 3)  # noqa: E731
    return Picture(read, height, width, label=label, name=source.keys[number])


def view_of(picture: Picture, sight: Augment) -> Pixels:
    """Return what a net that is judged by the view `sight` is to see, uint8 [3, size, size]."""
    box = draw(sight, (picture.height, picture.width), seed=0, epoch=0, indices=[0]).boxes[0].numpy()
    with _decoding():
        return render_image(picture.read(sight.white), box, False, sight.size, sight.interpolation)
