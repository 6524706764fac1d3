"""Pictures from strangers: what is taken, how it looks, and what is refused before it costs."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from serve.http.pictures import area_png, open_picture, reduced, scene_png
from tests.serve.conftest import png

MOST = 50_000_000


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, kind, **options)
    return sink.getvalue()


def seen(data: bytes, height: int = 64, width: int = 64) -> np.ndarray:
    """(H, W, 3) uint8, the picture as the model will see it."""
    picture = Image.open(io.BytesIO(scene_png(data, height, width, MOST)))
    assert picture.mode == "RGB"
    return np.asarray(picture)


def halves(mode: str = "RGB", left: Any = 255, right: Any = 0) -> Image.Image:
    picture = Image.new(mode, (64, 64), right)
    picture.paste(left, (0, 0, 32, 64))
    return picture


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("JPEG", {"quality": 95}), ("WEBP", {"lossless": True}), ("WEBP", {})],
)
def test_each_format_is_read(kind, options):
    picture = halves("RGB", (200, 30, 60), (10, 90, 240))
    pixels = seen(saved(picture, kind, **options)).astype(int)
    assert np.abs(pixels[:, :24] - (200, 30, 60)).max() < 12
    assert np.abs(pixels[:, 40:] - (10, 90, 240)).max() < 12


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_turned_photograph_stands_upright(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    pixels = seen(saved(halves("RGB", (255, 255, 255), 0), kind, exif=exif))
    assert pixels[:24].min() > 240
    assert pixels[40:].max() < 15


def test_a_larger_picture_is_scaled_down_and_its_middle_cut():
    picture = Image.new("RGB", (384, 128), (255, 0, 0))
    picture.paste((0, 255, 0), (128, 0, 256, 128))
    assert (seen(saved(picture, "PNG")) == (0, 255, 0)).all()


def test_the_size_asked_for_is_the_size_given():
    assert seen(png(200, 300), 96, 128).shape == (96, 128, 3)


def test_sixteen_bits_keep_their_brightness():
    levels = np.array([0, 12850, 32896, 65535], np.uint16)
    pixels = np.repeat(np.repeat(levels[:, None], 16, 0), 64, 1)
    found = seen(saved(Image.fromarray(pixels), "PNG"))
    assert np.abs(found[8::16, 0, 0].astype(int) - levels // 257).max() <= 1


def test_a_palette_is_shown_in_its_colours():
    picture = halves("RGB", (200, 30, 60), (10, 90, 240)).quantize(2)
    pixels = seen(saved(picture, "PNG"))
    assert (pixels[0, 0] == (200, 30, 60)).all() and (pixels[0, 63] == (10, 90, 240)).all()


@pytest.mark.parametrize("mode", ["1", "L"])
def test_a_picture_without_colour_is_grey(mode):
    pixels = seen(saved(halves(mode), "PNG"))
    assert (pixels[:, :32] == 255).all() and (pixels[:, 32:] == 0).all()


def test_printers_colours_are_shown_as_colours():
    pixels = seen(saved(halves("CMYK", (0, 0, 0, 0), (0, 0, 0, 255)), "JPEG", quality=95))
    assert pixels[:, :24].min() > 240 and pixels[:, 40:].max() < 15


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_is_transparent_is_laid_on_black(kind):
    picture = halves("RGBA", (255, 255, 255, 255), (255, 255, 255, 0))
    pixels = seen(saved(picture, kind, lossless=True))
    assert (pixels[:, :32] == 255).all() and (pixels[:, 32:] == 0).all()


def test_a_transparent_colour_of_a_palette_is_laid_on_black():
    picture = halves("P", 1, 0)
    picture.putpalette([9, 9, 9, 255, 255, 255])
    pixels = seen(saved(picture, "PNG", transparency=0))
    assert (pixels[:, :32] == 255).all() and (pixels[:, 32:] == 0).all()


def test_a_drawn_area_is_black_and_white_at_the_clips_size():
    drawn = halves("L", 200, 90).resize((256, 256))
    area = np.asarray(Image.open(io.BytesIO(area_png(saved(drawn, "PNG"), 64, 64, MOST))))
    assert area.shape == (64, 64)
    assert (area[:, :31] == 255).all() and (area[:, 33:] == 0).all()


def test_an_area_drawn_on_nothing_is_where_it_is_opaque():
    drawn = halves("RGBA", (255, 255, 255, 255), (255, 255, 255, 0))
    area = np.asarray(Image.open(io.BytesIO(area_png(saved(drawn, "PNG"), 64, 64, MOST))))
    assert (area[:, :32] == 255).all() and (area[:, 32:] == 0).all()


def two(kind: str, **options: Any) -> bytes:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def header_of(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG that claims a size, and holds less."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    shape = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", shape)
        + body
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"a text file", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (b"\0" * 10_000, "not a picture"),
        (two("GIF"), "not a picture"),
        (saved(Image.new("RGB", (64, 64)), "GIF"), "not a picture"),
        (saved(Image.new("RGB", (64, 64)), "TIFF"), "not a picture"),
        (saved(Image.new("RGB", (64, 64)), "BMP"), "not a picture"),
        (two("PNG"), "animated"),
        (two("WEBP", lossless=True), "animated"),
        (png()[:200], "broken"),
        (png()[:-3000], "broken"),
        (png()[:12], ""),
        (saved(Image.open(io.BytesIO(png())), "JPEG")[:1500], "broken"),
        (saved(Image.open(io.BytesIO(png())), "WEBP")[:500], ""),
        (header_of(64, 64), "broken"),
        (header_of(0, 64), ""),
        (png(63, 64), "too small"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line_that_names_the_field(data, why):
    for field, read in (("input_reference", scene_png), ("mask", area_png)):
        with pytest.raises(ValueError, match=f"^{field}: .*{why}") as refused:
            read(data, 64, 64, MOST)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("width", "height"), [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (7072, 7072), (50_000_001, 1)]
)
def test_a_picture_that_claims_too_many_pixels_is_never_decoded(width, height, monkeypatch):
    decoded = []
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: decoded.append(self))
    with pytest.raises(ValueError, match=r"^input_reference: "):
        scene_png(header_of(width, height), 64, 64, MOST)
    assert decoded == []


def test_a_picture_that_claims_too_many_pixels_is_told_how_many_are_the_most():
    with pytest.raises(ValueError, match="80x64 pixels are more than 5000"):
        open_picture("mask", png(), 5000)
    assert open_picture("mask", png(), 80 * 64).size == (80, 64)


@pytest.mark.parametrize("place", ["zTXt", "iTXt", "iCCP"])
def test_a_picture_with_a_bomb_in_its_text_is_refused(place):
    bomb = zlib.compress(b"\0" * 100_000_000, 9)
    prefix = {"zTXt": b"a\0\0", "iTXt": b"a\0\1\0\0\0", "iCCP": b"a\0\0"}[place]
    data = prefix + bomb
    check = zlib.crc32(place.encode() + data)
    chunk = struct.pack(">I", len(data)) + place.encode() + data + struct.pack(">I", check)
    with pytest.raises(ValueError, match=r"^input_reference: "):
        scene_png(header_of(64, 64, chunk), 64, 64, MOST)


def with_chunk(name: bytes, content: bytes) -> bytes:
    """A sound PNG with one more chunk, whose checksum is right."""
    check = zlib.crc32(name + content)
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)
    sound, after_header = png(), 33
    return sound[:after_header] + chunk + sound[after_header:]


def opened_or_refused(data: bytes) -> None:
    try:
        scene_png(data, 64, 64, 1_000_000)
    except ValueError as error:
        assert str(error).startswith("input_reference: ")
        assert "\n" not in str(error)


@settings(max_examples=150)
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8 "]),
    st.binary(max_size=400),
)
def test_no_bytes_whatever_give_another_error(head, data):
    opened_or_refused(head + data)


SOUND = [
    png(80, 64),
    saved(halves("P", 1, 0), "PNG"),
    saved(Image.open(io.BytesIO(png())), "JPEG"),
    saved(Image.open(io.BytesIO(png())), "WEBP"),
]


@settings(max_examples=200)
@given(st.sampled_from(SOUND), st.data())
def test_no_damage_to_a_picture_gives_another_error(sound, data):
    damaged = bytearray(sound)
    # Headers decide most, so they are hit most.
    place = st.one_of(st.integers(0, min(80, len(sound) - 1)), st.integers(0, len(sound) - 1))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(place)] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(sound))))
    opened_or_refused(bytes(damaged[:cut]))


@settings(max_examples=100)
@given(
    st.sampled_from([b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"acTL", b"fcTL", b"iCCP"]),
    st.binary(max_size=60),
)
def test_no_chunk_of_a_picture_with_a_right_checksum_gives_another_error(name, content):
    opened_or_refused(with_chunk(name, content))


@pytest.mark.parametrize("exif", [b"\0", b"garbage"])
def test_a_picture_with_damaged_exif_is_shown_or_refused(exif):
    opened_or_refused(with_chunk(b"eXIf", exif))


def test_a_photograph_with_a_second_view_in_it_is_a_still_picture():
    # Phones write a preview or a depth map behind the photograph.
    photograph = halves("RGB", (255, 255, 255), 0)
    preview = photograph.rotate(90).resize((32, 32))
    pixels = seen(saved(photograph, "MPO", save_all=True, append_images=[preview]))
    assert pixels[:, :24].min() > 240 and pixels[:, 40:].max() < 15


def test_a_turned_picture_of_sixteen_bits_stands_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    levels = np.zeros((64, 64), np.uint16)
    levels[:, :32] = 65535
    pixels = seen(saved(Image.fromarray(levels), "PNG", exif=exif))
    assert pixels[:24].min() > 240 and pixels[40:].max() < 15


def test_a_bomb_is_told_as_too_large():
    with pytest.raises(ValueError, match="more than 50000000 pixels; send a smaller one"):
        scene_png(header_of(60_000, 60_000), 64, 64, MOST)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_a_photograph_is_brought_near_the_clips_size_before_it_becomes_floats(mode):
    photograph = Image.new("RGB", (4000, 3000), "red").convert(mode)
    near = reduced(photograph, 64, 48)
    assert near.height >= 2 * 64 and near.width >= 2 * 48
    assert near.width * near.height < 20 * 64 * 48 * 4
    assert near.convert("RGB").getpixel((0, 0)) == photograph.convert("RGB").getpixel((0, 0))


def test_a_picture_of_about_the_clips_size_stays_as_it_is():
    picture = Image.new("RGB", (150, 100))
    assert reduced(picture, 64, 64) is picture
