"""A saved model says what it is and how to use it."""

from pathlib import Path

import pytest
import yaml

from handi_model import HandiPipeline
from handi_model.interface.card import model_card


def front_matter(card: str) -> dict[str, object]:
    start, text, _ = card.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(text)


def test_a_saved_model_carries_a_card_for_the_hub(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert front_matter(card) == {
        "license": "apache-2.0",
        "library_name": "diffusers",
        "pipeline_tag": "image-to-video",
        "tags": ["handi", "hands", "egocentric", "text-and-image-to-video"],
    }
    assert "| Frames | 16 of 64x64 pixels |" in card
    assert "| Predicts | v_prediction |" in card
    assert "HandiPipeline.from_pretrained" in card
    assert "The package `handi` must be installed" in card
    assert "| Frames a second | 8 |" in card
    assert "Stage 1 denoises where the hands will move" in card
    plain = HandiPipeline(**tiny.components, fps=12.5, uses_mask=False)
    assert "| Frames a second | 12.5 |" in model_card(plain)
    assert "there is no stage 1" in model_card(plain)


def test_a_card_that_somebody_wrote_stays(tiny, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    tiny.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("base", "licence"),
    [
        (
            "damo-vilab/text-to-video-ms-1.7b",
            {"license": "cc-by-nc-4.0", "base_model": "damo-vilab/text-to-video-ms-1.7b"},
        ),
        (
            "somebody/model",
            {
                "license": "other",
                "license_name": "as-somebody-model",
                "base_model": "somebody/model",
            },
        ),
        ("my_folder", {"license": "other", "license_name": "as-my-folder"}),
    ],
)
def test_the_licence_is_that_of_the_checkpoint_it_started_from(tiny, tmp_path, base, licence):
    pipe = HandiPipeline(**tiny.components, base_model=base)
    head = front_matter(model_card(pipe))
    names = ("license", "license_name", "base_model")
    assert {name: head[name] for name in names if name in head} == licence
    pipe.save_pretrained(tmp_path)
    again = HandiPipeline.from_pretrained(tmp_path)
    assert again.config.base_model == base
    assert base in Path(tmp_path / "README.md").read_text()
