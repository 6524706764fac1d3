import argparse
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from transformers import BertTokenizer, DistilBertConfig, DistilBertModel

from handi_model.metrics.egovlp import EgoVlp, convert, egovlp_score, main, sampled
from handi_model.metrics.egovlp_network import EgoVlpNetwork, SpaceTimeTransformer
from handi_model.metrics.weights import WeightsError

WIDTH, HEADS, PATCH, SIDE, JOINT = 128, 2, 8, 2, 5
FRAMES = 4
SIZE = PATCH * SIDE
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "open", "the", "drawer", "cut", "onion"]


@pytest.fixture(scope="module")
def weights():
    """Random weights of a small EgoVLP, by the published names."""
    torch.manual_seed(0)
    text = DistilBertModel(
        DistilBertConfig(vocab_size=len(WORDS), dim=64, n_heads=1, n_layers=2, hidden_dim=32)
    )
    video = SpaceTimeTransformer(
        width=WIDTH, hidden=48, depth=2, patch=PATCH, patches=SIDE**2, frames=FRAMES
    )
    network = EgoVlpNetwork(video, text, WIDTH, JOINT)
    return {
        name: tensor + torch.randn_like(tensor) / 8 for name, tensor in network.state_dict().items()
    }


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("egovlp") / "egovlp.safetensors"
    save_file(weights, path)
    return str(path)


@pytest.fixture(scope="module")
def egovlp(file):
    return EgoVlp.load(file)


@pytest.fixture(scope="module")
def clip():
    return np.random.default_rng(0).integers(0, 256, (FRAMES, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def tokenizer():
    return BertTokenizer(vocab={word: place for place, word in enumerate(WORDS)})


class ConfigParser:
    """What a training would keep of its config in its checkpoint."""

    def __init__(self):
        self.arguments = argparse.Namespace(resume=Path("results"))

    def __setstate__(self, state):
        pytest.fail("the checkpoint's own code was run")


@pytest.fixture
def published(weights, tmp_path):
    """A checkpoint like the published one: parallel training's prefix, and the config."""
    path = tmp_path / "egovlp.pth"
    named = {f"module.{name}": tensor for name, tensor in weights.items()}
    torch.save({"arch": "FrozenInTime", "state_dict": named, "config": ConfigParser()}, path)
    return path


def norm(tokens, weights, name):
    mean, spread = tokens.mean(-1, keepdim=True), tokens.var(-1, correction=0, keepdim=True)
    scaled = (tokens - mean) / (spread + 1e-6).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(tokens, weights, name):
    return tokens @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attention(tokens, weights, name, seen):
    """Plain attention in which token i looks at the tokens j with seen[i, j]."""
    query, key, value = linear(tokens, weights, f"{name}.qkv").chunk(3, dim=-1)
    heads = []
    for part in range(HEADS):
        own = slice(part * WIDTH // HEADS, (part + 1) * WIDTH // HEADS)
        scores = query[:, own] @ key[:, own].T / math.sqrt(WIDTH // HEADS)
        heads.append(scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value[:, own])
    return linear(torch.cat(heads, dim=-1), weights, f"{name}.proj")


def plain_video_embedding(weights, clip):
    """Frozen in Time, token by token: each block over time, then over space, as masks."""
    video = {k.removeprefix("video_model."): w for k, w in weights.items()}
    pixels = torch.from_numpy(clip) / 255
    pixels = (pixels - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    tokens = [video["cls_token"][0, 0] + video["pos_embed"][0, 0]]
    places = [(None, None)]
    for time, frame in enumerate(pixels):
        for place in range(SIDE**2):
            y, x = divmod(place, SIDE)
            patch = frame[y * PATCH : (y + 1) * PATCH, x * PATCH : (x + 1) * PATCH]
            kernel = video["patch_embed.proj.weight"].permute(0, 2, 3, 1)
            token = (kernel * patch).sum((1, 2, 3)) + video["patch_embed.proj.bias"]
            token = token + video["pos_embed"][0, 1 + place] + video["temporal_embed"][0, time]
            tokens.append(token)
            places.append((time, place))
    x = torch.stack(tokens)

    def mask(axis):
        return torch.tensor(
            [[not i or not j or a[axis] == b[axis] for j, b in enumerate(places)]
             for i, a in enumerate(places)]
        )  # fmt: skip

    for block in ("blocks.0", "blocks.1"):
        same_place, same_time = mask(1), mask(0)
        timed = x + attention(
            norm(x, video, f"{block}.norm3"), video, f"{block}.timeattn", same_place
        )
        x = x + attention(norm(timed, video, f"{block}.norm1"), video, f"{block}.attn", same_time)
        hidden = linear(norm(x, video, f"{block}.norm2"), video, f"{block}.mlp.fc1")
        hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        x = x + linear(hidden, video, f"{block}.mlp.fc2")
    embedding = linear(norm(x, video, "norm")[0], weights, "vid_proj.0")
    return embedding / embedding.norm()


def test_a_clip_s_embedding_is_that_of_plainly_written_divided_attention(egovlp, weights, clip):
    np.testing.assert_allclose(egovlp(clip), plain_video_embedding(weights, clip), atol=1e-5)


def test_sentences_score_as_distilbert_s_first_state_after_the_published_projection(
    egovlp, weights, tokenizer
):
    text = DistilBertModel(
        DistilBertConfig(vocab_size=len(WORDS), dim=64, n_heads=1, n_layers=2, hidden_dim=32)
    ).eval()
    text.load_state_dict(
        {k.removeprefix("text_model."): w for k, w in weights.items() if k.startswith("text_model")}
    )
    sentences = ["open the drawer", "cut onion"]
    expected = []
    for sentence in sentences:
        with torch.no_grad():
            state = text(**tokenizer(sentence, return_tensors="pt")).last_hidden_state[0, 0]
        projected = linear(state.clamp(min=0), weights, "txt_proj.1")
        expected.append((projected / projected.norm()).numpy())
    np.testing.assert_allclose(egovlp.texts(sentences, tokenizer), expected, atol=1e-5)


def test_embeddings_are_of_unit_length_in_float32(egovlp, clip, tokenizer):
    for embedding in (egovlp(clip), egovlp.texts(["cut the onion"], tokenizer)[0]):
        assert (embedding.shape, embedding.dtype) == ((JOINT,), np.float32)
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-6)


def test_a_clip_against_itself_scores_one_and_against_its_reverse_less(egovlp, clip):
    assert egovlp_score(egovlp(clip), egovlp(clip)) == pytest.approx(1, abs=1e-6)
    assert egovlp_score(egovlp(clip), egovlp(clip[::-1].copy())) < 0.9999


@given(st.integers(1, 64), st.sampled_from([4, 16]))
def test_frames_are_the_middles_of_even_parts_of_any_clip(length, count):
    frames = sampled(length, count)
    assert len(frames) == count
    assert frames == sorted(frames)
    assert frames[0] >= 0 and frames[-1] < length
    assert frames[0] == (length // min(count, length) - 1) // 2


def test_frames_of_clips_by_hand():
    assert sampled(16, 4) == [1, 5, 9, 13]
    assert sampled(4, 4) == [0, 1, 2, 3]
    assert sampled(2, 4) == [0, 1, 1, 1]
    assert sampled(1, 4) == [0, 0, 0, 0]
    assert sampled(16, 16) == list(range(16))


def test_weights_with_places_for_more_frames_see_more_of_a_clip(weights, tmp_path, clip):
    """As those have that were fine-tuned on EPIC-KITCHENS."""
    name = "video_model.temporal_embed"
    more = torch.cat([weights[name], torch.randn(1, 16 - FRAMES, WIDTH)], dim=1)
    save_file({**weights, name: more}, tmp_path / "more.safetensors")
    egovlp = EgoVlp.load(str(tmp_path / "more.safetensors"))
    assert egovlp.frames == 16
    long = np.repeat(clip, 4, axis=0)
    changed = long.copy()
    changed[3] = 0  # not among the four that others see
    assert not np.allclose(egovlp(long), egovlp(changed), atol=1e-3)


def test_of_a_long_clip_only_the_sampled_frames_count(egovlp, clip):
    long = np.zeros((16, *clip.shape[1:]), np.uint8)
    long[[1, 5, 9, 13]] = clip
    np.testing.assert_allclose(egovlp(long), egovlp(clip), atol=1e-5)


def test_of_a_wide_frame_the_middle_square_counts(egovlp, clip):
    wide = np.concatenate([np.zeros_like(clip)[:, :, :4], clip, np.zeros_like(clip)[:, :, :4]], 2)
    np.testing.assert_allclose(egovlp(wide), egovlp(clip), atol=1e-5)


def test_larger_frames_are_shrunk_along_their_shorter_side(egovlp):
    plain = np.random.default_rng(1).integers(0, 256, (FRAMES, 1, 1, 3), np.uint8)
    small = np.broadcast_to(plain, (FRAMES, SIZE, SIZE, 3))
    large = np.broadcast_to(plain, (FRAMES, 45, 80, 3))
    np.testing.assert_allclose(egovlp(large.copy()), egovlp(small.copy()), atol=1e-5)


@pytest.mark.parametrize("holder", [lambda named: named, lambda named: {"state_dict": named}])
def test_a_checkpoint_of_tensors_with_parallel_training_s_prefix_loads(
    egovlp, weights, clip, holder, tmp_path
):
    named = {f"module.{name}": tensor for name, tensor in weights.items()}
    named["module.text_model.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save(holder(named), tmp_path / "egovlp.pth")
    again = EgoVlp.load(str(tmp_path / "egovlp.pth"))
    np.testing.assert_allclose(again(clip), egovlp(clip), atol=1e-5)


def test_a_pickle_of_other_classes_is_refused_in_one_line_that_tells_how_to_convert(published):
    with pytest.raises(WeightsError) as error:
        EgoVlp.load(str(published))
    message = str(error.value)
    assert "\n" not in message
    for part in (
        "ConfigParser",
        "can run code",
        "python -m handi_model.metrics.egovlp",
        "--egovlp",
    ):
        assert part in message


def test_a_published_checkpoint_is_converted_without_running_its_code(
    published, egovlp, clip, tmp_path
):
    convert(published, tmp_path / "egovlp.safetensors")
    again = EgoVlp.load(str(tmp_path / "egovlp.safetensors"))
    np.testing.assert_allclose(again(clip), egovlp(clip), atol=1e-5)


def test_what_is_no_checkpoint_is_refused_by_both_in_one_line(tmp_path):
    page = tmp_path / "egovlp.pth"
    page.write_text("<html>sign in</html>")
    for attempt in (lambda: EgoVlp.load(str(page)), lambda: convert(page, tmp_path / "o")):
        with pytest.raises(WeightsError, match="neither safetensors nor a PyTorch") as error:
            attempt()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "missing", ["video_model.cls_token", "video_model.temporal_embed", "txt_proj.1.bias"]
)
def test_weights_that_lack_a_part_are_refused_in_one_line_that_names_it(weights, missing, tmp_path):
    save_file({k: w for k, w in weights.items() if k != missing}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=f"{missing}.*--egovlp") as error:
        EgoVlp.load(str(tmp_path / "w.safetensors"))
    assert "\n" not in str(error.value)


def test_without_weights_one_line_says_where_they_are_to_be_had(monkeypatch, tmp_path):
    monkeypatch.setenv("HANDI_CACHE", str(tmp_path))
    with pytest.raises(WeightsError) as error:
        EgoVlp.load()
    message = str(error.value)
    assert "\n" not in message
    for part in ("--egovlp", "drive.google.com", "python -m handi_model.metrics.egovlp"):
        assert part in message


def test_the_cache_is_read_without_a_path(monkeypatch, file, egovlp, clip):
    monkeypatch.setenv("HANDI_CACHE", str(Path(file).parent))
    cached = EgoVlp.load()
    assert cached.origin.path == file
    np.testing.assert_allclose(cached(clip), egovlp(clip), atol=1e-5)


def test_the_command_converts_and_tells_the_sha256(published, egovlp, clip, tmp_path, capsys):
    main([str(published), str(tmp_path / "mine.safetensors")])
    again = EgoVlp.load(str(tmp_path / "mine.safetensors"))
    assert again.origin.sha256 in capsys.readouterr().out
    np.testing.assert_allclose(again(clip), egovlp(clip), atol=1e-5)


@pytest.mark.parametrize("source", ["page.pth", "not-there.pth"])
def test_the_command_says_what_is_wrong_in_one_line(source, tmp_path, capsys):
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(SystemExit):
        main([str(tmp_path / source), str(tmp_path / "out.safetensors")])
    assert source in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out.safetensors").exists()
