"""Encoded images -> uint8 pixels, by a deterministic transform."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.nn import functional

from lotus_ray.base.errors import DataError

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Transform:
    """Resize the shorter side, crop the centre; normalisation follows on the device.

    `img_size` is in pixels. `crop_pct` is the share of the resized image that the crop keeps.
    `mean` and `std` are for pixels in [0, 1], one value per channel. The decoder "exact" gives the
    pixels of torchvision with Pillow. The decoder "fast" applies to JPEG and is twice as fast on
    one thread; it differs from "exact" by at most one of 255 levels, or two with bicubic.
    """

    img_size: int
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    decoder: str = "exact"

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of a decoded image: channels, height, width."""
        return 3, self.img_size, self.img_size

    @property
    def image_bytes(self) -> int:
        """The size of a decoded image, in bytes."""
        return math.prod(self.shape)

    def spec(self) -> dict[str, object]:
        """Return the fields as plain values, for the cell id."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}


def decode(encoded: bytes, transform: Transform, where: str) -> np.ndarray:
    """Decode one image to RGB and transform it.

    Args:
        encoded: PNG, JPEG or any format that Pillow reads.
        transform: size, crop and filter.
        where: sample id and file, for the error.

    Returns:
        uint8 [img_size, img_size, 3].

    Raises:
        DataError: the bytes are not an image, or the image is suspiciously large.

    Source: torchvision's Resize + CenterCrop. Deviation: none for "exact"; for "fast" see
        `Transform`.
    """
    if not encoded:
        raise DataError("an image cannot be decoded: it is no image, and has no bytes", where=where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded)) as image:
                is_plain = image.format == "JPEG" and image.mode in ("RGB", "L")
                if transform.decoder == "fast" and is_plain:
                    return _fast(encoded, image.size, transform)
                pixels = _resized(_rgb(image), transform)
    except UnidentifiedImageError as error:
        raise DataError("an image cannot be decoded: it is no image", where=where) from error
    except Exception as error:  # bad bytes can make a decoder raise any error
        raise DataError(f"an image cannot be decoded: {error}", where=where) from error
    return np.asarray(pixels)


def decode_all(
    encoded: Sequence[bytes], transform: Transform, where: Sequence[str], threads: int = 1
) -> np.ndarray:
    """Decode N images to uint8 [N, 3, H, W].

    Args:
        encoded: N encoded images.
        transform: size, crop and filter.
        where: sample id and file of each, for errors.
        threads: that decode.

    Raises:
        DataError: see `decode`.
    """
    pixels = np.empty((len(encoded), *transform.shape), dtype=np.uint8)

    def put(index: int) -> None:
        pixels[index] = decode(encoded[index], transform, where[index]).transpose(2, 0, 1)

    if threads == 1:
        for index in range(len(encoded)):
            put(index)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(put, range(len(encoded))))
    return pixels


def _fast(encoded: bytes, size: tuple[int, int], transform: Transform) -> np.ndarray:
    """Decode a JPEG and resize it with torch. Its antialiased filters round to integers too."""
    import simplejpeg

    # Channels last in memory: the layout that torch's vectorised filter needs.
    image = torch.from_numpy(simplejpeg.decode_jpeg(encoded, "RGB")).permute(2, 0, 1)[None]
    width, height = _resized_shape(*size, transform)
    if (width, height) != size:
        image = functional.interpolate(
            image, size=(height, width), mode=transform.interpolation, antialias=True
        )
    left, top = _corner(width, height, transform)
    side = transform.img_size
    pixels: np.ndarray = image[0, :, top : top + side, left : left + side].permute(1, 2, 0).numpy()
    return pixels


def _rgb(image: Image.Image) -> Image.Image:
    """Return 8-bit RGB. Refuse modes that Pillow would clip."""
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"mode {image.mode} has more than 8 bits a channel")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _resized(image: Image.Image, transform: Transform) -> Image.Image:
    shape = _resized_shape(*image.size, transform)
    if shape != image.size:
        image = image.resize(shape, _FILTERS[transform.interpolation])
    left, top = _corner(*shape, transform)
    size = transform.img_size
    if (left, top, *shape) == (0, 0, size, size):
        return image
    return image.crop((left, top, left + size, top + size))


def _resized_shape(width: int, height: int, transform: Transform) -> tuple[int, int]:
    """Return width and height after resizing, before the crop."""
    shorter = int(transform.img_size / transform.crop_pct)
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def _corner(width: int, height: int, transform: Transform) -> tuple[int, int]:
    """Return left and top of the crop."""
    return round((width - transform.img_size) / 2), round((height - transform.img_size) / 2)
