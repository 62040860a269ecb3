"""Write a long-tailed subset as a manifest that others can load, and as images if wanted."""

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image

from imbalkit.course.embedded import find_data
from imbalkit.data.download import CIFAR, DownloadError
from imbalkit.data.images import ImageSet
from imbalkit.data.longtail import PROFILES, make_long_tail
from imbalkit.data.sources import find_cifar


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit code: 0 when all is written, 1 for a failure, 2 for wrong usage.",
    )
    parser.add_argument("manifest", type=Path, help="the JSON file to write")
    parser.add_argument(
        "--name", default="cifar10", choices=[*CIFAR, "embedded"], help="default cifar10"
    )
    parser.add_argument(
        "--ratio", type=float, default=100, help="largest class over smallest; default 100"
    )
    parser.add_argument(
        "--profile", default="exponential", choices=PROFILES, help="default exponential"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="which subset; default 0, the public one"
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="also write PNG images to this new folder, one sub-folder per class",
    )
    wanted = parser.parse_args(argv)
    try:
        train = find_train(wanted.name)
        subset, manifest = make_long_tail(train, wanted.ratio, wanted.profile, wanted.seed)
        if wanted.images:
            write_images(subset, manifest.indices, wanted.images)
        manifest.save(wanted.manifest)
    except (DownloadError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{subset.source}: {len(subset)} images, {subset.class_counts().tolist()}.")
    print(f"Manifest: {wanted.manifest}" + (f", images: {wanted.images}" if wanted.images else ""))
    return 0


def find_train(name: str) -> ImageSet:
    """The training set `name` and no substitute for it: who asks for CIFAR-10 wants no digits."""
    find = find_data if name == "embedded" else find_cifar
    train, _ = find(name, download=False)
    return train


def write_images(subset: ImageSet, indices: tuple[int, ...], folder: Path) -> None:
    """Write ``folder/<class>/<index in the full set>.png``, all images or none."""
    if folder.exists():
        raise ValueError(f"{folder} is there already; delete it or name a new folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        fresh = Path(temporary) / folder.name
        for name in subset.classes:
            (fresh / name).mkdir(parents=True)
        for index, image, label in zip(indices, subset.images, subset.labels, strict=True):
            path = fresh / subset.classes[label] / f"{index:05d}.png"
            Image.fromarray(image.numpy()).save(path)
        fresh.rename(folder)


if __name__ == "__main__":
    sys.exit(main())
