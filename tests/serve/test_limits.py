"""What of a request the model can meet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serve.http.limits import Limits
from serve.settings import ServeSettings
from tests.serve.conftest import MODEL

WORDLESS = replace(MODEL, tokenizer="")
"""A model that counts no tokens: the tiny one's tokenizer makes many of foreign scripts."""


def limits(**keys: object) -> Limits:
    return Limits(ServeSettings(model="/model", **keys), MODEL, 1)


def test_an_instruction_is_read_as_one_line_without_the_space_around_it():
    assert limits().prompt("open\n the\u2028drawer") == "open the drawer"
    assert limits().prompt("  open the drawer\n") == "open the drawer"


@pytest.mark.parametrize("text", ["öffne die Schublade", "引き出しを開ける", "open ✋", "a" * 20])
def test_an_instruction_of_any_script_is_taken(text):
    assert Limits(ServeSettings(model="/model"), WORDLESS, 1).prompt(text) == text


@pytest.mark.parametrize("text", ["引き出し\u3000開ける", "می\u200cبرد", "👩‍🍳", "open\u00a0it"])
def test_the_spaces_and_joiners_of_other_scripts_are_taken(text):
    assert Limits(ServeSettings(model="/model"), WORDLESS, 1).prompt(text)


@pytest.mark.parametrize("text", ["", "  ", "\n", "a\x00b", "a\x7fb", "a\x1bb", "a\ud800"])
def test_what_is_no_plain_text_is_refused(text):
    with pytest.raises(ValueError, match=r"^prompt: (empty|it holds control characters); "):
        limits().prompt(text)


def test_an_instruction_of_too_many_characters_or_tokens_is_refused():
    assert limits(max_prompt_characters=5).prompt(" abcde ") == "abcde"
    with pytest.raises(ValueError, match=r"^prompt: 6 characters, and 5 are the most"):
        limits(max_prompt_characters=5).prompt("abcdef")
    # Start and end of the text are tokens too.
    most = MODEL.longest_prompt - 2
    assert limits().prompt(" ".join(["cut"] * most))
    with pytest.raises(ValueError, match=rf"^prompt: {most + 3} tokens, and the model reads"):
        limits().prompt(" ".join(["cut"] * (most + 1)))


def test_of_an_instruction_that_is_too_long_no_character_is_looked_at(monkeypatch):
    def looked_at(character: str) -> str:
        raise AssertionError("one character after the other, while all other requests wait")

    monkeypatch.setattr("unicodedata.category", looked_at)
    with pytest.raises(ValueError, match=r"^prompt: 99999 characters, and "):
        limits().prompt("\x00" * 99_999)


def test_a_model_without_a_tokenizer_file_counts_no_tokens():
    assert Limits(ServeSettings(model="/model"), WORDLESS, 1).prompt("cut " * 100)


def test_sizes_up_to_four_times_the_models_own_are_met():
    assert limits().size(None) == (64, 64)
    assert limits().size("128x64") == (64, 128)
    assert limits().size("128x128") == (128, 128)
    with pytest.raises(ValueError, match=r"^size: 144x128 has more than 16384 pixels"):
        limits().size("144x128")
    with pytest.raises(ValueError, match=r"^size: height: 65 is not a multiple of 16"):
        limits().size("64x65")
    assert limits(max_pixels=64 * 256).size("256x64") == (64, 256)


def test_seconds_are_a_whole_number_of_frames_up_to_twice_the_models_own():
    assert limits().num_frames(None) == 16
    assert limits().num_frames(4) == 32
    assert limits().num_frames(0.25) == 2
    assert limits().num_frames(1.01) == 8
    assert limits(fps=4).num_frames(4) == 16
    assert limits(max_frames=20).num_frames(2.5) == 20
    for seconds in (0.1, 4.2):
        with pytest.raises(ValueError, match=rf"^seconds: {seconds} is outside of 0.25 to 4$"):
            limits().num_frames(seconds)


def test_a_clip_has_as_many_seconds_as_the_api_says_it_has():
    described = limits(fps=30).described
    assert limits(fps=30).num_frames(float(described.seconds)) == described.num_frames


def test_clips_are_played_at_the_models_rate_unless_the_service_has_its_own():
    slow = replace(MODEL, fps=4.0)
    some = Limits(ServeSettings(model="/model"), slow, 1)
    assert some.fps == some.described.fps == 4
    assert some.described.seconds == "4" and some.num_frames(2) == 8
    assert Limits(ServeSettings(model="/model", fps=16), slow, 1).fps == 16


def test_steps_are_those_of_the_schedule_and_the_settings():
    assert limits().steps("mask_steps", None, 25) == 25
    assert limits().steps("mask_steps", 100, 25) == 100
    assert limits(max_steps=10).steps("mask_steps", None, 25) == 10
    with pytest.raises(ValueError, match=r"^mask_steps: 101 is outside of 1 to 100 steps"):
        limits().steps("mask_steps", 101, 25)
    short = Limits(ServeSettings(model="/model"), replace(MODEL, most_steps=50), 1)
    assert short.described.max_steps == 50
    with pytest.raises(ValueError, match="outside of 1 to 50"):
        short.steps("mask_steps", 51, 25)


@pytest.mark.parametrize("keys", [{}, {"max_steps": 3}, {"fps": 5}])
def test_every_default_that_is_described_can_be_asked_for(keys):
    some = limits(**keys)
    told = some.described
    assert some.size(told.size) == some.size(None)
    assert some.num_frames(float(told.seconds)) == some.num_frames(None) == told.num_frames
    for steps in (told.num_inference_steps, told.mask_steps):
        assert some.steps("mask_steps", steps, 1) == steps
