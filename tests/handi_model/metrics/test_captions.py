import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from handi_model.metrics.captions import Captioner, caption_score, middle_frame
from handi_model.metrics.weights import WeightsError

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
WORDS = ["a", "picture", "of", "hand", "drawer", "knife", "onion", "opens", "cuts", "the"]
SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A captioner of random weights, in the layout of the published one."""
    path = tmp_path_factory.mktemp("blip")
    tokenizer = BertTokenizer(
        vocab={word: place for place, word in enumerate(MARKS + WORDS)},
        bos_token="[DEC]",
        additional_special_tokens=["[ENC]"],
    )
    small = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text = {
        **small,
        "encoder_hidden_size": 16,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 1.0,
    }
    vision = {**small, "image_size": SIZE, "patch_size": 8, "initializer_range": 1.0}
    torch.manual_seed(0)
    config = BlipConfig(text_config=text, vision_config=vision)
    model = BlipForConditionalGeneration(config)
    # A trained captioner says no marks but the end.
    no_words = [place for place, mark in enumerate(MARKS) if mark != "[SEP]"]
    model.text_decoder.cls.predictions.bias.data[no_words] = -100
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def captioner(folder):
    return Captioner.load(folder)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), np.uint8)


def test_captions_are_those_of_transformers_with_lego_s_settings(captioner, folder, frames):
    model = BlipForConditionalGeneration.from_pretrained(folder)
    processor = BlipImageProcessorPil(size={"height": SIZE, "width": SIZE})
    tokenizer = BertTokenizer.from_pretrained(folder)
    prompt = tokenizer("a picture of", return_tensors="pt").input_ids
    for frame in frames:
        pixels = processor(Image.fromarray(frame), return_tensors="pt").pixel_values
        tokens = model.generate(
            pixels, input_ids=prompt.clone(), num_beams=3, min_length=5, max_length=20
        )
        whole = tokenizer.decode(tokens[0], skip_special_tokens=True)
        assert whole.startswith("a picture of")
        assert captioner(frame) == whole.removeprefix("a picture of").strip()


def test_the_same_frame_gets_the_same_caption(captioner, frames):
    torch.manual_seed(1)
    first = captioner(frames[0])
    torch.manual_seed(2)
    assert captioner(frames[0]) == first


def test_a_caption_is_of_words_without_marks_and_is_not_empty(captioner, frames):
    for frame in frames:
        words = captioner(frame).split()
        assert 0 < len(words) <= 20
        assert set(words) <= set(WORDS)


def test_captions_follow_what_the_frame_shows(captioner):
    shades = [np.full((8, 8, 3), shade, np.uint8) for shade in range(0, 256, 51)]
    assert len({captioner(shade) for shade in shades}) > 1


def test_the_middle_frame_of_a_clip_is_captioned():
    clip = np.arange(16, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 2, 2, 3), np.uint8)
    assert (middle_frame(clip) == 8).all()
    assert (middle_frame(clip[:1]) == 0).all()


def test_a_caption_that_says_the_same_scores_one_and_an_unrelated_one_nothing():
    assert caption_score(np.array([3.0, 4.0]), np.array([3.0, 4.0])) == pytest.approx(1)
    assert caption_score(np.array([3.0, 4.0]), np.array([-4.0, 3.0])) == pytest.approx(0, abs=1e-12)


def test_a_folder_of_another_model_is_refused_in_one_line_that_names_the_key(tmp_path):
    with pytest.raises(WeightsError, match="--blip") as error:
        Captioner.load(str(tmp_path))
    assert "\n" not in str(error.value)
