import io

import av
import numpy as np
from PIL import Image

from pipelines.clip_files import clip_strip, eight_bit, encode_gif, encode_mp4, encode_png

FRAMES = np.stack([np.full((64, 48, 3), 40 + 10 * i, np.uint8) for i in range(16)])


def test_the_video_plays_all_frames_at_its_rate():
    data = encode_mp4(FRAMES, 8.0)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == 8
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 16
    assert np.abs(np.stack(decoded).astype(int) - FRAMES).max() <= 6
    # The index stands before the pictures, so that a browser can play what it has.
    assert data.index(b"moov") < data.index(b"mdat")


def test_the_gif_runs_over_and_over():
    with Image.open(io.BytesIO(encode_gif(FRAMES, 8.0))) as gif:
        assert gif.n_frames == 16
        assert gif.info["loop"] == 0
        assert gif.info["duration"] in (120, 125, 130)


def test_the_mask_is_a_grey_png():
    mask = np.zeros((64, 48))
    mask[:8] = 1
    with Image.open(io.BytesIO(encode_png(eight_bit(mask)))) as picture:
        assert picture.mode == "L"
        assert (np.asarray(picture) == mask * 255).all()


def test_the_strip_shows_the_scene_with_its_area_and_frames_from_first_to_last():
    area = np.zeros((64, 48), bool)
    area[10:30, 10:30] = True
    strip = clip_strip(FRAMES, FRAMES[0], area)
    assert strip.shape == (64, 7 * 48 + 6 * 4, 3)
    assert (strip[5, 5] == FRAMES[0, 5, 5]).all()
    assert (strip[20, 20] != FRAMES[0, 20, 20]).any()
    assert (strip[5, -5] == FRAMES[-1, 5, 5]).all()
