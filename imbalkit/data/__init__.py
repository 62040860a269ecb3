"""Images, long-tailed subsets of them, and batches. Derived in lessons 00 and 02."""

from imbalkit import lazy

_MODULES = (
    "batches",
    "command",
    "download",
    "duplicates",
    "folder",
    "images",
    "longtail",
    "picture",
    "sources",
    "standard",
    "workplace",
)
_NAMES = {
    "Batches": "batches.Batches",
    "DownloadError": "download.DownloadError",
    "Duplicates": "duplicates.Duplicates",
    "ImageDataset": "standard.ImageDataset",
    "ImageSet": "images.ImageSet",
    "ImportedFolder": "folder.ImportedFolder",
    "Manifest": "longtail.Manifest",
    "RandomCrop": "batches.RandomCrop",
    "RandomFlip": "batches.RandomFlip",
    "UnreadableImage": "picture.UnreadableImage",
    "cache_folder": "sources.cache_folder",
    "channel_statistics": "batches.channel_statistics",
    "cifar_state": "sources.cifar_state",
    "data_folders": "sources.data_folders",
    "fetch_cifar": "download.fetch_cifar",
    "find_cifar": "sources.find_cifar",
    "find_duplicates": "duplicates.find_duplicates",
    "grouped_split": "duplicates.grouped_split",
    "import_folder": "folder.import_folder",
    "label_conflicts": "duplicates.label_conflicts",
    "leaked": "duplicates.leaked",
    "load_cifar": "sources.load_cifar",
    "long_tail_counts": "longtail.long_tail_counts",
    "long_tail_indices": "longtail.long_tail_indices",
    "make_long_tail": "longtail.make_long_tail",
    "read_image": "picture.read_image",
    "standard_transform": "standard.standard_transform",
    "stratified_split": "longtail.stratified_split",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, _MODULES, _NAMES)
