import pytest
import torch

from imbalkit import models


@pytest.mark.parametrize(
    "net, parameters",
    [
        (models.plain_cnn, 94_538),
        (models.small_net, 295_106),
        (models.resnet, 464_154),  # the 0.46 M of He et al. 2016, table 6
    ],
)
def test_parameters_and_output_shape(net, parameters):
    model = net()
    assert models.count_parameters(model) == parameters
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
        assert models.count_parameters(net(width=64)) > 3 * models.count_parameters(net(width=32))


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
