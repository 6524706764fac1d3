"""diffusers' schedulers sample the model right, or are refused by name before anything runs."""

import diffusers
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from handi_model.config import ModelConfig
from handi_model.diffusion import PREDICTS, alpha_bars, scheduler_config, velocity
from handi_model.interface.schedulers import (
    WORKING,
    check_scheduler,
    hand_on,
    set_steps,
    step_arguments,
    trained_noise,
)
from handi_model.sampling import Condition, denoise
from tests.closeness import ROUNDING, apart

SHAPE = (2, 2, 5, 4, 4)
NOTHING = Condition(torch.zeros(2, 1, 1), torch.zeros(2, 2, 4, 4), torch.zeros(2, 4, 4))


def models_own(predicts: str, **changes) -> DPMSolverMultistepScheduler:
    config = scheduler_config(ModelConfig.of("tiny", predicts=predicts, **changes))
    scheduler = DPMSolverMultistepScheduler(**config)
    hand_on(scheduler)
    return scheduler


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def noise(seed: int = 1) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


class Oracle(torch.nn.Module):
    """Knows the clean latent, and so what is noise in what it is given."""

    def __init__(self, clean: torch.Tensor, predicts: str, bars: torch.Tensor) -> None:
        super().__init__()
        self.clean, self.predicts, self.bars = clean, predicts, bars

    def forward(self, noisy, timestep, *_):
        at = timestep.float()
        low = at.long()
        high = (low + 1).clamp(max=len(self.bars) - 1)
        log_sigma = ((1 - self.bars) / self.bars).sqrt().log()
        sigma = torch.lerp(log_sigma[low], log_sigma[high], at - low).exp()
        bar = (1 / (1 + sigma**2)).reshape(-1, 1, 1, 1, 1)
        found = (noisy - bar.sqrt() * self.clean) / (1 - bar).sqrt()
        return found if self.predicts == "noise" else velocity(self.clean, found, bar)


@pytest.mark.parametrize("predicts", PREDICTS.values())
@pytest.mark.parametrize("name", WORKING)
def test_a_network_that_knows_the_noise_leads_back_to_the_clean_latent(name, predicts):
    own = models_own(predicts)
    scheduler = getattr(diffusers, name).from_config(own.config)
    check_scheduler(scheduler, trained_noise(own))
    clean = 3 * noise(0)
    oracle = Oracle(clean, predicts, alpha_bars(own.config))
    given = step_arguments(scheduler, seeded(2, 3), 0.0)
    out = denoise(oracle, scheduler, noise(), NOTHING, "video", 20, step_arguments=given)
    # Some end at the noise of the first timestep, which is 0.03.
    assert (out - clean).abs().mean() < 0.04
    assert (out - clean).abs().max() < 0.16


@pytest.mark.parametrize(
    "kind",
    [
        DDIMScheduler,
        DDPMScheduler,
        DPMSolverMultistepScheduler,
        EulerAncestralDiscreteScheduler,
        EulerDiscreteScheduler,
        UniPCMultistepScheduler,
    ],
)
def test_a_model_of_zero_terminal_snr_is_sampled_from_pure_noise(kind):
    own = models_own("velocity", zero_terminal_snr=True)
    scheduler = kind.from_config(own.config)
    check_scheduler(scheduler, trained_noise(own))
    clean = noise(0)
    oracle = Oracle(clean, "velocity", alpha_bars(own.config).clamp(min=1e-9))
    out = denoise(oracle, scheduler, noise(), NOTHING, "video", 5)
    assert apart(out, clean) < 1e-3


class Curved(torch.nn.Module):
    """A network whose answer depends on all that it is given, and on the scale of it."""

    def forward(self, noisy, timestep, *_):
        return torch.sin(noisy) + timestep.reshape(-1, 1, 1, 1, 1) / 1000


@pytest.mark.parametrize("name", WORKING)
def test_a_stage_is_what_the_loop_of_diffusers_pipelines_gives(name):
    scheduler = getattr(diffusers, name).from_config(models_own("velocity").config)
    takes = step_arguments(scheduler, [], 0.0)
    given = {"generator": seeded(4, 5)} if "generator" in takes else {}
    scheduler.set_timesteps(6)
    latents = noise() * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        output = Curved()(scheduler.scale_model_input(latents, t), t.expand(2))
        latents = scheduler.step(output, t, latents, **given).prev_sample
    # By the same scheduler: nothing of what it kept of the other stage may be left.
    arguments = step_arguments(scheduler, seeded(4, 5), 0.0)
    out = denoise(Curved(), scheduler, noise(), NOTHING, "video", 6, step_arguments=arguments)
    assert apart(out, latents) < 10 * ROUNDING


def test_schedulers_of_second_order_call_the_network_twice_a_step():
    scheduler = HeunDiscreteScheduler.from_config(models_own("velocity").config)
    assert len(set_steps(scheduler, 4)) == 7


OTHERS = [
    "CMStochasticIterativeScheduler",
    "CogVideoXDDIMScheduler",
    "DDIMInverseScheduler",
    "EDMEulerScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "IPNDMScheduler",
    "LCMScheduler",
    "TCDScheduler",
]


@pytest.mark.parametrize("name", OTHERS)
def test_schedulers_of_other_models_are_refused_by_name_before_anything_runs(
    tiny, scene, name, monkeypatch
):
    monkeypatch.setattr(tiny.unet, "forward", lambda *_: pytest.fail("it ran"))
    pipe = sampled_by(tiny, getattr(diffusers, name))
    with pytest.raises(ValueError, match=f"scheduler: {name} does not .* EulerDiscrete") as told:
        pipe(scene, "lift box", num_frames=2, num_inference_steps=1)
    assert "\n" not in str(told.value)


CHANGES = [
    (EulerDiscreteScheduler, {"prediction_type": "epsilon"}, "has prediction_type 'epsilon', and"),
    (
        EulerDiscreteScheduler,
        {"beta_schedule": "linear"},
        "has beta_schedule 'linear'",
    ),
    (DPMSolverMultistepScheduler, {"use_flow_sigmas": True}, "is set to flow matching"),
    (DDIMScheduler, {"clip_sample": True}, "has clip_sample, which .* clip_sample=False"),
    (DPMSolverMultistepScheduler, {"thresholding": True}, "has thresholding, which"),
]


@pytest.mark.parametrize(("kind", "changes", "line"), CHANGES)
def test_a_scheduler_that_is_set_to_another_model_is_refused(kind, changes, line):
    own = models_own("velocity")
    with pytest.raises(ValueError, match=f"scheduler: {kind.__name__} {line}") as told:
        check_scheduler(kind.from_config(own.config, **changes), trained_noise(own))
    assert "\n" not in str(told.value)


def test_a_scheduler_without_the_models_zero_terminal_snr_is_refused():
    own = models_own("velocity", zero_terminal_snr=True)
    with pytest.raises(ValueError, match="HeunDiscreteScheduler has no rescale_betas_zero_snr"):
        check_scheduler(HeunDiscreteScheduler.from_config(own.config), trained_noise(own))


def test_steps_and_eta_that_a_scheduler_cannot_do_are_told():
    own = models_own("velocity")
    pndm = PNDMScheduler.from_config(own.config, skip_prk_steps=False)
    with pytest.raises(ValueError, match="num_inference_steps: PNDMScheduler takes no 1 steps"):
        set_steps(pndm, 1)
    with pytest.raises(ValueError, match="eta: DPMSolverMultistepScheduler takes none"):
        step_arguments(own, None, 0.5)


def test_latents_are_not_clipped_as_pixels_by_the_scheduler_of_a_model_from_before(tiny, tmp_path):
    """Its configuration says nothing of clipping, and DDIM's own default is to clip."""
    folder = tmp_path / "model"
    own = scheduler_config(ModelConfig.of("tiny"))
    DPMSolverMultistepScheduler(**own).save_pretrained(folder)
    loaded = DPMSolverMultistepScheduler.from_pretrained(folder)
    assert "clip_sample" not in loaded.config
    pipe = type(tiny)(**{**tiny.components, "scheduler": loaded})
    for kind in (DDIMScheduler, DDPMScheduler):
        assert kind.from_config(pipe.scheduler.config).config.clip_sample is False
    pipe.scheduler.save_pretrained(folder)
    assert DDIMScheduler.from_pretrained(folder).config.clip_sample is False


def sampled_by(pipe, kind, **changes):
    scheduler = kind.from_config(pipe.scheduler.config, **changes)
    pipe = type(pipe).from_pipe(pipe, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


CALL = {"num_frames": 2, "num_inference_steps": 2, "mask_steps": 1, "output_type": "latent"}


@pytest.mark.parametrize(
    ("kind", "changes", "eta"),
    [
        (EulerAncestralDiscreteScheduler, {}, 0.0),
        (DDIMScheduler, {}, 1.0),
        (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}, 0.0),
    ],
)
def test_a_clip_does_not_depend_on_its_neighbours_where_each_step_adds_noise(
    tiny, scene, kind, changes, eta
):
    pipe = sampled_by(tiny, kind, **changes)
    images, prompts = [scene, scene[:, ::-1]], ["open the drawer", "lift box"]
    together = pipe(images, prompts, generator=seeded(1, 2), eta=eta, **CALL).frames
    alone = pipe(images[1], prompts[1], generator=seeded(2), eta=eta, **CALL).frames
    assert torch.allclose(together[1], alone[0], atol=1e-3)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_the_predicted_mask_given_back_gives_the_same_clip_where_each_step_adds_noise(tiny, scene):
    pipe = sampled_by(tiny, EulerAncestralDiscreteScheduler)
    first = pipe(scene, "lift box", generator=seeded(3), mask_threshold=0.05, **CALL)
    again = pipe(scene, "lift box", generator=seeded(3), mask=first.masks[0], **CALL)
    assert torch.allclose(first.frames[0], again.frames[0], atol=1e-3)


def test_progress_counts_every_call_of_the_network(tiny, scene):
    pipe = sampled_by(tiny, HeunDiscreteScheduler)
    seen = []

    def watch(given, step, timestep, state):
        seen.append((step, given.num_timesteps, state["stage"]))
        assert timestep == given.current_timestep.item()

    pipe(scene, "lift box", callback_on_step_end=watch, **CALL)
    assert seen == [(i, 4, "mask" if i == 0 else "video") for i in range(4)]
    assert pipe.current_timestep is None
