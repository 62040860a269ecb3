"""Every random generator is found, kept and put back."""

import io
import random

import numpy as np
import pytest
import torch

from imbalkit.randomness import (
    generators_of,
    random_state,
    random_state_kept,
    set_random_state,
)

BITS = (np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64)


def one_of_each():
    return [
        torch.Generator().manual_seed(1), random.Random(1), np.random.RandomState(1),
        *(np.random.Generator(bits(1)) for bits in BITS),
    ]  # fmt: skip


def drawn(generators):
    own = [
        float(torch.rand(1, generator=one)) if isinstance(one, torch.Generator) else one.random()
        for one in generators
    ]
    return [*own, float(torch.rand(1)), random.gauss(0, 1), np.random.normal()]  # noqa: NPY002


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_every_kind_of_generator_goes_on_in_another_process():
    generators = one_of_each()
    drawn(generators)  # normal numbers come in pairs, and one is now kept for later
    state = through_a_file(random_state(*generators))
    expected = drawn(generators)
    others = one_of_each()
    set_random_state(state, *others)
    assert drawn(others) == expected


def test_what_cannot_be_put_back_changes_nothing():
    generators = one_of_each()
    state = random_state(*generators)
    with pytest.raises(ValueError, match=r"7 random generators .* were kept, and there are 6 now"):
        set_random_state(state, *generators[:-1])
    before = drawn(generators)
    set_random_state(state, *generators)
    state["own"][-1] = {"bit_generator": "SFC64"}
    torch.rand(3)
    now = random_state(*generators)
    expected = drawn(generators)
    set_random_state(now, *generators)
    with pytest.raises(ValueError, match="cannot be put back"):
        set_random_state(state, *generators)
    assert drawn(generators) == expected != before


class Holder:
    def __init__(self, **parts):
        self.__dict__.update(parts)


def test_generators_are_found_wherever_they_hang():
    one, two, three, four = (random.Random(i) for i in range(4))
    inner = Holder(rng=two, parts=[Holder(rng=three)], table={"a": four}, first=one)
    outer = Holder(rng=one, inner=inner)
    inner.outer = outer  # a circle
    assert generators_of(outer) == [one, two, four, three], "the nearest first"
    assert generators_of(outer, outer, None, 3, "x", print, random, torch.zeros(2)) == [
        one, two, four, three,
    ]  # fmt: skip
    assert generators_of([Holder(rng=one)] * 101) == [], "long lists are data"


def test_what_is_kept_is_put_back_after_an_error_too():
    generators = one_of_each()
    expected = drawn(one_of_each())[:-3]
    with pytest.raises(KeyError), random_state_kept(*generators):
        drawn(generators)
        generators.append(1)
        raise KeyError
    assert drawn(generators[:-1])[:-3] == expected
