from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torchvision.transforms as tv
from PIL import Image
from sklearn.datasets import load_sample_images

from lotus_ray.base.errors import DataError
from lotus_ray.data.pixels.transform import Transform, decode, decode_all

NOISE = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, form: str = "PNG", mode: str = "RGB") -> bytes:
    """Encode uint8 [H, W, 3] as an image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format=form)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and holds no pixel."""
    chunks = b""
    for body in (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT"):
        chunks += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_an_image_of_the_right_size_keeps_every_pixel() -> None:
    found = decode(encoded(NOISE), Transform(60), "a")
    assert found.dtype == np.uint8
    assert np.array_equal(found, NOISE)


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((2, 4), slice(0, 2), slice(1, 3)),
        ((6, 2), slice(2, 4), slice(0, 2)),
        ((2, 5), slice(0, 2), slice(2, 4)),
    ],
)
def test_centre_crop_by_hand(shape: tuple[int, int], rows: slice, columns: slice) -> None:
    """Size 2: of 4 columns 1-2 stay, of 6 rows 2-3, of 5 columns 2-3 as round(1.5) = 2."""
    pixels = NOISE[: shape[0], : shape[1]]
    assert np.array_equal(decode(encoded(pixels), Transform(2), "a"), pixels[rows, columns])


def test_crop_pct_by_hand() -> None:
    """Size 4 at crop_pct 0.5 resizes to 4 / 0.5 = 8, which 8x8 already is, and keeps 2-5."""
    pixels = NOISE[:8, :8]
    found = decode(encoded(pixels), Transform(4, crop_pct=0.5), "a")
    assert np.array_equal(found, pixels[2:6, 2:6])


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("crop_pct", [1.0, 0.85])
@pytest.mark.parametrize("shape", [(60, 60), (37, 60), (60, 23), (9, 12), (1, 7)])
def test_pixels_are_those_of_torchvision(
    shape: tuple[int, int], crop_pct: float, interpolation: str
) -> None:
    pixels = NOISE[: shape[0], : shape[1]]
    expected = tv.Compose(
        [
            tv.Resize(int(21 / crop_pct), tv.InterpolationMode(interpolation)),
            tv.CenterCrop(21),
        ]
    )(Image.fromarray(pixels))
    found = decode(encoded(pixels), Transform(21, crop_pct, interpolation), "a")
    assert found.shape == (21, 21, 3)
    assert np.array_equal(found, np.asarray(expected))


def test_the_two_filters_differ() -> None:
    bicubic, bilinear = (
        decode(encoded(NOISE), Transform(21, interpolation=name), "a")
        for name in ("bicubic", "bilinear")
    )
    assert not np.array_equal(bicubic, bilinear)


def test_a_grey_image_fills_all_three_channels() -> None:
    found = decode(encoded(NOISE, mode="L"), Transform(60), "a")
    assert np.array_equal(found, np.repeat(found[..., :1], 3, axis=2))
    assert found.std() > 0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "1"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    expected = np.asarray(Image.fromarray(NOISE).convert(mode).convert("RGB"))
    assert np.array_equal(decode(encoded(NOISE, mode=mode), Transform(60), "a"), expected)


def test_a_cmyk_jpeg_is_near_its_rgb() -> None:
    """A flat colour survives JPEG within 3 of 255."""
    flat = np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)
    found = decode(encoded(flat, "JPEG", "CMYK"), Transform(16), "a")
    assert np.abs(found.astype(int) - flat).max() <= 3


def test_a_png_cut_anywhere_is_refused() -> None:
    """The last 20 bytes hold no pixel: 4 + 4 of two checksums, 12 of the chunk that ends it."""
    content = encoded(NOISE[:12, :12])
    for length in range(len(content) - 20):
        with pytest.raises(DataError, match="cannot be decoded"):
            decode(content[:length], Transform(12), "a")


@pytest.mark.parametrize(
    "content",
    [b"", b"not an image", encoded(NOISE, "JPEG")[:700], b"\x89PNG\r\n\x1a\n" + b"\0" * 99],
    ids=["nothing", "text", "half a JPEG", "a PNG of zeros"],
)
def test_what_is_no_image_is_an_error_that_names_the_sample(content: bytes) -> None:
    with pytest.raises(DataError) as caught:
        decode(content, Transform(8), "sample cat/7 (7.jpg)")
    assert caught.value.where == "sample cat/7 (7.jpg)"
    assert caught.value.exit_code == 3


@pytest.mark.filterwarnings("default")  # as it is outside of the tests
@pytest.mark.parametrize("side", [20_000, 10_000])
def test_a_decompression_bomb_is_refused_from_its_header(side: int) -> None:
    """Pillow warns above 89,478,485 pixels and refuses twice that: 1e8 and 4e8 are both over."""
    with pytest.raises(DataError, match="decompression bomb"):
        decode(png_header(side, side), Transform(8), "a")


def test_decode_all_stacks_in_order_and_names_the_one_that_fails() -> None:
    images = [NOISE[:4, :4], NOISE[4:8, 4:8]]
    files = [encoded(image) for image in images]
    assert np.array_equal(
        decode_all(files, Transform(4), ["a", "b"]), np.stack(images).transpose(0, 3, 1, 2)
    )
    with pytest.raises(DataError) as caught:
        decode_all([files[0], b"torn"], Transform(4), ["a", "b"])
    assert caught.value.where == "b"


def test_decode_all_of_nothing_has_the_shape_of_images() -> None:
    assert decode_all([], Transform(4), []).shape == (0, 3, 4, 4)


@pytest.mark.parametrize(
    "other",
    [
        Transform(9),
        Transform(8, crop_pct=0.9),
        Transform(8, interpolation="bilinear"),
        Transform(8, mean=(0.0, 0.5, 0.5)),
        Transform(8, std=(1.0, 0.5, 0.5)),
        Transform(8, decoder="fast"),
    ],
)
def test_every_field_of_a_transform_is_in_its_identity(other: Transform) -> None:
    assert other.spec() != Transform(8).spec()
    assert Transform(8).spec() == Transform(8).spec()


def photographs() -> list[bytes]:
    """Cut 20 JPEGs of 500×375 and 375×500 from scikit-learn's two photographs."""
    random = np.random.default_rng(0)
    found = []
    for number in range(20):
        source = load_sample_images().images[number % 2]
        height, width = ((375, 500), (400, 300))[number % 2]
        top = random.integers(0, source.shape[0] - height + 1)
        left = random.integers(0, source.shape[1] - width + 1)
        found.append(encoded(source[top : top + height, left : left + width], "JPEG"))
    return found


@pytest.mark.parametrize(("interpolation", "levels"), [("bilinear", 1), ("bicubic", 2)])
def test_the_fast_decoder_is_near_torchvision(interpolation: str, levels: int) -> None:
    """Resize(256) + CenterCrop(224) on photographs; the exact one is equal in every pixel."""
    exact = Transform(224, 0.875, interpolation)
    fast = replace(exact, decoder="fast")
    theirs = tv.Compose([tv.Resize(256, tv.InterpolationMode(interpolation)), tv.CenterCrop(224)])
    for photograph in photographs():
        expected = np.asarray(theirs(Image.open(io.BytesIO(photograph)))).astype(int)
        assert np.array_equal(decode(photograph, exact, "a"), expected)
        difference = np.abs(decode(photograph, fast, "a") - expected)
        assert difference.max() <= levels
        assert difference.mean() < 0.01


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_the_fast_decoder_reads_what_the_exact_one_does(mode: str) -> None:
    content = encoded(NOISE, "JPEG", mode)
    fast, exact = (decode(content, Transform(21, decoder=d), "a") for d in ("fast", "exact"))
    assert fast.shape == exact.shape == (21, 21, 3)
    assert np.abs(fast.astype(int) - exact).max() <= 1
    png = encoded(NOISE)
    assert np.array_equal(decode(png, Transform(60, decoder="fast"), "a"), NOISE)


@pytest.mark.parametrize("content", [encoded(NOISE, "JPEG")[:700], b"\xff\xd8\xff\xe0 no", b""])
def test_the_fast_decoder_refuses_what_is_torn(content: bytes) -> None:
    with pytest.raises(DataError, match="cannot be decoded"):
        decode(content, Transform(8, decoder="fast"), "a")


def test_threads_change_neither_order_nor_errors() -> None:
    files = [encoded(NOISE[n : n + 8, n : n + 8]) for n in range(40)]
    names = [str(number) for number in range(40)]
    one, four = (decode_all(files, Transform(8), names, threads) for threads in (1, 4))
    assert np.array_equal(one, four)
    files[17] = b"torn"
    with pytest.raises(DataError) as caught:
        decode_all(files, Transform(8), names, 4)
    assert caught.value.where == "17"
