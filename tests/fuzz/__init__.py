"""The readers of files, fed by a fuzzer: ``python -m tests.fuzz READER SECONDS``.

What a fuzzer found once lies in corpus/READER, and `tests/test_fuzz.py` feeds it again.
"""
