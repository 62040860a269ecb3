"""Copies are found, other pictures are not, and no split puts a copy on both sides."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imbalkit.course.embedded import embedded_digits
from imbalkit.data import ImageSet, find_duplicates, grouped_split, label_conflicts, leaked
from imbalkit.data import duplicates as module
from imbalkit.data.duplicates import connected, thumbnails


@pytest.fixture(scope="module")
def photographs():
    """200 images of digits on photographs: smooth, alike in style, all different."""
    return embedded_digits.__wrapped__(20, 1)[0].images


def saved_again(image, quality=80, side=48):
    file = io.BytesIO()
    Image.fromarray(image.numpy()).resize((side, side)).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Image.open(file).resize((32, 32))).copy())


def test_exact_copies_are_found_with_the_first_of_them(photographs):
    images = torch.cat([photographs[:50], photographs[[3, 3, 7]]])
    got = find_duplicates(images)
    assert got.exact.tolist() == [[3, 50], [3, 51], [7, 52]] and len(got.near) == 0
    assert got.groups[[50, 51, 52]].tolist() == got.groups[[3, 3, 7]].tolist()
    assert len(got.groups.unique()) == 50


@pytest.mark.parametrize("quality, side", [(95, 64), (80, 48), (75, 32), (90, 28)])
def test_a_picture_saved_again_is_a_near_copy(photographs, quality, side):
    copies = torch.stack([saved_again(image, quality, side) for image in photographs[:40]])
    got = find_duplicates(torch.cat([photographs, copies]))
    pairs = {tuple(pair) for pair in got.near.tolist()}
    assert len(got.exact) == 0 and {(i, 200 + i) for i in range(40)} <= pairs
    assert len(pairs) <= 42


def test_different_pictures_and_colours_are_no_copies(photographs):
    got = find_duplicates(photographs)
    assert len(got.exact) == len(got.near) == 0 and len(got.groups.unique()) == 200
    plain = torch.tensor([[200, 0, 0], [0, 0, 200], [100, 100, 100], [103, 103, 103]])
    plain = plain[:, None, None, :].expand(4, 32, 32, 3).byte()
    assert find_duplicates(plain).near.tolist() == []
    noise = torch.randint(-2, 3, plain.shape, generator=torch.Generator().manual_seed(0))
    noisy = (plain.int() + noise).clamp(0, 255).byte()
    assert find_duplicates(torch.cat([plain[:2], noisy[:2]])).near.tolist() == [[0, 2], [1, 3]]


def test_near_says_how_much_copies_may_differ(photographs):
    images = torch.cat([photographs[:9], photographs[:1], saved_again(photographs[1])[None]])
    exact, usual, all_alike = (find_duplicates(images, near) for near in (0, 0.15, 10))
    assert exact.exact.tolist() == usual.exact.tolist() == [[0, 9]]
    assert [len(d.near) for d in (exact, usual)] == [0, 1]
    assert exact.groups[10] != exact.groups[1] and usual.groups[10] == usual.groups[1]
    assert len(all_alike.groups.unique()) == 1
    with pytest.raises(ValueError, match="near is -1"):
        find_duplicates(images, -1)


def test_copies_of_copies_are_one_group(photographs):
    second = saved_again(photographs[0])
    images = torch.stack([photographs[0], photographs[1], second, second])
    assert find_duplicates(images).groups.tolist() == [0, 1, 0, 0]


def test_the_chunks_do_not_show(photographs, monkeypatch):
    images = torch.cat([photographs[:30], *(saved_again(x)[None] for x in photographs[:30])])
    whole = find_duplicates(images)
    monkeypatch.setattr(module, "CHUNK", 7)
    parts = find_duplicates(images)
    assert whole.groups.equal(parts.groups) and whole.near.equal(parts.near)
    assert thumbnails(images).shape == (60, 192)


@pytest.mark.parametrize("bad", [torch.zeros(2, 8, 8, 3), torch.zeros(8, 8, 3).byte()])
def test_other_tensors_are_refused(bad):
    with pytest.raises(ValueError, match="give uint8"):
        find_duplicates(bad)


def test_an_image_set_is_refused_and_its_images_are_named(photographs):
    labels = torch.zeros(len(photographs), dtype=torch.int64)
    image_set = ImageSet(photographs, labels, ("photograph",), "photographs")
    with pytest.raises(ValueError, match=r"type ImageSet; .* of an ImageSet its \.images\.$"):
        find_duplicates(image_set)
    with pytest.raises(ValueError, match="type ndarray; give a tensor"):
        find_duplicates(photographs.numpy())


def test_conflicts_are_copies_with_several_labels():
    groups = torch.tensor([0, 1, 1, 2, 3, 2, 2])
    labels = torch.tensor([0, 1, 1, 0, 2, 1, 0])
    assert label_conflicts(labels, groups).tolist() == [3, 5, 6]
    assert label_conflicts(labels, torch.arange(7)).tolist() == []


def test_leaked_are_those_with_a_copy_in_training():
    groups = torch.tensor([0, 1, 0, 2, 1, 3])
    assert leaked(groups, torch.tensor([0, 3]), torch.tensor([2, 4, 5])).tolist() == [2]
    assert leaked(groups, torch.tensor([0, 1]), torch.tensor([2, 4, 5])).tolist() == [2, 4]


def alike(n, seed=0):
    """n pictures of one thing, as parts on a belt: all near copies, no two the same."""
    generator = torch.Generator().manual_seed(seed)
    part = torch.randint(256, (8, 8, 3), generator=generator).repeat_interleave(2, 0)
    noise = torch.randint(-9, 10, (n, 16, 16, 3), generator=generator)
    return (part.repeat_interleave(2, 1) + noise).clamp(0, 255).byte()


def all_pairs(images, near):
    """What a comparison of each with each finds: bool (N, N), above the diagonal."""
    x = thumbnails(images).double()
    limit = near * x.std(1, correction=0).clamp_min(8)
    distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") / x.shape[1] ** 0.5
    return (distance <= torch.minimum(limit[:, None], limit)).triu(1)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=60),
    st.sampled_from([0.05, 0.15, 0.4]),
    st.sampled_from([3, 8, 64]),
    st.integers(0, 9),
)
def test_the_near_copies_are_those_of_a_comparison_of_each_with_each(shown, near, chunk, seed):
    generator = torch.Generator().manual_seed(seed)
    pictures = alike(1, seed).int() + torch.randint(-80, 81, (6, 1, 1, 3), generator=generator)
    noise = torch.randint(-30, 31, (len(shown), 16, 16, 3), generator=generator)
    images = (pictures[shown] + noise).clamp(0, 255).byte()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", chunk)
        patch.setattr(module, "OTHERS", 2 * chunk)
        got = find_duplicates(images, near)
    expected = all_pairs(images, near).nonzero()
    assert got.near.equal(expected)
    links = expected.numpy()
    assert got.groups.tolist() == connected(links, len(shown)).tolist()


def test_of_a_large_group_no_pairs_are_listed(monkeypatch):
    images = torch.cat([alike(150), alike(40, seed=1)])
    got = find_duplicates(images)
    assert got.groups.tolist() == [0] * 150 + [1] * 40
    assert got.near.equal(150 + torch.ones(40, 40).triu(1).nonzero())
    monkeypatch.setattr(module, "CHUNK", 16)
    assert find_duplicates(images).near.equal(got.near)


def test_pictures_that_look_alike_are_compared_with_a_few_of_them(monkeypatch):
    """The work and the memory grow with their number, not with its square."""
    multiplied = []
    product = torch.Tensor.__matmul__

    def counted(a, b):
        result = product(a, b)
        multiplied.append(result.numel())
        return result

    monkeypatch.setattr(torch.Tensor, "__matmul__", counted)
    n = 2_500
    assert len(find_duplicates(alike(n)).groups.unique()) == 1
    assert max(multiplied) <= module.CHUNK * module.OTHERS and sum(multiplied) < 200 * n


def test_different_pictures_are_compared_with_their_neighbors(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    shades = torch.randint(256, (3_000, 2, 2, 3), generator=generator)
    images = shades.repeat_interleave(8, 1).repeat_interleave(8, 2).byte()
    compared, product = [], torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor,
        "__matmul__",
        lambda a, b: compared.append(len(a) * b.shape[1]) or product(a, b),
    )
    find_duplicates(images)
    assert sum(compared) < 3_000**2 / 2 / 2


def test_a_long_chain_of_copies_is_followed_in_a_few_steps():
    n = 200_000
    frames = np.random.default_rng(0).permutation(n)
    links = np.stack([frames[:-1], frames[1:]], axis=1)
    assert connected(links, n).max() == 0  # in the time of the test: a step a frame takes hours


# --- the split


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=40), st.data()
)
def test_any_numbers_may_name_the_groups(images, data):
    """Only which images share a number counts, not how large it is."""
    numbers = data.draw(
        st.lists(st.integers(-(2**62), 2**62), min_size=24, max_size=24, unique=True).map(sorted)
    )
    labels = torch.tensor([c for c, _ in images])
    groups = torch.tensor([6 * c + g for c, g in images])
    named = torch.tensor(numbers)[groups]
    for part, same in zip(grouped_split(labels, named), grouped_split(labels, groups), strict=True):
        assert part.equal(same)
    mixed = torch.tensor([g for _, g in images])
    assert label_conflicts(labels, torch.tensor(numbers)[mixed]).equal(
        label_conflicts(labels, mixed)
    )


@pytest.mark.parametrize("groups", [torch.arange(3), torch.rand(4), torch.ones(4, 1).long()])
def test_groups_are_one_whole_number_an_image(groups):
    with pytest.raises(
        ValueError, match=r"for labels of shape \(4,\); give one whole number an image"
    ):
        grouped_split(torch.zeros(4, dtype=torch.int64), groups)


def random_groups(counts, seed=0, largest=4):
    random = np.random.default_rng(seed)
    labels, groups, g = [], [], 0
    for c, n in enumerate(counts):
        while n:
            size = min(n, int(random.integers(1, largest + 1)))
            labels += [c] * size
            groups += [g] * size
            n, g = n - size, g + 1
    order = torch.from_numpy(random.permutation(len(labels)))
    return torch.tensor(labels)[order], torch.tensor(groups)[order]


@pytest.mark.parametrize("seed", range(5))
def test_every_image_is_in_one_part_and_every_group_too(seed):
    labels, groups = random_groups([200, 60, 25, 9, 3], seed)
    parts = grouped_split(labels, groups, seed=seed)
    assert torch.cat(parts).sort().values.equal(torch.arange(len(labels)))
    assert all(part.equal(part.sort().values) for part in parts)
    for a in range(3):
        for b in range(3):
            assert a == b or len(leaked(groups, parts[a], parts[b])) == 0
    for c, n in enumerate([200, 60, 25]):
        sizes = [int((labels[part] == c).sum()) for part in parts]
        assert all(abs(x - n * share) <= 3 for x, share in zip(sizes, (0.6, 0.2, 0.2), strict=True))


def test_the_fractions_and_the_seed_act():
    labels, groups = torch.zeros(100, dtype=torch.int64), torch.arange(100)
    assert list(map(len, grouped_split(labels, groups))) == [60, 20, 20]
    assert list(map(len, grouped_split(labels, groups, (0.1, 0.3)))) == [60, 10, 30]
    assert list(map(len, grouped_split(labels, groups, (0.25, 0)))) == [75, 25, 0]
    same, other = (grouped_split(labels, groups, seed=seed) for seed in (0, 1))
    assert same[0].equal(grouped_split(labels, groups)[0]) and not same[0].equal(other[0])


@pytest.mark.parametrize(
    ("pictures", "places"), [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (5, (3, 1, 1))]
)
def test_the_smallest_classes_go_to_training_first_then_to_validation(pictures, places):
    labels = torch.tensor([0] * 50 + [1] * pictures)
    parts = grouped_split(labels, torch.arange(len(labels)))
    assert tuple(int((labels[part] == 1).sum()) for part in parts) == places


def test_a_large_group_goes_to_training():
    labels = torch.zeros(30, dtype=torch.int64)
    groups = torch.tensor([0] * 20 + list(range(1, 11)))
    train, validation, test = grouped_split(labels, groups, (0.45, 0.45))
    assert {*range(20)} <= {*train.tolist()} and len(validation) and len(test)


@pytest.mark.parametrize("fractions", [(0.6, 0.4), (0, 0), (-0.1, 0.2)])
def test_impossible_shares_are_refused(fractions):
    with pytest.raises(ValueError, match="together less than 1"):
        grouped_split(torch.zeros(9, dtype=torch.int64), torch.arange(9), fractions)


def test_a_group_of_two_classes_is_refused():
    with pytest.raises(
        ValueError, match="2 images have a group with another class in it, first number 1"
    ):
        grouped_split(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]))


@settings(deadline=None)
@given(n=st.integers(1, 12), ends=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11))))
def test_groups_are_the_connected_components_of_scipy(n, ends):
    links = np.array([(a % n, b % n) for a, b in ends], dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(n, n))
    assert connected(links, n).tolist() == connected_components(graph, directed=False)[1].tolist()


@pytest.mark.parametrize("labels", [torch.zeros(0), torch.zeros(3), torch.zeros(3).bool()])
@pytest.mark.parametrize("function", [label_conflicts, grouped_split])
def test_labels_that_are_no_whole_numbers_are_refused(function, labels):
    with pytest.raises(ValueError, match=r"labels are .*; give whole numbers"):
        function(labels, torch.arange(len(labels)))


def test_groups_that_are_no_whole_numbers_are_refused():
    with pytest.raises(ValueError, match=r"groups are torch\.complex64"):
        label_conflicts(torch.zeros(3).long(), torch.zeros(3, dtype=torch.complex64))
