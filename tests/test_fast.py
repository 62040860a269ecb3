"""The fast recipe: each of its parts does what lesson 11 says of it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import Interrupted, count_parameters, needs_muon

from imbalkit import sealed
from imbalkit.data import Batches, ImageSet, RandomCrop, channel_statistics
from imbalkit.fast import (
    CombinedOptimizer,
    MirrorAveraged,
    Muon,
    Resize,
    ShiftAveraged,
    fast_net,
    fit_fast,
    muon_and_sgd,
    orthogonal,
    whitening,
)
from imbalkit.training import fit, predict


@pytest.fixture
def blobs():
    """Three classes of different colour on smooth noise: neighbouring pixels go together."""
    torch.manual_seed(0)
    labels = torch.tensor([0] * 200 + [1] * 80 + [2] * 40)
    noise = F.interpolate(torch.rand(len(labels), 3, 8, 8), size=(32, 32), mode="bilinear")
    colour = torch.eye(3)[labels][:, :, None, None]
    images = (120 * noise + 100 * colour).round().to(torch.uint8).permute(0, 2, 3, 1)
    return ImageSet(images.contiguous(), labels, ("red", "green", "blue"), "blobs")


def normalised(image_set):
    mean, std = channel_statistics(image_set.images)
    (images, _), = Batches(image_set, len(image_set), mean=mean, std=std)  # fmt: skip
    return images


def test_whitened_patches_are_uncorrelated_and_equally_large(blobs):
    filters = whitening(blobs.images, floor=0)
    values = F.conv2d(normalised(blobs), filters).permute(0, 2, 3, 1).flatten(0, 2)[:, :12]
    second_moments = values.T @ values / len(values)
    torch.testing.assert_close(second_moments, torch.eye(12), atol=0.02, rtol=0)
    torch.testing.assert_close(filters[12:], -filters[:12])


def test_a_floor_keeps_faint_directions_faint(blobs):
    filters = whitening(blobs.images, floor=0.1)
    values = F.conv2d(normalised(blobs), filters).permute(0, 2, 3, 1).flatten(0, 2)[:, :12]
    spread = values.pow(2).mean(0)
    assert spread.max() < 1 and spread.min() < 0.5


def test_the_network_has_a_first_layer_that_is_not_trained(blobs):
    net = fast_net(blobs, width=4)
    assert net(torch.zeros(2, 3, 32, 32)).shape == net(torch.zeros(2, 3, 24, 24)).shape == (2, 3)
    before = net.features[0].weight.clone()
    first = count_parameters(net)
    fit_fast(net, blobs, 2, show_progress=False)
    assert (net.features[0].weight == before).all()
    assert sum(p.numel() for p in net.parameters()) - first == 24 * 12


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (6, 6), (1, 5), (5, 1)])
def test_singular_values_become_about_one_and_directions_stay(shape):
    torch.manual_seed(0)
    left, values, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    result = orthogonal(left * values.clamp(min=0.1 * values[0]) @ right)
    in_its_directions = left.T @ result @ right.T
    assert (in_its_directions - in_its_directions.diag().diag()).abs().max() < 1e-4
    assert in_its_directions.diag().min() > 0.68 and in_its_directions.diag().max() < 1.14
    assert orthogonal(torch.zeros(shape)).abs().max() == 0


@needs_muon
@pytest.mark.parametrize("shape", [(8, 27), (27, 8), (5, 5)])
def test_muon_takes_the_steps_of_torchs_own(shape):
    """Ours computes in float32 and torch's in bfloat16, so they agree to its precision."""
    torch.manual_seed(0)
    start, gradients = torch.randn(shape), torch.randn(4, *shape)
    options = {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.3}
    ends = []
    for kind in (Muon, torch.optim.Muon):
        weight = torch.nn.Parameter(start.clone())
        optimizer = kind([weight], **options)
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimizer.step()
        ends.append(weight.detach())
    moved = (ends[1] - start).norm()
    assert (ends[0] - ends[1]).norm() < 0.02 * moved
    torch.testing.assert_close(ends[0].mean(), ends[1].mean(), atol=2e-3, rtol=0)


def test_a_convolution_is_stepped_as_its_matrix_in_any_layout():
    torch.manual_seed(0)
    start, gradient = torch.randn(4, 3, 3, 3), torch.randn(4, 3, 3, 3)
    ends = []
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = torch.nn.Parameter(start.clone(memory_format=layout))
        weight.grad = gradient.clone(memory_format=layout)
        Muon([weight]).step()
        ends.append(weight.detach().flatten(1))
    matrix = torch.nn.Parameter(start.flatten(1).clone())
    matrix.grad = gradient.flatten(1).clone()
    Muon([matrix]).step()
    for end in ends:
        torch.testing.assert_close(end, matrix.detach())


def test_each_parameter_has_one_optimizer(blobs):
    net = fast_net(blobs, width=4)
    optimizer = muon_and_sgd(net)
    named = [p for group in optimizer.param_groups for p in group["params"]]
    trained = [p for p in net.parameters() if p.requires_grad]
    assert len(named) == len(set(named)) and set(named) == set(trained)
    matrices = set(optimizer.optimizers[0].param_groups[0]["params"])
    assert matrices == {m.weight for m in net.features[1:] if isinstance(m, torch.nn.Conv2d)}


def two_optimizers(model):
    return CombinedOptimizer(
        torch.optim.SGD([model.weight], lr=0.1, momentum=0.9),
        torch.optim.SGD([model.bias], lr=0.2, momentum=0.9),
    )


def test_together_both_optimizers_step_and_follow_the_schedule():
    model = torch.nn.Linear(2, 2)
    optimizer = two_optimizers(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    before = copy.deepcopy(model.state_dict())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler.step()
    torch.testing.assert_close(before["weight"] - model.weight, torch.full((2, 2), 0.05))
    torch.testing.assert_close(before["bias"] - model.bias, torch.full((2,), 0.1))
    optimizer.zero_grad()
    assert model.weight.grad is None and model.bias.grad is None


class Flat(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(3, 3)
        self.weight, self.bias = self.inner.weight, self.inner.bias

    def forward(self, images):
        return self.inner(images.mean((2, 3)))


def test_a_training_that_was_cut_off_goes_on_as_if_it_had_not_been(blobs, tmp_path):
    mean, std = channel_statistics(blobs.images)

    def train(model, checkpoint=None, after=None):
        torch.manual_seed(1)
        batches = Batches(blobs, 16, mean=mean, std=std)
        batches = batches if after is None else Interrupted(batches, after)
        fit(model, batches, 4, optimizer=two_optimizers(model), schedule=lambda share: 1.0,
            checkpoint=checkpoint, resume=checkpoint is not None, show_progress=False)  # fmt: skip
        return model.state_dict()

    torch.manual_seed(0)
    start = Flat()
    whole = train(copy.deepcopy(start))
    batches = -(-len(blobs) // 16)
    train(copy.deepcopy(start), tmp_path / "half.pt", after=2 * batches)
    content = torch.load(tmp_path / "half.pt", weights_only=True)
    state = content["optimizer"]["optimizers"][0]["state"][0]
    spoiled = {"momentum_buffer": torch.zeros(1)}
    content["optimizer"]["optimizers"][0]["state"][0] = state | spoiled
    sealed.write(tmp_path / "spoiled.pt", content)
    with pytest.raises(ValueError, match=r"optimizers\[0\].state\[0\].momentum_buffer is float32"):
        train(copy.deepcopy(start), tmp_path / "spoiled.pt")
    resumed = train(copy.deepcopy(start), tmp_path / "half.pt")
    torch.testing.assert_close(resumed, whole)


def test_resize_keeps_the_dtype_and_a_flat_image():
    for dtype in (torch.uint8, torch.float32):
        images = torch.full((2, 3, 32, 32), 7, dtype=dtype)
        small, targets = Resize(24)(images, torch.tensor([0, 1]), None)
        assert small.shape == (2, 3, 24, 24) and small.dtype == dtype
        assert (small.float() - 7).abs().max() < 1e-4 and targets.tolist() == [0, 1]


def test_fit_fast_trains_on_small_images_first_and_learns(blobs):
    torch.manual_seed(0)
    net, sizes = fast_net(blobs, width=4), []
    net.features[0].register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1]))
    early, late = fit_fast(net, blobs, 20, augment=[RandomCrop(2)], show_progress=False)
    assert sizes == [24] * 36 + [32] * 24
    assert (len(early.train), len(late.train)) == (12, 8)
    mean, std = channel_statistics(blobs.images)
    logits, labels = predict(net, Batches(blobs, mean=mean, std=std))
    assert (logits.argmax(1) == labels).float().mean() > 0.9


def test_mirrored_gives_an_image_and_its_mirror_image_the_same_logits(blobs):
    net = fast_net(blobs, width=4).eval()
    images = normalised(blobs)[:4]
    both = MirrorAveraged(net)
    torch.testing.assert_close(both(images), both(images.flip(3)))
    torch.testing.assert_close(both(images), (net(images) + net(images.flip(3))) / 2)
    assert (net(images) - net(images.flip(3))).abs().max() > 1e-3


def test_shifted_means_over_an_image_and_its_two_neighbours(blobs):
    net = fast_net(blobs, width=4).eval()
    images = normalised(blobs)[:4]
    up_left = torch.cat([images[:, :, 1:], images[:, :, -2:-1]], 2)
    up_left = torch.cat([up_left[..., 1:], up_left[..., -2:-1]], 3)
    down_right = torch.cat([images[:, :, 1:2], images[:, :, :-1]], 2)
    down_right = torch.cat([down_right[..., 1:2], down_right[..., :-1]], 3)
    expected = (net(images) + net(up_left) + net(down_right)) / 3
    torch.testing.assert_close(ShiftAveraged(net)(images), expected)
    assert (expected - net(images)).abs().max() > 1e-3
    assert ShiftAveraged(net)(images[:, :, :, :20]).shape == (4, len(blobs.classes))  # not square
