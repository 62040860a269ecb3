"""Callbacks for other people's trainers. Lesson 01 derives what they look for.

`imbalkit.integrations.huggingface` is for the Trainer of transformers, and
`imbalkit.integrations.lightning` for that of Lightning. Each is imported only when asked, and needs
its library. Nothing of the caller's is changed: a training with the callback ends in the same
weights, bit for bit.
"""
