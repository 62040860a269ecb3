"""What a fuzzer once found, read again; and that its targets say what is wrong."""

from pathlib import Path

import pytest

from tests.fuzz import readers

CORPUS = Path(__file__).parent / "fuzz" / "corpus"
FOUND = sorted(path for path in CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name[:12]}")
def test_what_was_found_is_accepted_or_refused_in_a_sentence(path):
    readers.READERS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("reader", readers.READERS)
def test_the_files_that_a_fuzzer_begins_with_are_whole(reader):
    for seed in readers.seeds(reader):
        readers.READERS[reader](seed)
