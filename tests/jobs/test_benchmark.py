import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTextConfig, CLIPTextModel

from handi_model import tiny
from handi_model.config import ModelConfig
from handi_model.create import assemble
from handi_model.pipeline import HandiPipeline
from handi_model.unet import HandiUNet
from jobs import benchmark
from jobs.benchmarks import detector, generate, measuring
from jobs.benchmarks.operations import Operations, count_operations, counted
from jobs.benchmarks.plain import differences, plain_clip, scene, wake
from jobs.benchmarks.tables import markdown_table

SIDE, FRAMES = 32, 4


def small_pipeline(**changes) -> HandiPipeline:
    """A model of the project's topology with random weights, none of them zero."""
    torch.manual_seed(0)
    config = ModelConfig.of(
        "tiny",
        **{
            "resolution": SIDE,
            "num_frames": FRAMES,
            "latent_channels": 4,
            "block_out_channels": (16, 32),
            "cross_attention_dim": 32,
            "norm_num_groups": 4,
            **changes,
        },
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 8, 8, 8),
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.5,
    )
    tokenizer = tiny.load_tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    pipe = assemble(config, HandiUNet.of(config), vae, CLIPTextModel(text), tokenizer)
    pipe.to("cpu")
    pipe.set_progress_bar_config(disable=True)
    wake(pipe)
    return pipe


@pytest.fixture(scope="module")
def pipe() -> HandiPipeline:
    return small_pipeline()


def settings(**changes) -> generate.Settings:
    keys = {"device": "cpu", "steps": 3, "mask_steps": 2, "fewer_mask_steps": 1, "repeats": 1}
    return generate.Settings(**{**keys, "batch_sizes": [1], "optimisations": [], **changes})


def both(pipe: HandiPipeline, guidance: float, threshold: float):
    """The same clip by the plain code and by the pipeline."""
    picture = scene(SIDE, 0)
    plain = plain_clip(
        pipe,
        picture,
        "open the drawer",
        num_frames=FRAMES,
        steps=3,
        mask_steps=2,
        guidance_scale=guidance,
        threshold=threshold,
        generator=torch.Generator().manual_seed(1),
    )
    out = pipe(
        picture,
        "open the drawer",
        num_frames=FRAMES,
        num_inference_steps=3,
        mask_steps=2,
        guidance_scale=guidance,
        mask_threshold=threshold,
        generator=torch.Generator().manual_seed(1),
    )
    return plain, out


def threshold_of(pipe: HandiPipeline, guidance: float) -> float:
    """One that splits the predicted area, in the widest gap between the values near its median."""
    values = np.sort(both(pipe, guidance, 0.5)[0].soft_area, axis=None)
    middle = values[3 * len(values) // 8 : 5 * len(values) // 8]
    below = int(np.diff(middle).argmax())
    return float(middle[below : below + 2].mean())


@pytest.mark.parametrize("guidance", [1.0, 7.5])
@pytest.mark.parametrize(
    "kind",
    [{}, {"residual": False, "predicts": "noise"}],
    ids=["residual velocity", "noise"],
)
def test_plain_code_and_the_pipeline_make_the_same_clip(kind, guidance):
    pipe = small_pipeline(**kind)
    plain, out = both(pipe, guidance, threshold_of(pipe, guidance))
    assert 0.1 < plain.area.mean() < 0.9, "part of the picture must move, or nothing is compared"
    np.testing.assert_array_equal(plain.area, out.masks[0])
    np.testing.assert_allclose(plain.frames, out.frames[0], atol=1e-3)
    still = scene(SIDE, 0) / np.float32(255)
    assert np.abs(plain.frames - still)[:, plain.area > 0].mean() > 0.01


def test_the_comparison_notices_a_clip_made_of_another_seed(pipe):
    plain, _ = both(pipe, 1.0, threshold_of(pipe, 1.0))
    other = copy.deepcopy(plain)
    other.frames[0, 0, 0, 0] += 0.25
    other.area[0, 0] = 1 - other.area[0, 0]
    assert differences([plain], [plain, other]) == {
        "max_difference": 0,
        "mean_difference": 0,
        "area_changed": 0,
    }
    found = differences([plain], [other])
    assert found["max_difference"] == pytest.approx(0.25, rel=1e-3)
    assert found["mean_difference"] == pytest.approx(0.25 / plain.frames.size, rel=1e-3)
    assert found["area_changed"] == pytest.approx(1 / SIDE**2, rel=1e-3)


@pytest.fixture
def small_model(monkeypatch, pipe):
    monkeypatch.setattr(generate, "new_pipeline", lambda config: copy.deepcopy(pipe))
    monkeypatch.setitem(measuring.CEILING_S, "cpu", 0.01)


def test_every_row_is_measured_on_the_same_clip(small_model):
    found = generate.measure(
        settings(batch_sizes=[1, 2], optimisations=["channels_last", "fewer_mask_steps"])
    )
    plain, ours, layout, fewer, batch = found["rows"]
    assert [row["what"] for row in (plain, ours)] == ["plain code", "pipeline"]
    assert plain["max_difference"] == 0
    assert ours["max_difference"] < 1e-3 and layout["max_difference"] < 1e-3
    assert ours["same_arithmetic"] and not fewer["same_arithmetic"]
    assert fewer["steps"] == "1 + 3" and fewer["tflop_a_clip"] < ours["tflop_a_clip"]
    assert fewer["max_difference"] > 1e-3, "another number of steps is another clip"
    assert batch["clips_a_call"] == 2
    assert all(row["seconds_a_clip"] > 0 and row["peak_memory_gb"] > 0 for row in found["rows"])


def test_what_does_not_help_is_measured_but_not_kept(small_model, monkeypatch):
    seconds = iter([[8.0], [4.0], [5.0], [2.0]])

    def timed(call, device, repeats, warm_up):
        return (next(seconds) if repeats == 7 else [0.0]), call()

    monkeypatch.setattr(generate, "timed", timed)
    rows = generate.measure(
        settings(repeats=7, optimisations=["channels_last", "fewer_mask_steps"])
    )["rows"]
    assert [row["kept"] for row in rows] == [True, True, False, True]
    assert [row["gain"] for row in rows] == [None, 2.0, 0.8, 2.0]
    assert [row["times_plain"] for row in rows] == [1.0, 2.0, 1.6, 4.0]


def test_a_row_that_fails_leaves_the_others(small_model, monkeypatch):
    def out_of_memory(pipe, name, mode):
        raise torch.OutOfMemoryError("too large\nfor this device")

    monkeypatch.setattr(generate, "speed_up", out_of_memory)
    rows = generate.measure(settings(optimisations=["compile_unet", "fewer_mask_steps"]))["rows"]
    assert rows[2] == {"what": "+ compile unet", "kept": False, "failed": "too large"}
    assert rows[3]["what"] == "+ fewer mask steps" and rows[3]["seconds_a_clip"] > 0


def test_a_clip_is_both_stages_both_decodes_and_its_images():
    parts = Operations(unet={"mask": 1.0, "video": 2.0}, decode=10.0, encode=0.25)
    assert parts.of_clip(mask_steps=3, steps=5, guided=False, residual=False) == 13 + 20 + 0.25
    assert parts.of_clip(mask_steps=3, steps=5, guided=True, residual=True) == 26 + 20 + 0.5


def test_a_product_of_matrices_counts_a_multiplication_and_an_addition_for_each_term():
    left, right = torch.empty(3, 5, device="meta"), torch.empty(5, 7, device="meta")
    assert counted(torch.mm, left, right) * 1e12 == pytest.approx(2 * 3 * 5 * 7)


def test_attention_is_counted():
    query = torch.empty(2, 4, 64, 16, device="meta")
    attention = torch.nn.functional.scaled_dot_product_attention
    # Scores and their sum over the values: two products a pair of tokens.
    assert counted(attention, query, query, query) * 1e12 == pytest.approx(2 * 2 * 8 * 64 * 64 * 16)


def test_decoding_twice_the_frames_is_twice_the_work(pipe):
    short, long = (count_operations(pipe, frames, SIDE, SIDE) for frames in (4, 8))
    assert long.decode == pytest.approx(2 * short.decode)
    assert long.encode == short.encode > 0
    assert long.unet["video"] > 1.9 * short.unet["video"] > 0


def test_the_network_is_counted_as_on_the_processor(pipe):
    """Attention aside, which the counter does not see there, the convolutions are the same."""
    convolution = pipe.unet.conv_in["video"]
    meta = copy.deepcopy(convolution).to("meta")
    size = (2, convolution.in_channels, 4, 4)
    assert counted(meta, torch.empty(size, device="meta")) == counted(
        convolution, torch.zeros(size)
    )


def test_a_table_shows_every_column_and_a_dash_for_what_a_row_lacks():
    rows = [{"what": "plain", "seconds_a_clip": 12.3456}, {"what": "a|b", "kept": False, "x": None}]
    assert markdown_table(rows).splitlines() == [
        "| what | seconds a clip | kept | x |",
        "| --- | --- | --- | --- |",
        "| plain | 12.35 | - | - |",
        "| a\\|b | - | no | - |",
    ]


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e9) | st.text()), min_size=1))
def test_a_table_has_a_line_a_row_and_a_cell_a_column(rows):
    rows = [{"first": 1, **row} for row in rows]
    lines = markdown_table(rows).split("\n")
    assert len(lines) == len(rows) + 2
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def refusal(capsys, monkeypatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["jobs/benchmark.py", *arguments])
    with pytest.raises(SystemExit) as end:
        benchmark.main()
    assert end.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "generate"),
        (["speed"], "speed"),
        (["generate", "--preset", "huge"], "preset"),
        (["generate", "--resolution", "65"], "resolution"),
        (["generate", "--batch-sizes", "0"], "batch_sizes"),
        (["generate", "--no-such-key", "1"], "--no-such-key"),
        (["generate", "--result", "no/such/folder/figures.json"], "result"),
        (["detector", "--videos", "no/such/folder"], "no/such/folder"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(capsys, monkeypatch, arguments, named):
    assert named in refusal(capsys, monkeypatch, *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["generate", "detector"])
def test_a_missing_gpu_is_said_at_once(capsys, monkeypatch, name):
    assert "cuda" in refusal(capsys, monkeypatch, name, "--device", "cuda")


def test_help_lists_the_benchmarks(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["jobs/benchmark.py", "--help"])
    benchmark.main()
    shown = capsys.readouterr().out
    for name in benchmark.BENCHMARKS:
        assert name in shown


def test_a_library_that_is_not_there_is_named(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "jobs.benchmarks.preprocess", raising=False)
    # What `import` finds here is "not there".
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "ray" in refusal(capsys, monkeypatch, "preprocess", "--videos", ".")


def test_benchmarks_of_the_model_need_neither_ray_nor_mediapipe_nor_pyarrow():
    program = (
        "import sys, jobs.benchmark, jobs.benchmarks.generate, jobs.benchmarks.detector\n"
        "import jobs.benchmarks.train_step\n"
        "jobs.benchmarks.detector.read_frames(None, 2, 64)\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    loaded = set(ran.stdout.split())
    assert "diffusers" in loaded
    assert not loaded & {"ray", "mediapipe", "pyarrow", "mlflow", "botocore", "pebble"}


@pytest.mark.filterwarnings("ignore")
def test_the_detector_is_measured_with_its_crops():
    found = detector.measure(
        detector.Settings(
            device="cpu", frames=2, batch_sizes=[2], compile=False, mediapipe=False, repeats=1
        )
    )
    (row,) = [row for row in found["rows"] if row["what"] == "whole detector"]
    assert row["frames_a_call"] == 2 and row["per_second"] > 0
    assert {row["what"] for row in found["rows"]} == {
        "whole detector",
        "landmarks, forward",
        "landmarks, forward and backward",
    }
    assert found["hands_found"] > 0
