"""Files are there whole or not at all."""

import os

import pytest

from flowfit.models.errors import InputError
from flowfit.models.files import write_whole


def one_line(caught):
    text = str(caught.value)
    return "\n" not in text and text.startswith("cannot write")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="missing") as caught:
        write_whole(tmp_path / "missing" / "a", b"x")
    assert one_line(caught)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError) as caught:
            write_whole(tmp_path / "a", b"x")
    finally:
        tmp_path.chmod(0o700)
    assert one_line(caught)
    assert not list(tmp_path.iterdir())


def test_old_file_stays_when_the_new_one_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    write_whole(path, b"old")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match="Permission denied") as caught:
        write_whole(path, b"new")
    assert one_line(caught)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
