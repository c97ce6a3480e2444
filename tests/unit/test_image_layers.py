"""The layers of the image depend on nothing but what is in them."""

import io
import os
import tarfile
from pathlib import Path

from release.archive import layer


def tree(root: Path, *, when: int, order: list[str]) -> Path:
    root.mkdir()
    for name in order:
        file = root / "srv" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
        file.chmod(0o664)
        os.utime(file, (when, when))
    (root / "srv/program").write_text("#!/bin/sh\n")
    (root / "srv/program").chmod(0o775)
    (root / "tmp").mkdir(mode=0o700)
    (root / "srv/link").symlink_to("program")
    return root


def test_the_same_files_make_the_same_layer(tmp_path: Path) -> None:
    one = layer(tree(tmp_path / "one", when=1_000_000_000, order=["a", "b/c"]))
    two = layer(tree(tmp_path / "two", when=1_700_000_000, order=["b/c", "a"]))
    assert one == two


def test_all_of_it_belongs_to_root_and_nobody_else_may_write_it(tmp_path: Path) -> None:
    root = tree(tmp_path / "one", when=1_000_000_000, order=["a"])
    with tarfile.open(fileobj=io.BytesIO(layer(root, without=("opt",)).content)) as archive:
        modes = {each.name: each.mode for each in archive if not each.issym()}
        assert {each.uid for each in archive} == {0}
    assert modes == {"srv": 0o755, "srv/a": 0o644, "srv/program": 0o755, "tmp": 0o1777}


def test_a_folder_of_another_layer_is_left_out(tmp_path: Path) -> None:
    root = tree(tmp_path / "one", when=1_000_000_000, order=["a"])
    with tarfile.open(fileobj=io.BytesIO(layer(root, without=("srv",)).content)) as archive:
        assert archive.getnames() == ["tmp"]
