"""The SelfGait model in plain PyTorch: shapes, objective, target network, and what the released variant does."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sgela_fast.errors import ConfigError
from sgela_fast.models.selfgait import SelfGait, build_selfgait
from sgela_fast.models.selfgait_config import SelfGaitConfig
from sgela_fast.reference.gated_temporal_pooling import MicroMotionTemplate
from sgela_fast.reference.selfgait import SelfGaitOutput
from sgela_fast.reference.triplet import batch_all_triplet

TINY: dict[str, Any] = {"frames": 5, "height": 16, "width": 12, "channels": (4, 4, 8), "bins": (1, 2, 4)}
TINY |= {"embedding": 6, "projector": 10}


def tiny(dtype: torch.dtype = torch.float64, **settings: Any) -> SelfGait:
    return build_selfgait(SelfGaitConfig(**{**TINY, **settings}), "reference", seed=3, dtype=dtype)


def clips(count: int = 3, frames: int = 5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, frames, 16, 12, generator=generator, dtype=torch.float64)


def test_the_full_size_is_that_of_the_public_code() -> None:
    config = SelfGaitConfig()
    with torch.device("meta"):
        model = SelfGait(config)
    assert (config.strips, config.map_size, config.embedding_width) == (31, (16, 11), 3968)
    convolutions = [tuple(weight.shape) for weight in model.online.frames.parameters()]
    assert convolutions == [
        (32, 1, 5, 5),
        (32, 32, 3, 3),
        (64, 32, 3, 3),
        (64, 64, 3, 3),
        (128, 64, 3, 3),
        (128, 128, 3, 3),
    ]
    assert model.online.strip_weight.shape == (31, 128, 128)
    names = {name for name, _ in model.named_parameters()}
    assert not [name for name in names if name.startswith("target") and ("gates" in name or "predictor" in name)]
    assert model.embed(torch.empty(2, 30, 64, 44, device="meta")).shape == (31, 2, 128)


def test_an_embedding_is_what_modules_strip_by_strip_give() -> None:
    """The frame network, the pyramid, one small network for each strip and its matrix, written out in a loop."""
    model, batch = tiny(), clips()
    layers: list[nn.Module] = []
    for number, stage in enumerate(model.online.frames.stages):
        layers += [nn.MaxPool2d(2)] if number else []
        for convolution in stage.children():
            layers += [convolution, nn.LeakyReLU(0.01)]
    maps = nn.Sequential(*layers)(batch.flatten(0, 1).unsqueeze(1)).unflatten(0, (3, 5))  # (N, T, C, 4, 3)
    rows = [maps[..., first:last, :] for bins in (1, 2, 4) for first, last in _edges(4, bins)]
    gates = model.online.gates
    assert gates is not None
    expected = []
    for strip, pixels in enumerate(rows):
        features = pixels.mean(dim=(-2, -1)) + pixels.amax(dim=(-2, -1))  # (N, T, C)
        template = MicroMotionTemplate(8, 2).double()
        for gate, weights in zip(template.gates, gates.weights(), strict=True):
            assert isinstance(gate, nn.Sequential)
            state = [tensor[strip] for tensor in weights if tensor is not None]
            names = ("0.weight", "0.bias", "2.weight", "2.bias")
            gate.load_state_dict(dict(zip(names, state, strict=True)))
        pooled = template(features.transpose(1, 2)).amax(dim=-1)  # (N, C)
        expected.append(pooled @ model.online.strip_weight[strip])
    torch.testing.assert_close(model.embed(batch), torch.stack(expected))


def _edges(rows: int, bins: int) -> list[tuple[int, int]]:
    size = rows // bins
    return [(index * size, (index + 1) * size) for index in range(bins)]


def test_projector_is_a_convolution_of_width_one_over_the_strips() -> None:
    model = tiny()
    head = model.online_head.projector
    strips = torch.randn(7, 3, 6, dtype=torch.float64)
    rows = functional.conv1d(
        strips.permute(1, 2, 0), head.hidden.weight[:, :, None], head.hidden.bias
    )  # (N, hidden, S)
    rows = functional.relu(functional.batch_norm(rows, None, None, head.norm.weight, head.norm.bias, training=True))
    expected = functional.conv1d(rows, head.output.weight[:, :, None], head.output.bias).permute(2, 0, 1)
    torch.testing.assert_close(head(strips), expected)


def test_statistics_of_single_strips_are_those_of_a_network_for_each() -> None:
    head = tiny(norm="strip").online_head.projector
    strips = torch.randn(7, 3, 6, dtype=torch.float64)
    expected = []
    for strip in strips:
        rows = functional.batch_norm(head.hidden(strip), None, None, training=True)
        expected.append(head.output(functional.relu(rows)))
    torch.testing.assert_close(head(strips), torch.stack(expected))


def test_loss_is_byol_over_features_summed_over_both_views() -> None:
    model = tiny()
    output = model(clips(seed=1), clips(seed=2))
    terms = []
    for prediction, target in zip(output.predictions, output.targets, strict=True):
        unit = prediction / prediction.norm(dim=-1, keepdim=True)
        aim = target / target.norm(dim=-1, keepdim=True)
        terms.append((unit - aim).square().sum(dim=-1).mean())  # |q - z|^2 = 2 - 2 cos
    torch.testing.assert_close(model.loss(output), terms[0] + terms[1])


def test_loss_is_symmetric_in_the_views() -> None:
    model = tiny().eval()
    first, second = clips(seed=1), clips(seed=2)
    torch.testing.assert_close(model.loss(model(first, second)), model.loss(model(second, first)))


def test_a_view_is_held_to_the_target_of_the_other_view() -> None:
    model = tiny().eval()
    first, second = clips(seed=1), clips(seed=2)
    output = model(first, second)
    torch.testing.assert_close(output.targets[0], model.aim(second[:, -1:]))
    torch.testing.assert_close(output.predictions[0], model.predict(model.embed(first[:, :-1])))


def test_the_future_frame_is_hidden_from_the_online_network() -> None:
    model = tiny().eval()
    first, second = clips(seed=1), clips(seed=2)
    changed = first.clone()
    changed[:, -1] = 0
    before, after = model(first, second), model(changed, second)
    assert torch.equal(before.predictions[0], after.predictions[0])
    assert not torch.equal(before.targets[1], after.targets[1])
    changed = first.clone()
    changed[:, :-1] = 0
    after = model(changed, second)
    assert not torch.equal(before.predictions[0], after.predictions[0])
    assert torch.equal(before.targets[1], after.targets[1])


@pytest.mark.parametrize("variant", ["canonical", "released"])
def test_the_target_takes_no_gradient(variant: Any) -> None:
    model = tiny(variant=variant)
    model.loss(model(clips(seed=1), clips(seed=2))).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("target"), name
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.online.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("variant", ["canonical", "released"])
def test_target_starts_as_a_copy(variant: Any) -> None:
    model = tiny(variant=variant)
    own, others = model.state_dict(), 0
    for name, value in own.items():
        if name.startswith("target"):
            assert torch.equal(value, own[name.replace("target", "online", 1)]), name
            others += 1
    assert others > 10


def test_target_moves_by_the_momentum_exactly() -> None:
    model = tiny(momentum=0.75)
    with torch.no_grad():
        for number, (target, online) in enumerate(model.followed()):
            target.fill_(8.0 * number)
            online.fill_(4.0)
    model.update_target()
    for number, (target, _) in enumerate(model.followed()):
        assert torch.all(target == 0.75 * 8 * number + 0.25 * 4)


def test_running_statistics_follow_the_average_in_the_canonical_variant() -> None:
    model = tiny()
    before = model.target_head.projector.norm.running_mean.clone()
    model(clips(seed=1), clips(seed=2))
    assert torch.equal(model.target_head.projector.norm.running_mean, before)
    model.update_target()
    online = model.online_head.projector.norm.running_mean
    torch.testing.assert_close(model.target_head.projector.norm.running_mean, before + 0.004 * (online - before))


class TestReleased:
    """What the public code does otherwise."""

    def test_both_networks_see_the_last_frame_but_one_alone(self) -> None:
        model, batch = tiny(variant="released"), clips()
        assert torch.equal(model.seen(batch), batch[:, 3:4])
        assert torch.equal(model.aimed_at(batch), batch[:, 3:4])

    def test_cosine_runs_along_the_strips(self) -> None:
        model = tiny(variant="released")
        tensors = [torch.randn(7, 3, 6, dtype=torch.float64) for _ in range(4)]
        output = SelfGaitOutput((tensors[0], tensors[1]), (tensors[2], tensors[3]), (tensors[0], tensors[1]))
        expected = 0.0
        for clip, feature in product(range(3), range(6)):
            for one, other in ((tensors[0], tensors[2]), (tensors[1], tensors[3])):
                a, b = one[:, clip, feature], other[:, clip, feature]
                expected += float(1 - a @ b / (a.norm() * b.norm())) / 18
        assert model.loss(output).item() == pytest.approx(expected)

    def test_running_statistics_are_moved_by_the_targets_own_batches_alone(self) -> None:
        model = tiny(variant="released")
        norm = model.target_head.projector.norm
        model(clips(seed=1), clips(seed=2))
        after = norm.running_mean.clone()
        assert not torch.equal(after, torch.zeros_like(after))
        model.update_target()
        assert torch.equal(norm.running_mean, after)

    def test_single_settings_override_the_variant(self) -> None:
        config = SelfGaitConfig(variant="released", objective="clip")
        assert (config.objective, config.cosine, config.loss_factor) == ("clip", "strips", 1.0)


def test_clip_objective_shows_every_frame_to_both() -> None:
    model, batch = tiny(objective="clip"), clips()
    assert model.seen(batch) is batch
    assert model.aimed_at(batch) is batch


def test_clips_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the shape \(3, 4, 16, 12\) but the model reads \(clips, 5, 16, 12\)"):
        tiny()(clips(frames=4), clips())
    with pytest.raises(ValueError, match=r"the model reads \(clips, frames, 16, 12\)"):
        tiny().embed(clips().flatten(0, 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"height": 12}, "give a height of 4 times a multiple of every number of strips"),
        ({"channels": (4, 4, 6)}, "the last one must be a multiple of 4"),
        ({"bins": ()}, "give one or more numbers of at least 1"),
        ({"momentum": 1.5}, r"it must be in \[0, 1\]"),
        ({"objective": "past"}, "choose future, clip or aliased"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SelfGaitConfig(**{**TINY, **settings})


def test_triplet_loss_equals_a_loop_over_all_triplets() -> None:
    embeddings = torch.randn(3, 7, 5, dtype=torch.float64) * 0.2
    labels = torch.tensor([4, 1, 4, 2, 1, 1, 9])
    means, active, count = [], 0, 0
    for strip in embeddings:
        costs = []
        for anchor, own, other in product(range(7), repeat=3):
            if anchor != own and labels[anchor] == labels[own] != labels[other]:
                near, far = (strip[anchor] - strip[own]).norm(), (strip[anchor] - strip[other]).norm()
                costs.append(float((0.2 + near - far).clamp_min(0)))
        positive = [cost for cost in costs if cost > 0]
        means.append(sum(positive) / len(positive))
        active, count = active + len(positive), count + len(costs)
    loss = batch_all_triplet(embeddings, labels, margin=0.2)
    assert loss.total.item() == pytest.approx(sum(means) / 3)
    assert loss.active.item() == pytest.approx(active / count)
    apart = [(strip[i] - strip[j]).norm().item() for strip in embeddings for i in range(7) for j in range(7) if i != j]
    assert loss.distance.item() == pytest.approx(sum(apart) / len(apart))


def test_triplet_loss_is_zero_with_zero_gradient_where_nothing_costs() -> None:
    embeddings = torch.zeros(2, 4, 3, dtype=torch.float64)
    embeddings[:, 2:] = 5.0  # twins of one person, far from those of the other
    embeddings.requires_grad_()
    loss = batch_all_triplet(embeddings, torch.tensor([0, 0, 1, 1]))
    loss.total.backward()
    assert loss.total == loss.active == 0
    assert embeddings.grad is not None
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))
    alone = batch_all_triplet(torch.randn(2, 3, 3), torch.tensor([1, 1, 1]))
    assert alone.total == alone.active == 0


def test_triplet_loss_gradients_are_right() -> None:
    embeddings = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda values: batch_all_triplet(values, labels).total, (embeddings,))
