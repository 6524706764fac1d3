import torch
from diffusers import DPMSolverMultistepScheduler

from handi_model.sampling import Condition, Sampled, denoise, denoising_step
from tests.closeness import ROUNDING, apart


class Linear(torch.nn.Module):
    """A network whose output is known: the text's mean, in every cell."""

    def forward(self, noisy, timestep, text, image_latent, area, stage):
        assert len(noisy) == len(timestep) == len(text) == len(image_latent) == len(area)
        return text.mean((1, 2))[:, None, None, None, None].expand_as(noisy)


def condition(texts: list[float]) -> Condition:
    count = len(texts)
    text = torch.tensor(texts)[:, None, None].expand(count, 3, 4)
    return Condition(text, torch.zeros(count, 2, 4, 4), torch.zeros(count, 4, 4))


def test_guidance_goes_from_without_the_instruction_beyond_it_for_each_clip_by_itself():
    plain = condition([1.0, 2.0])
    guided = plain.guided(torch.full((2, 3, 4), 0.5), torch.tensor([3.0, 1.0]))
    noisy = torch.zeros(2, 2, 5, 4, 4)
    out = denoising_step(Linear(), noisy, torch.tensor(7), guided, "video")
    assert out.shape == noisy.shape
    assert torch.allclose(out[0], torch.tensor(0.5 + 3 * (1.0 - 0.5)))
    assert torch.allclose(out[1], torch.tensor(2.0))


def test_a_guidance_scale_of_one_costs_no_second_call():
    plain = condition([1.0])
    assert plain.guided(torch.zeros(1, 3, 4), torch.tensor([1.0])) is plain


def test_each_step_is_told_and_may_be_changed():
    scheduler = DPMSolverMultistepScheduler()
    told = []

    def on_step(index, timestep, now):
        told.append((index, int(timestep)))
        return Sampled(torch.full_like(now.latent, 9.0), now.condition) if index == 3 else now

    noise = torch.zeros(1, 2, 5, 4, 4)
    out = denoise(Linear(), scheduler, noise, condition([0.0]), "mask", 4, on_step)
    assert [index for index, _ in told] == [0, 1, 2, 3]
    assert [t for _, t in told] == sorted((t for _, t in told), reverse=True)
    assert (out == 9).all()


def test_a_step_can_be_the_last_and_can_change_what_the_next_ones_are_told():
    scheduler = DPMSolverMultistepScheduler()
    seen = []

    class Watched(Linear):
        def forward(self, noisy, timestep, text, *rest):
            seen.append(float(text.mean()))
            return super().forward(noisy, timestep, text, *rest)

    def on_step(index, timestep, now):
        return None if index == 2 else Sampled(now.latent, condition([7.0]))

    noise = torch.zeros(1, 2, 5, 4, 4)
    out = denoise(Watched(), scheduler, noise, condition([0.0]), "mask", 4, on_step)
    assert seen == [0, 7, 7]
    assert out.isfinite().all()


def test_a_guided_step_compiles_without_a_graph_break():
    guided = condition([1.0]).guided(torch.full((1, 3, 4), 0.5), torch.tensor([5.0]))
    noisy, timestep = torch.zeros(1, 2, 5, 4, 4), torch.tensor(400)
    torch._dynamo.reset()
    compiled = torch.compile(denoising_step, fullgraph=True, backend="eager")
    expected = denoising_step(Linear(), noisy, timestep, guided, "video")
    out = compiled(Linear(), noisy, timestep, guided, "video")
    assert apart(out, expected) < ROUNDING
