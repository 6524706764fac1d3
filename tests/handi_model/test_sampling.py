import torch
from diffusers import DPMSolverMultistepScheduler

from handi_model.sampling import Condition, denoise, denoising_step
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


def test_a_network_that_knows_the_noise_leads_back_to_the_clean_latent():
    clean = torch.randn(1, 2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    )
    bars = scheduler.alphas_cumprod

    class Oracle(torch.nn.Module):
        def forward(self, noisy, timestep, *_):
            bar = bars[timestep].reshape(-1, 1, 1, 1, 1)
            return (noisy - bar.sqrt() * clean) / (1 - bar).sqrt()

    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    out = denoise(Oracle(), scheduler, noise, condition([1.0]), "video", steps=10)
    assert torch.allclose(out, clean, atol=0.02)


def test_each_step_is_told_and_may_be_changed():
    scheduler = DPMSolverMultistepScheduler()
    told = []

    def on_step(index, timestep, latent):
        told.append((index, int(timestep)))
        return torch.full_like(latent, 9.0) if index == 3 else latent

    noise = torch.zeros(1, 2, 5, 4, 4)
    out = denoise(Linear(), scheduler, noise, condition([0.0]), "mask", 4, on_step)
    assert [index for index, _ in told] == [0, 1, 2, 3]
    assert [t for _, t in told] == sorted((t for _, t in told), reverse=True)
    assert (out == 9).all()


def test_a_guided_step_compiles_without_a_graph_break():
    guided = condition([1.0]).guided(torch.full((1, 3, 4), 0.5), torch.tensor([5.0]))
    noisy, timestep = torch.zeros(1, 2, 5, 4, 4), torch.tensor(400)
    torch._dynamo.reset()
    compiled = torch.compile(denoising_step, fullgraph=True, backend="eager")
    expected = denoising_step(Linear(), noisy, timestep, guided, "video")
    out = compiled(Linear(), noisy, timestep, guided, "video")
    assert apart(out, expected) < ROUNDING
