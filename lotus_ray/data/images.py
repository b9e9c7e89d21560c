"""Encoded images -> uint8 pixels, by a deterministic transform."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from lotus_ray.errors import DataError

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Transform:
    """How pixels are made: resize the shorter side, crop the centre; normalise on the device.

    `img_size` in pixels; `crop_pct` is the share of the resized image that the crop keeps.
    `mean` and `std` are for pixels in [0, 1], one value a channel.
    """

    img_size: int
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def spec(self) -> dict[str, object]:
        """Return the fields as plain values, for a cell's identity."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}


def decode(encoded: bytes, transform: Transform, where: str) -> np.ndarray:
    """Decode one image to RGB and transform it.

    Args:
        encoded: PNG, JPEG or anything that Pillow reads.
        transform: size, crop and filter.
        where: sample id and file, for the error.

    Returns:
        uint8 [img_size, img_size, 3].

    Raises:
        DataError: the bytes are no image, or an image too large to be honest.

    Source: torchvision's Resize + CenterCrop. Deviation: none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded)) as image:
                pixels = _resized(_rgb(image), transform)
    except Exception as error:  # foreign bytes make a decoder raise anything
        raise DataError(f"an image cannot be decoded: {error}", where=where) from error
    return np.asarray(pixels)


def decode_all(encoded: Sequence[bytes], transform: Transform, where: Sequence[str]) -> np.ndarray:
    """Decode images to uint8 [N, H, W, 3]; `where` names each of them."""
    pixels = [decode(image, transform, name) for image, name in zip(encoded, where, strict=True)]
    size = transform.img_size
    return np.stack(pixels) if pixels else np.empty((0, size, size, 3), dtype=np.uint8)


def _rgb(image: Image.Image) -> Image.Image:
    """Return 8-bit RGB; what Pillow would clip or guess is refused or made explicit."""
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"mode {image.mode} has more than 8 bits a channel")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _resized(image: Image.Image, transform: Transform) -> Image.Image:
    size = transform.img_size
    shorter = int(size / transform.crop_pct)
    width, height = image.size
    if min(width, height) != shorter:
        if width <= height:
            shape = (shorter, int(shorter * height / width))
        else:
            shape = (int(shorter * width / height), shorter)
        image = image.resize(shape, _FILTERS[transform.interpolation])
    left = round((image.width - size) / 2)
    top = round((image.height - size) / 2)
    if (left, top, image.width, image.height) == (0, 0, size, size):
        return image
    return image.crop((left, top, left + size, top + size))
