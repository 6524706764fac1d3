"""Whatever goes wrong while a network is used in another mode, it comes back as it was."""

import pytest
import torch

from handi_model import trainer as trainer_module
from handi_model.modes import evaluating, training, weightless
from handi_model.optimiser import Optimiser, OptimiserSettings
from handi_model.trainer import generated_areas
from tests.handi_model.exchanges import SmallNetwork, batch, small_trainer


@pytest.mark.parametrize("mode", [evaluating, training])
def test_every_layer_is_back_in_its_own_mode_after_a_mistake(mode):
    network = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    network[1].eval()
    with pytest.raises(KeyError), mode(network):
        assert {module.training for module in network.modules()} == {mode is training}
        raise KeyError
    assert network.training and network[0].training and not network[1].training


def test_gradients_count_again_after_a_mistake_in_what_weighs_nothing():
    weight = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(KeyError), weightless([weight]):
        (weight.sum() * torch.nan).backward()
        assert torch.equal(weight.grad, torch.zeros(2))
        raise KeyError
    weight.sum().backward()
    assert torch.equal(weight.grad, torch.ones(2))


def test_masks_that_cannot_be_generated_leave_the_network_training(monkeypatch):
    network = SmallNetwork().train()
    trainer = small_trainer(network, network)

    def fails(unet, *rest):
        assert not unet.training
        raise RuntimeError("out of memory")

    monkeypatch.setattr(trainer_module, "denoise", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        generated_areas(trainer.networks, None, batch(0), 1, None)
    assert network.training


def test_weights_that_cannot_be_averaged_stay_those_that_are_trained(monkeypatch):
    network = torch.nn.Linear(2, 2)
    optimiser = Optimiser(dict(network.named_parameters()), OptimiserSettings(), 10)
    trained = network.weight.detach().clone()

    def half_done(weights):
        weights[0].data.zero_()
        raise RuntimeError("out of memory")

    monkeypatch.setattr(optimiser.average, "copy_to", half_done)
    with pytest.raises(RuntimeError, match="out of memory"), optimiser.averaged():
        pass
    assert torch.equal(network.weight, trained)
