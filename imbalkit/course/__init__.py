"""What only the lessons need: their set-up, sizes, tables, advice, exercises, two image sets."""

from imbalkit.optional import optional

for _library in ("torchvision", "PIL", "sklearn", "pandas", "matplotlib", "seaborn"):
    optional(_library, "learn")  # or one sentence that names it
