import pytest
import torch

from handi_model.baselines.animate_anything import AnimateAnythingMethod
from handi_model.baselines.handi import HandiMethod
from handi_model.baselines.load import KINDS, open_method

CPU = ("cpu", torch.float32)


def test_a_method_opens_by_its_name(tiny, cogvideox, image_model, pia_adapter, i2vgen_xl):
    models = {
        "handi": tiny,
        "animate-anything": tiny,
        "cogvideox": str(cogvideox),
        "pia": str(image_model),
        "i2vgen-xl": str(i2vgen_xl),
    }
    assert set(models) == set(KINDS)
    for kind, model in models.items():
        options = {"motion_adapter": str(pia_adapter)} if kind == "pia" else {}
        assert open_method(kind, model, *CPU, **options).parameters > 0


def test_options_reach_the_method(tiny):
    method = open_method("handi", tiny, *CPU, area="true", mask_steps=3)
    assert method == HandiMethod(tiny, "true", mask_steps=3)
    method = open_method("animate-anything", tiny, *CPU, guidance_scale=2.0)
    assert method == AnimateAnythingMethod(tiny, guidance_scale=2.0)


def test_an_open_pipeline_is_moved_to_the_type(fresh_tiny):
    method = open_method("handi", fresh_tiny, "cpu", torch.bfloat16)
    assert method.pipe.unet.dtype == torch.bfloat16


def test_what_cannot_be_opened_is_refused_in_one_line(tiny):
    for kind, model, options, line in [
        ("gan", tiny, {}, "kind: 'gan' is none of handi, "),
        ("handi", "out/model", {}, "model: handi runs on an open HandiPipeline, got 'out/model'"),
        ("pia", tiny, {}, "model: pia is opened from a folder or hub id"),
        ("animate-anything", tiny, {"mask_steps": 3}, "mask_steps: .* no such setting, only guid"),
        ("cogvideox", "x", {"motion_scale": 3}, "motion_scale: cogvideox has no such setting"),
    ]:
        with pytest.raises(ValueError, match=line) as error:
            open_method(kind, model, *CPU, **options)
        assert "\n" not in str(error.value)
