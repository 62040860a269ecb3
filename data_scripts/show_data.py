"""Show where image data is searched, what is there, and whether it is whole."""

import argparse
import sys

from imbalkit.data.download import CIFAR
from imbalkit.data.sources import cifar_state, data_folders, load_cifar


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit code: 0, or 1 when data is there and corrupt, 2 for wrong usage.",
    )
    parser.parse_args(argv)
    corrupt = []
    try:
        for root in data_folders():
            print(root)
            for name in CIFAR:
                state = cifar_state(root, name)
                print(f"  {name:<9} {state}", end="")
                print(counts(*load_cifar(root, name)) if state == "ready" else "")
                if state == "corrupt":
                    corrupt.append((name, root))
        print("in the package\n  embedded  ready")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, root in corrupt:
        print(
            f"error: {name} in {root} is corrupt; repair it with "
            f"'python data_scripts/fetch_data.py {name} --root {root}'.",
            file=sys.stderr,
        )
    return 1 if corrupt else 0


def counts(train, test) -> str:
    """One line about the two image sets."""
    per_class = train.class_counts()
    low, high = int(per_class.min()), int(per_class.max())
    each = f"{low}" if low == high else f"{low} to {high}"
    return (
        f"    {len(train)} training images ({each} in each of {len(per_class)} classes), "
        f"{len(test)} test images"
    )


if __name__ == "__main__":
    sys.exit(main())
