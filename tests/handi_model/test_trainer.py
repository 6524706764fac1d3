from dataclasses import replace

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from handi_model import trainer as trainer_module
from handi_model.optimiser import Optimiser, OptimiserSettings
from handi_model.trainer import Trainer, generated_areas, pass_seed, weighted_means
from handi_model.training import LossSettings, Networks, StepResult
from tests.closeness import ROUNDING, apart


def scheduler_of(pipe):
    return DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)


@pytest.fixture
def trainer(fresh_tiny, detector) -> Trainer:
    fresh_tiny.unet.train()
    return Trainer(
        networks=Networks.of(fresh_tiny, detector),
        unet=fresh_tiny.unet,
        optimiser=Optimiser(dict(fresh_tiny.unet.named_parameters()), OptimiserSettings(), 10),
        losses=LossSettings(decoded_frames=1),
        scheduler=scheduler_of(fresh_tiny),
        mask_steps=1,
    )


def gradient(trainer, name="backbone.conv_norm_out.weight"):
    taken = trainer.unet.get_parameter(name).grad.clone()
    trainer.unet.zero_grad()
    return taken


def test_passes_on_two_workers_give_the_gradient_of_both_on_one(trainer, two_clips):
    parts = [two_clips.take([0]), two_clips.take([1])]
    for number, part in enumerate(parts):
        trainer.backward(part, "mask", pass_seed(0, number), weight=0.5)
    alone = gradient(trainer)

    of_two = replace(trainer, workers=2)
    shares = []
    for number, part in enumerate(parts):
        of_two.backward(part, "mask", pass_seed(0, number), weight=0.5)
        shares.append(gradient(trainer))
    assert apart((shares[0] + shares[1]) / 2, alone) < 10 * ROUNDING


def test_a_pass_that_weighs_nothing_adds_nothing(trainer, two_clips):
    trainer.backward(two_clips, "video", 3, weight=0.0)
    assert not gradient(trainer).any()


def test_a_pass_of_one_seed_gives_the_same_loss_again(trainer, two_clips):
    losses = [trainer.backward(two_clips, "video", 5, share=0.5).loss.item() for _ in range(2)]
    assert losses[0] == losses[1]
    assert trainer.backward(two_clips, "video", 6, share=0.5).loss.item() != losses[0]


def test_stage_two_sees_as_many_generated_masks_as_its_share_says(trainer, two_clips, monkeypatch):
    made = []

    def areas(networks, scheduler, clips, steps, generator):
        made.append(len(clips))
        return torch.full_like(clips.mask, 0.25)

    monkeypatch.setattr(trainer_module, "generated_areas", areas)
    area, used = trainer.stage_two_area(two_clips, 0.0, torch.Generator())
    assert used == 0 and torch.equal(area, two_clips.mask) and not made
    area, used = trainer.stage_two_area(two_clips, 1.0, torch.Generator())
    assert used == 1 and (area == 0.25).all() and made == [2]
    assert two_clips.mask.max() == 1  # the batch's own masks stay

    counts = [
        trainer.stage_two_area(two_clips, 0.5, torch.Generator().manual_seed(i))[1]
        for i in range(200)
    ]
    assert 0.4 < sum(counts) / 200 < 0.6
    assert trainer.backward(two_clips, "video", 1, share=1.0).parts["generated"] == 1


def test_without_the_mask_stage_two_sees_the_whole_frame_and_generates_none(
    trainer, two_clips, monkeypatch
):
    monkeypatch.setattr(trainer_module, "generated_areas", lambda *_: pytest.fail("stage 1 ran"))
    free = replace(trainer, networks=replace(trainer.networks, uses_mask=False))
    area, used = free.stage_two_area(two_clips, 1.0, torch.Generator())
    assert used == 0 and area.shape == two_clips.mask.shape and (area == 1).all()
    assert free.networks.stages == ("video",) and trainer.networks.stages == ("mask", "video")


def test_generated_areas_are_those_of_a_seed_and_leave_the_network_as_it_was(
    fresh_tiny, two_clips, detector
):
    networks = Networks.of(fresh_tiny, detector)
    fresh_tiny.unet.train()
    first, again = (
        generated_areas(
            networks, scheduler_of(fresh_tiny), two_clips, 1, torch.Generator().manual_seed(0)
        )
        for _ in range(2)
    )
    assert first.shape == (2, 64, 64)
    assert set(first.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(first, again)
    assert fresh_tiny.unet.training
    assert all(p.grad is None for p in fresh_tiny.unet.parameters())


def test_bfloat16_gives_about_the_same_loss(trainer, two_clips):
    exact = trainer.backward(two_clips, "mask", 2).loss.item()
    rounded = replace(trainer, dtype=torch.bfloat16).backward(two_clips, "mask", 2).loss
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact, rel=0.05)
    assert gradient(trainer).dtype == torch.float32


def test_seeds_of_passes_differ_by_place_and_by_training():
    seeds = {
        pass_seed(seed, epoch, step, number)
        for seed in range(3)
        for epoch in range(3)
        for step in range(3)
        for number in range(3)
    }
    assert len(seeds) == 81
    assert pass_seed(1, 2, 3, 4) == pass_seed(1, 2, 3, 4)


def test_parts_that_say_nothing_are_not_counted():
    def result(loss, gate):
        return StepResult(torch.tensor(loss), {"presence_gate": torch.tensor(gate)})

    means = weighted_means([(result(1.0, float("nan")), 0.25), (result(3.0, 0.5), 0.75)])
    total, weight = means["loss"]
    assert total / weight == pytest.approx(2.5)
    total, weight = means["presence_gate"]
    assert total / weight == pytest.approx(0.5)
