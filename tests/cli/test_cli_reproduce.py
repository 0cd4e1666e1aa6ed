"""``dglab reproduce``."""

import pytest


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--preset", "huge"), ["unknown preset 'huge'"]),
        (("--preset", "tiny", "--data", "no_such_folder"), ["no_such_folder: no such folder"]),
        (("--preset", "tiny", "--device", "abacus"), ["unknown device 'abacus'"]),
        (("--preset", "tiny", "--only", "99_nothing"), ["notebooks"]),
    ],
)
def test_reproduce_refuses(tmp_path, refused, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    message = refused(("reproduce", *arguments, "--out", "new"))
    if "--only" in arguments:  # in a clone the lessons are listed
        assert "there is no lesson '99_nothing'" in message or "no notebooks folder here" in message
    else:
        assert all(word in message for word in words)
    assert not (tmp_path / "new").exists()
