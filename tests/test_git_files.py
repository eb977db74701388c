"""What git holds arrives as it is, whatever a user has told git to ignore or to convert."""

from pathlib import Path

import pytest

from tests.conftest import Clone

# Each of the first lines hits all of our files, the others are what people do have.
IGNORED = ("*", ".*", "*.*", "*/", ".dvc", "docs/", "metrics/*", "/plots/**", "LICENSE", "Makefile")
SUFFIXES = ("lock", "yaml", "json", "csv", "png", "md", "py", "txt", "toml", "in")
ATTRIBUTES = "* text eol=crlf ident filter=shout\n*.yaml working-tree-encoding=UTF-16\n"
SETTINGS = """\
[core]
autocrlf = true
eol = crlf
[filter "shout"]
smudge = tr a-z A-Z
clean = tr a-z A-Z
"""


@pytest.fixture
def received(tmp_path: Path, built: Clone) -> Clone:
    """A clone that is made by a user whose settings ignore and convert all that they can."""
    settings = tmp_path / ".config/git"
    settings.mkdir(parents=True)
    (settings / "ignore").write_text("\n".join([*IGNORED, *(f"*.{name}" for name in SUFFIXES)]))
    (settings / "attributes").write_text(ATTRIBUTES)
    (settings / "config").write_text(SETTINGS)
    environment = built.environment | {"HOME": str(tmp_path)}
    for name in ("GIT_CONFIG_GLOBAL", "XDG_CONFIG_HOME"):
        environment.pop(name, None)
    Clone(tmp_path, environment).git("clone", "--quiet", str(built.path), "clone")
    return Clone(tmp_path / "clone", environment)


def test_every_file_has_the_bytes_that_were_committed(received: Clone) -> None:
    listed = received.git("ls-files", "--stage").splitlines()
    _, blobs, _, files = zip(*map(str.split, listed), strict=True)
    assert received.git("hash-object", "--no-filters", *files).split() == list(blobs)
    received.git("add", "--renormalize", ".")
    assert received.git("status", "--porcelain") == ""


def test_no_file_is_ignored_and_dvc_works(received: Clone) -> None:
    files = received.git("ls-files").split()
    matched = received.git("check-ignore", "--no-index", "--verbose", *files).splitlines()
    assert len(matched) == len(files)
    assert [line for line in matched if ":!" not in line] == []
    # DVC asks libgit2 too, after `dvc exp apply`.
    ask = "import pygit2; print(pygit2.Repository('.').path_is_ignored('dvc.lock'))"
    assert received.run("python", "-c", ask).stdout == "False\n"
    assert "deleted:            data/params_checked.txt" in received.dvc("status")
