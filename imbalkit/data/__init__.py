"""Images, long-tailed subsets of them, and batches. Derived in lessons 00 and 02."""

from imbalkit.data.batches import Batches, RandomCrop, RandomFlip, channel_statistics
from imbalkit.data.download import DownloadError, fetch_cifar
from imbalkit.data.duplicates import (
    Duplicates,
    find_duplicates,
    grouped_split,
    label_conflicts,
    leaked,
)
from imbalkit.data.embedded import embedded_digits
from imbalkit.data.example import write_example_folder
from imbalkit.data.folder import ImportedFolder, UnreadableImage, import_folder, read_image
from imbalkit.data.images import ImageSet
from imbalkit.data.longtail import (
    Manifest,
    long_tail_counts,
    long_tail_indices,
    make_long_tail,
    stratified_split,
)
from imbalkit.data.sources import (
    cache_folder,
    cifar_state,
    data_folders,
    find_data,
    load_cifar,
)
from imbalkit.data.standard import ImageDataset, standard_transform

__all__ = [
    "Batches",
    "DownloadError",
    "Duplicates",
    "ImageDataset",
    "ImageSet",
    "ImportedFolder",
    "Manifest",
    "RandomCrop",
    "RandomFlip",
    "UnreadableImage",
    "cache_folder",
    "channel_statistics",
    "cifar_state",
    "data_folders",
    "embedded_digits",
    "fetch_cifar",
    "find_data",
    "find_duplicates",
    "grouped_split",
    "import_folder",
    "label_conflicts",
    "leaked",
    "load_cifar",
    "long_tail_counts",
    "long_tail_indices",
    "make_long_tail",
    "read_image",
    "standard_transform",
    "stratified_split",
    "write_example_folder",
]
