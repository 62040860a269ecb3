from imbalkit.data import (
    batches,
    command,
    download,
    duplicates,
    folder,
    images,
    longtail,
    picture,
    sources,
    standard,
    workplace,
)
from imbalkit.data.batches import (
    Batches,
    RandomCrop,
    RandomFlip,
    channel_statistics,
)
from imbalkit.data.download import (
    DownloadError,
    fetch_cifar,
)
from imbalkit.data.duplicates import (
    Duplicates,
    find_duplicates,
    grouped_split,
    label_conflicts,
    leaked,
)
from imbalkit.data.folder import (
    ImportedFolder,
    import_folder,
)
from imbalkit.data.images import (
    ImageSet,
)
from imbalkit.data.longtail import (
    Manifest,
    long_tail_counts,
    long_tail_indices,
    make_long_tail,
    stratified_split,
)
from imbalkit.data.picture import (
    UnreadableImage,
    read_image,
)
from imbalkit.data.sources import (
    cache_folder,
    cifar_state,
    data_folders,
    find_cifar,
    load_cifar,
)
from imbalkit.data.standard import (
    ImageDataset,
    standard_transform,
)

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
    "batches",
    "cache_folder",
    "channel_statistics",
    "cifar_state",
    "command",
    "data_folders",
    "download",
    "duplicates",
    "fetch_cifar",
    "find_cifar",
    "find_duplicates",
    "folder",
    "grouped_split",
    "images",
    "import_folder",
    "label_conflicts",
    "leaked",
    "load_cifar",
    "long_tail_counts",
    "long_tail_indices",
    "longtail",
    "make_long_tail",
    "picture",
    "read_image",
    "sources",
    "standard",
    "standard_transform",
    "stratified_split",
    "workplace",
]
