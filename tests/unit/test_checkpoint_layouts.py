"""Checkpoints that frameworks lay out, by the names that torch 2.15 and Orbax 0.12.8 give to their files."""

import pytest

from activities.storage.frameworks import orbax, torch_dcp
from activities.storage.judged import Judged

PREFIX = "job/checkpoints"
AT = f"{PREFIX}/r0-i1"

TORCH = ("__0_0.distcp", "__1_0.distcp", ".metadata")
ORBAX = (
    "_CHECKPOINT_METADATA",
    "state/_METADATA",
    "state/_sharding",
    "state/array_metadatas/process_0",
    "state/commit_success.txt",
    "state/manifest.ocdbt",
    "state/ocdbt.process_0/d/c3726403ba5af7a318f78f4baa0ab63e",
    "state/ocdbt.process_0/manifest.ocdbt",
    "commit_success.txt",
)


def files(path: str, names: tuple[str, ...]) -> dict[str, int]:
    return {f"{path}/{name}": 9 for name in names}


def test_torch_is_complete_by_its_metadata() -> None:
    sizes = files(f"{AT}/step-100", TORCH) | files(f"{AT}/step-200", TORCH[:-1])
    assert torch_dcp(PREFIX, sizes) == [
        Judged(f"{AT}/step-100", 100),
        Judged(f"{AT}/step-200", 200, "it has no .metadata"),
    ]


def test_orbax_is_complete_by_its_commit_file() -> None:
    sizes = files(f"{AT}/100", ORBAX) | files(f"{AT}/200", ORBAX[:-1])
    assert orbax(PREFIX, sizes) == [Judged(f"{AT}/100", 100), Judged(f"{AT}/200", 200, "it has no commit_success.txt")]


@pytest.mark.parametrize("ended", range(len(ORBAX)))
def test_orbax_is_incomplete_until_its_last_file(ended: int) -> None:
    judged = orbax(PREFIX, files(f"{AT}/100", ORBAX[:ended]))
    assert all(one.problem for one in judged)
    assert len(judged) == bool(ended)


@pytest.mark.parametrize("ended", range(len(TORCH)))
def test_torch_is_incomplete_until_its_last_file(ended: int) -> None:
    judged = torch_dcp(PREFIX, files(f"{AT}/100", TORCH[:ended]))
    assert all(one.problem for one in judged)
    assert len(judged) == bool(ended)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ((".metadata",), "it has no .distcp file"),
        (("__0_0.distcp", "__0.metadata"), "it has no .metadata"),  # use_collectives=False: nobody writes one for all
        (("__0_0.distcp", ".metadata.tmp"), "it has no .metadata"),
        (("model_0/__0_0.distcp", "model_0/.metadata", "optimizer_0/__0_0.distcp"), "it has no .metadata"),
    ],
)
def test_what_torch_leaves_unfinished_is_told(names: tuple[str, ...], why: str) -> None:
    assert torch_dcp(PREFIX, files(f"{AT}/step-7", names)) == [Judged(f"{AT}/step-7", 7, why)]


def test_an_empty_metadata_is_none() -> None:
    sizes = files(f"{AT}/7", TORCH) | {f"{AT}/7/.metadata": 0}
    assert torch_dcp(PREFIX, sizes) == [Judged(f"{AT}/7", 7, "its .metadata is empty")]


def test_temporary_directories_of_orbax_are_told() -> None:
    path = f"{AT}/100.orbax-checkpoint-tmp-1767323045"
    [judged] = orbax(PREFIX, files(path, ORBAX))
    assert judged.problem == "it is one of Orbax's temporary directories"


def test_a_commit_file_alone_is_no_checkpoint() -> None:
    [judged] = orbax(PREFIX, files(f"{AT}/100", ORBAX[-1:]))
    assert judged.problem == "it has nothing but commit_success.txt"


@pytest.mark.parametrize(
    ("name", "progress"),
    [
        ("100", 100),
        ("000000000100", 100),
        ("step-100", 100),
        ("checkpoint_100", 100),
        ("epoch=3-step=100.ckpt", 100),
    ],
)
def test_progress_is_the_last_number_of_the_name(name: str, progress: int) -> None:
    assert torch_dcp(PREFIX, files(f"{AT}/{name}", TORCH)) == [Judged(f"{AT}/{name}", progress)]


@pytest.mark.parametrize("name", ["latest", "1234567890123456", "step-\u0661"])
def test_a_name_without_a_number_is_told(name: str) -> None:
    [judged] = torch_dcp(PREFIX, files(f"{AT}/{name}", TORCH))
    assert judged.problem == "its name has no number that says how far the training was"


def test_what_was_no_checkpoint_is_not_told() -> None:
    sizes = {f"{AT}/logs/events.out.tfevents": 5, f"{AT}/config.json": 2}
    assert torch_dcp(PREFIX, sizes) == []
    assert orbax(PREFIX, sizes) == []


@pytest.mark.parametrize("prefix", ["old/run", "old", "old/run/100"])
def test_restore_from_names_a_checkpoint_or_the_directory_above_it(prefix: str) -> None:
    judged = torch_dcp(prefix, files("old/run/100", TORCH))
    expected = {
        "old/run": ("old/run/100", ""),
        "old/run/100": ("old/run/100", ""),
        "old": ("old/run", "it has no .metadata"),
    }
    assert [(one.path, one.problem) for one in judged] == [expected[prefix]]
