import json
import os

import pytest
import torch
from torch import nn

from handi_model.damage import DamagedFile
from handi_model.optimiser import Optimiser, OptimiserSettings
from handi_model.training_state import TrainingState

SETTINGS = OptimiserSettings(learning_rate=0.1, warmup_steps=2, ema_decay=0.9)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))


def optimiser_of(network, steps=20):
    return Optimiser(dict(network.named_parameters()), SETTINGS, steps)


def train(network, optimiser, first, last):
    losses = []
    for step in range(first, last):
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        loss = network(x).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_a_training_gone_on_with_gives_the_losses_of_one_that_never_stopped(tmp_path):
    whole = net()
    expected = train(whole, optimiser_of(whole), 0, 12)

    before = net()
    first = optimiser_of(before)
    losses = train(before, first, 0, 5)
    TrainingState.of(first, {"done": 5}).write(tmp_path)

    after = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    second = optimiser_of(after)
    state = TrainingState.read(tmp_path)
    state.restore(second)
    losses += train(after, second, state.numbers["done"], 12)
    assert losses == pytest.approx(expected, rel=1e-5)
    with second.averaged():
        averaged = [p.clone() for p in after.parameters()]
    assert all(not torch.equal(a, p) for a, p in zip(averaged, after.parameters(), strict=True))


def test_the_state_is_a_copy_that_later_steps_leave_alone():
    network = net()
    optimiser = optimiser_of(network)
    train(network, optimiser, 0, 2)
    state = TrainingState.of(optimiser, {})
    kept = {name: weight.clone() for name, weight in state.weights.items()}
    train(network, optimiser, 2, 5)
    assert all(torch.equal(state.weights[name], kept[name]) for name in kept)
    json.dumps(state.numbers)


def test_a_step_without_a_finite_gradient_leaves_the_weights_and_says_so():
    network = net()
    optimiser = optimiser_of(network)
    train(network, optimiser, 0, 3)
    before = [p.clone() for p in network.parameters()]
    (network(torch.ones(1, 3)).sum() * float("nan")).backward()
    stepped = optimiser.step()
    assert stepped.skipped
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert all(p.grad is None for p in network.parameters())
    assert not any(map(torch.isnan, optimiser.average.shadow_params[0].flatten()))


def test_the_learning_rate_rises_and_falls_over_the_whole_training():
    network = net()
    optimiser = optimiser_of(network, steps=10)
    rates = []
    for _ in range(10):
        network(torch.ones(1, 3)).sum().backward()
        rates.append(optimiser.step().learning_rate)
    assert rates[0] == 0 and rates[2] == max(rates) == pytest.approx(0.1)
    assert rates[3:] == sorted(rates[3:], reverse=True)


def test_a_large_gradient_is_clipped_and_its_norm_told():
    network = net()
    optimiser = optimiser_of(network)
    (network(torch.ones(1, 3)).sum() * 1e6).backward()
    assert optimiser.step().gradient_norm > 1e3


def test_a_checkpoint_of_another_network_is_refused_in_one_line():
    network = net()
    optimiser = optimiser_of(network)
    state = TrainingState.of(optimiser, {})
    other = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2), nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"another model: 2\.(bias|weight)"):
        state.restore(optimiser_of(other))
    wider = nn.Sequential(nn.Linear(3, 6), nn.Linear(6, 2))
    with pytest.raises(ValueError, match="other sides"):
        state.restore(optimiser_of(wider))


@pytest.mark.parametrize("name", ["weights.safetensors", "optimiser.safetensors", "state.json"])
def test_a_state_whose_file_is_cut_short_is_named(tmp_path, name):
    network = net()
    optimiser = optimiser_of(network)
    train(network, optimiser, 0, 1)
    TrainingState.of(optimiser, {}).write(tmp_path)
    os.truncate(tmp_path / name, (tmp_path / name).stat().st_size - 1)
    with pytest.raises(DamagedFile, match=f"{tmp_path / name} is damaged"):
        TrainingState.read(tmp_path)
