"""A trained network with all that belongs to it, in one file. Derived in lesson 12.

Weights alone are no model: whoever loads them must also know the classes' names and their order,
the normalisation, the image size, the temperature and how to decide. `Predictor` holds them all,
`save` and `load` keep them together.
"""

import copy
import json
import os
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imbalkit import models, sealed
from imbalkit.data.batches import scale_and_shift
from imbalkit.decisions import decide
from imbalkit.device import memory_format, pick_device
from imbalkit.schema import (
    anything,
    list_of,
    number,
    one_of,
    optional,
    record,
    some_of,
    table_of,
    tensors_like,
    text,
    whole,
)

FORMAT = "imbalkit predictor 1"
BATCH = 256
SETTINGS_FILE = "settings.json"
CLASSES, WIDTH = whole(2, 100_000), whole(1, 4096)
NETWORKS = {  # of imbalkit.models; a file may name only these, with such arguments
    "plain_cnn": some_of(num_classes=CLASSES, width=WIDTH, batchnorm=one_of(True, False)),
    "resnet": some_of(num_classes=CLASSES, depth=whole(8, 1202)),
    "small_net": some_of(num_classes=CLASSES, width=WIDTH),
}
SETTINGS = record(
    classes=list_of(text(200), 2, 100_000),
    mean=list_of(number(-1e3, 1e3), 3, 3),
    std=list_of(number(1e-6, 1e3), 3, 3),
    size=whole(1, 2048),
    temperature=number(1e-6, 1e6),
    costly=optional(text(200)),
    threshold=optional(number(0, 1)),
)
CONTENT = record(
    format=one_of(FORMAT),
    network=optional(one_of(*NETWORKS)),
    arguments=table_of(anything),  # see NETWORKS
    settings=SETTINGS,
    weights=table_of(anything),  # see `tensors_like`
)


class Predictor(nn.Module):
    """Images as they are stored in, probabilities out.

    Derived in lesson 12.

    Args:
        model: gives logits (N, C) for normalised images (N, 3, H, W).
        classes: C names, in the order of the logits.
        mean: one number a channel, in units of [0, 1] pixels, as in training.
        std: likewise.
        size: side in pixels of the images that it was trained on.
        temperature: divides the logits; see `decisions.fit_temperature`.
        costly: the name of a class that is decided from `threshold` on; see `decisions.decide`.
            Without it the most probable class is decided.
        threshold: a probability; it belongs to `costly`.

    Raises:
        ValueError: settings that do not fit one another or the model, or weights with a NaN.

    Example:
        >>> model = models.plain_cnn(num_classes=2, width=4)
        >>> predictor = Predictor(model, ["cat", "dog"], mean=[0.5] * 3, std=[0.25] * 3, size=8)
        >>> images = torch.zeros(5, 8, 8, 3, dtype=torch.uint8)
        >>> probabilities = predictor.probabilities(images, torch.device("cpu"))
        >>> probabilities.shape, predictor.decisions(probabilities).shape
        (torch.Size([5, 2]), torch.Size([5]))
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        model: nn.Module,
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        size: int,
        temperature: float = 1.0,
        costly: str | None = None,
        threshold: float | None = None,
    ):
        super().__init__()
        self.settings: dict[str, Any] = {
            "classes": list(classes),
            "mean": [float(x) for x in mean],
            "std": [float(x) for x in std],
            "size": int(size),
            "temperature": float(temperature),
            "costly": costly,
            "threshold": None if threshold is None else float(threshold),
        }
        check_settings(self.settings)
        self.model = model.eval()
        scale, shift = scale_and_shift(self.settings["mean"], self.settings["std"])
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        self.check_model()

    def check_model(self) -> None:
        """Raise ValueError unless the model gives a finite number a class for an image."""
        self.model.eval()
        for name, value in self.model.state_dict().items():
            if isinstance(value, Tensor) and not value.is_meta and value.isnan().any():
                raise ValueError(f"{name} of the model holds NaN; train it anew.")
        weight = next(self.model.parameters(), self.scale)
        side, classes = self.settings["size"], len(self.settings["classes"])
        try:
            with torch.inference_mode():
                logits = self.model(torch.zeros(1, 3, side, side, device=weight.device))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"the model takes no images of size {side}: {reason}") from error
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if shape != (1, classes):
            raise ValueError(
                f"there are {classes} classes, and the output of the model for an image is {shape} "
                f"and not (1, {classes}); name each output, in their order."
            )
        if not logits.is_meta and not logits.isfinite().all():
            raise ValueError("the model's outputs for an image are not finite; train it anew.")

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities, float32 (N, C), of images uint8 (N, size, size, 3)."""
        images = images.permute(0, 3, 1, 2).float() * self.scale + self.shift
        return (self.model(images) / self.settings["temperature"]).softmax(1)

    def probabilities(self, images: Tensor, device: torch.device | None = None) -> Tensor:
        """As `forward`, in batches, on the best device; the result is on the CPU.

        Args:
            images: uint8 (N, size, size, 3).
            device: where to compute; the best there is unless given.

        Returns:
            float32 (N, C).

        Raises:
            ValueError: images of another size or dtype, or a probability that is NaN.
        """
        size = self.settings["size"]
        if images.dtype != torch.uint8 or images.shape[1:] != (size, size, 3):
            raise ValueError(
                f"images are {images.dtype} of shape {tuple(images.shape)}; this predictor takes "
                f"uint8 of shape (N, {size}, {size}, 3), as read_image(file, {size}) makes them."
            )
        device = device or pick_device()
        self.to(device, memory_format=memory_format(device)).eval()  # type: ignore[call-overload]
        with torch.inference_mode():
            found = torch.cat([self(part.to(device)).cpu() for part in images.split(BATCH)])
        wrong = found.isnan().any(1).nonzero().flatten()
        if len(wrong):
            raise ValueError(
                f"the probabilities of {len(wrong)} of {len(found)} images are NaN, first of image "
                f"{int(wrong[0])}; the weights of this model are too large to be used: train anew."
            )
        return found

    def decisions(self, probabilities: Tensor) -> Tensor:
        """The class that is decided for each image: int64 (N,)."""
        costly = self.settings["costly"]
        number = None if costly is None else self.settings["classes"].index(costly)
        return decide(probabilities, number, self.settings["threshold"])


def save(
    predictor: Predictor,
    path: str | os.PathLike,
    network: str | None = None,
    **arguments: Any,
) -> None:
    """Write a predictor to one file, which `torch.load(weights_only=True)` can read.

    The write is atomic. Derived in lesson 12.

    Args:
        predictor: what to write.
        path: of the file.
        network: the function of `imbalkit.models` that made the model. Without it the file holds no
            network, and `load` needs one.
        **arguments: what that function was given, such as ``num_classes=6, width=16``.

    Raises:
        ValueError: the named network does not have the weights of this one.

    Example:
        >>> import os, tempfile
        >>> model = models.plain_cnn(num_classes=2, width=4)
        >>> predictor = Predictor(model, ["cat", "dog"], mean=[0.5] * 3, std=[0.25] * 3, size=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "cats.pt")
        ...     save(predictor, path, network="plain_cnn", num_classes=2, width=4)
        ...     print(load(path).settings["classes"])
        ['cat', 'dog']
    """
    weights = {name: value.detach().cpu() for name, value in predictor.model.state_dict().items()}
    predictor.check_model()
    if network is not None:
        build_network(network, arguments, weights)
    content = {
        "format": FORMAT,
        "network": network,
        "arguments": arguments,
        "settings": predictor.settings,
        "weights": weights,
    }
    sealed.write(path, content)


def load(path: str | os.PathLike, model: nn.Module | None = None) -> Predictor:
    """Read what `save` wrote. No code in the file is run.

    Derived in lesson 12.

    Args:
        path: of the file.
        model: a network for the weights, where the file names none.

    Returns:
        the `Predictor`, on the CPU.

    Raises:
        ValueError: in one sentence, for a file that is missing, damaged, or of another kind, and
            for a model that does not fit.

    Example:
        >>> load("no_such_file.pt")
        Traceback (most recent call last):
        ValueError: no_such_file.pt: there is no such file; check the path.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; check the path.")
    try:
        content = sealed.read(path, FORMAT, CONTENT)
        weights = content["weights"]
        if content["network"] is not None and model is None:
            model = build_network(content["network"], content["arguments"], weights)
        if model is None:
            raise ValueError("it names no network; pass load(path, model=...)")
        tensors_like(model.state_dict())(weights, "weights")
        check_settings(content["settings"])
        model.load_state_dict(weights)
        return Predictor(model, **content["settings"])
    except (ValueError, OSError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(
            f"{path}: the predictor cannot be restored: {reason}; name a file that "
            "imbalkit.inference.save wrote."
        ) from error


def build_network(network: str, arguments: dict, weights: dict[str, Any]) -> nn.Module:
    """Make a network of `imbalkit.models` by name, to take these weights.

    Raises:
        ValueError: another name, arguments out of range, or weights of another network.
    """
    if network not in NETWORKS:
        raise ValueError(f"there is no network '{network}'; use one of {', '.join(NETWORKS)}.")
    function = getattr(models, network)
    try:
        NETWORKS[network](arguments, "")
        with torch.device("meta"):  # which allocates nothing, whatever the arguments ask for
            tensors_like(function(**arguments).state_dict())(weights, "weights")
    except ValueError as error:
        raise ValueError(
            f"{network} with {reprlib.repr(arguments)} does not have the weights of this model "
            f"({str(error).rstrip('.')}); name the function and the arguments that made it."
        ) from error
    return function(**arguments)


def check_settings(settings: dict) -> None:
    """Raise ValueError unless the settings of a Predictor are in range and fit one another."""
    SETTINGS(settings, "")
    classes, costly, threshold = (settings[name] for name in ("classes", "costly", "threshold"))
    if len(set(classes)) != len(classes):
        raise ValueError(f"classes are {reprlib.repr(classes)}; give different names.")
    if (costly is None) != (threshold is None):
        raise ValueError("costly and threshold belong together; give both or neither.")
    if costly is not None and costly not in classes:
        raise ValueError(f"costly is {costly!r}; give one of the classes.")


def export(predictor: Predictor, path: str | os.PathLike) -> None:
    """Write the computation itself by ``torch.export``, for programs without imbalkit.

    ``torch.export.load(path).module()`` takes images uint8 (N, size, size, 3), N from 1 on, and
    gives probabilities (N, C). The settings lie in the file as "settings.json"; the decision by a
    threshold is not part of the computation. Derived in lesson 12.

    Args:
        predictor: what to write.
        path: of the file; it should end in .pt2.

    Example:
        >>> import os, tempfile
        >>> model = models.plain_cnn(num_classes=2, width=4)
        >>> predictor = Predictor(model, ["cat", "dog"], mean=[0.5] * 3, std=[0.25] * 3, size=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "cats.pt2")
        ...     export(predictor, path)
        ...     program = torch.export.load(path).module()
        >>> program(torch.zeros(1, 8, 8, 3, dtype=torch.uint8)).shape
        torch.Size([1, 2])
    """
    size = predictor.settings["size"]
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1)
    # A copy: the predictor stays on its device, and the file needs the usual memory format.
    predictor = copy.deepcopy(predictor).eval()
    predictor.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    program = torch.export.export(predictor, (example,), dynamic_shapes=({0: batch},))
    settings = json.dumps(predictor.settings, ensure_ascii=False)
    torch.export.save(program, path, extra_files={SETTINGS_FILE: settings})


__all__ = ["Predictor", "export", "load", "save"]
