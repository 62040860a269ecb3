import pytest
import torch
import torch.nn.functional as F
from helpers import count_parameters
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from imbalkit import models


@pytest.mark.parametrize(
    "net, parameters",
    [
        (models.plain_cnn, 94_538),
        (models.small_net, 291_494),
        (models.resnet, 464_154),  # the 0.46 M of He et al. 2016, table 6
    ],
)
def test_parameters_and_output_shape(net, parameters):
    model = net()
    assert count_parameters(model) == parameters
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("net", [models.plain_cnn, models.small_net, models.resnet])
def test_options_act_and_halves_compose(net):
    model = net(num_classes=100).eval()
    images = torch.randn(2, 3, 32, 32)
    features = model.features(images)
    assert features.shape == (2, model.classifier.in_features)
    assert model.classifier(features).equal(model(images)) and model(images).shape == (2, 100)


def test_width_acts():
    for net in (models.plain_cnn, models.small_net):
        assert count_parameters(net(width=64)) > 3 * count_parameters(net(width=32))


def test_batchnorm_adds_one_layer_behind_each_convolution():
    layers = [type(m).__name__ for m in models.plain_cnn(batchnorm=True).features]
    assert layers[:6] == ["Conv2d", "BatchNorm2d", "ReLU"] * 2
    assert "BatchNorm2d" not in [type(m).__name__ for m in models.plain_cnn().features]


def test_resnet_depth_counts_layers_with_weights():
    for depth in (8, 20, 32):
        weighted = [
            m
            for m in models.resnet(depth).modules()
            if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)
        ]
        assert len(weighted) == depth
    for depth in (7, 10, 0):
        with pytest.raises(ValueError, match="6n \\+ 2"):
            models.resnet(depth)


def test_the_shortcut_is_the_identity_where_shapes_agree_and_subsampling_where_not():
    block = models.ResidualBlock(4, 8, stride=2).eval()
    torch.nn.init.zeros_(block.bn2.weight)  # silence the convolutions
    x = torch.rand(1, 4, 8, 8)
    y = block(x)
    assert y[:, 2:6].equal(x[:, :, ::2, ::2]) and y[:, :2].eq(0).all() and y[:, 6:].eq(0).all()


def test_cosines_are_those_of_features_and_class_vectors():
    head = models.CosineClassifier(6, 4)
    features = torch.randn(5, 6)
    cosines = head(features)
    expected = F.cosine_similarity(features[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(cosines, expected)
    assert cosines.shape == (5, 4) and cosines.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(head(head.weight).diagonal(), torch.ones(4))
    torch.testing.assert_close(head(-head.weight).diagonal(), -torch.ones(4))


@given(st.integers(0, 2**32 - 1), st.lists(st.floats(0.01, 100), min_size=4, max_size=4))
@settings(deadline=None)
def test_no_class_wins_by_a_long_vector_and_no_image_by_long_features(seed, factors):
    torch.manual_seed(seed)
    head, features, factors = (
        models.CosineClassifier(6, 4),
        torch.randn(4, 6),
        torch.tensor(factors),
    )
    cosines = head(features)
    torch.testing.assert_close(head(features * factors[:, None]), cosines)
    with torch.no_grad():
        head.weight *= factors[:, None]
    torch.testing.assert_close(head(features), cosines)


def test_a_cosine_head_is_trained_and_finite_even_for_features_of_zero():
    head = models.CosineClassifier(6, 4)
    assert [name for name, _ in head.named_parameters()] == ["weight"], "no bias"
    assert head.weight.norm(dim=1).min() > 0
    features = torch.cat([torch.randn(3, 6), torch.zeros(1, 6)]).requires_grad_()
    F.cross_entropy(30 * head(features), torch.arange(4)).backward()
    assert head.weight.grad.abs().sum() > 0
    assert head.weight.grad.isfinite().all() and features.grad.isfinite().all()
    assert head(features)[3].eq(0).all()


@pytest.mark.parametrize("bias", [True, False])
def test_a_scaled_classifier_starts_as_the_classifier_and_learns_one_factor_a_class(bias):
    linear = nn.Linear(6, 4, bias=bias)
    scaled, features = models.ScaledClassifier(linear), torch.randn(5, 6)
    assert scaled(features).equal(linear(features))
    assert count_parameters(scaled) == 4 and scaled.scale.tolist() == [1] * 4
    F.cross_entropy(scaled(features), torch.arange(5) % 4).backward()
    assert scaled.scale.grad.abs().sum() > 0
    assert all(p.grad is None for p in [*linear.parameters(), *scaled.classifier.parameters()])
    assert all(p.requires_grad for p in linear.parameters()), "the given classifier is not frozen"


@pytest.mark.parametrize("bias", [True, False])
def test_a_scaled_classifier_can_also_learn_as_a_whole(bias):
    """The layer of lesson 09, trained together with all else: ``requires_grad_(True)``."""
    linear, features = nn.Linear(6, 4, bias=bias), torch.randn(5, 6)
    scaled = models.ScaledClassifier(linear).requires_grad_(True)
    assert count_parameters(scaled) == 4 + sum(p.numel() for p in linear.parameters())
    F.cross_entropy(scaled(features), torch.arange(5) % 4).backward()
    assert all(p.grad.abs().sum() > 0 for p in scaled.parameters())
    assert all(p.grad is None for p in linear.parameters()), "the given classifier stays"


@pytest.mark.parametrize("bias", [True, False])
@given(st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4))
@settings(deadline=None)
def test_folding_gives_the_same_logits(bias, factors):
    linear, features = nn.Linear(6, 4, bias=bias), torch.randn(5, 6)
    before = {k: v.clone() for k, v in linear.state_dict().items()}
    scaled = models.ScaledClassifier(linear)
    scaled.scale.data = torch.tensor(factors)
    folded = scaled.folded()
    torch.testing.assert_close(folded(features), scaled(features), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scaled(features), linear(features) * torch.tensor(factors))
    assert type(folded) is nn.Linear and (folded.bias is None) == (not bias)
    assert all(p.requires_grad and p.is_leaf for p in folded.parameters()), "it can learn again"
    assert all(v.equal(before[k]) for k, v in linear.state_dict().items())


def test_rescaled_is_exact_for_powers_of_two_and_leaves_the_original_alone():
    linear, features = nn.Linear(6, 3), torch.randn(5, 6)
    before = {k: v.clone() for k, v in linear.state_dict().items()}
    scale = torch.tensor([0.5, 1, -4])
    result = models.rescaled(linear, scale)
    assert result(features).equal(linear(features) * scale)
    assert result.weight[1].equal(linear.weight[1])
    with torch.no_grad():
        result.weight.zero_()
    assert all(v.equal(before[k]) for k, v in linear.state_dict().items())
    frozen = models.rescaled(linear.requires_grad_(False), scale)
    assert frozen.weight.requires_grad and not linear.weight.requires_grad
