"""Bad weather on the way to origin is waited for; a refusal ends at once, with its reason."""

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stages.common.console import StageError
from tests.conftest import Clone
from tools.common import sharing
from tools.common.sharing import experiment_ref, fetch_experiment, is_refusal, patiently


class Origin(SimpleHTTPRequestHandler):
    """A web server of a repository, which first answers with each of these statuses."""

    statuses: list[int]

    def do_GET(self) -> None:
        if not self.statuses:
            super().do_GET()
            return
        status = self.statuses.pop(0)
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", "Basic realm=origin")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def ref(source: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The ref of an experiment on a web server, the origin of the clone that the test is in."""
    ref = experiment_ref(source.git("rev-parse", "HEAD").strip(), "lower-rate")
    bare = Clone(tmp_path / "bare.git", source.environment)
    source.git("clone", "--quiet", "--bare", str(source.path), str(bare.path))
    bare.git("update-ref", ref, "HEAD")
    bare.git("update-server-info")
    serve = functools.partial(Origin, directory=bare.path)
    clone = Clone(tmp_path / "clone", source.environment)
    source.git("clone", "--quiet", str(bare.path), str(clone.path))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f"http://me:my-password@127.0.0.1:{server.server_port}"
        clone.git("remote", "set-url", "origin", address)
        monkeypatch.chdir(clone.path)
        monkeypatch.setattr(sharing, "PAUSES", (0.1, 0.2))
        yield ref
        server.shutdown()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(
    status: int, ref: str, capsys: pytest.CaptureFixture
) -> None:
    Origin.statuses = [status] * 2
    commit = patiently(lambda: fetch_experiment(ref))
    assert experiment_ref(commit, "lower-rate") == ref
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("trying again in 0.1 seconds: ")
    assert second.startswith("trying again in 0.2 seconds: ")
    assert f"returned error: {status}" in second


def test_a_server_that_stays_in_trouble_is_given_up_with_its_reason(ref: str) -> None:
    Origin.statuses = [503] * 100
    with pytest.raises(StageError, match="returned error: 503"):
        patiently(lambda: fetch_experiment(ref))
    assert len(Origin.statuses) == 97


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "Authentication failed for "), (403, "returned error: 403"), (404, " not found")],
)
def test_a_refusal_ends_at_once_with_its_reason(
    status: int, reason: str, ref: str, capsys: pytest.CaptureFixture
) -> None:
    Origin.statuses = [status] * 100
    with pytest.raises(StageError, match=reason):
        patiently(lambda: fetch_experiment(ref))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("origin", "refuses"),
    [
        ("../nowhere.git", True),
        ("git://127.0.0.1:1/bare.git", False),
        ("ssh://git@127.0.0.1:1/bare.git", False),
        ("http://127.0.0.1:1/bare.git", False),
        ("http://nowhere.invalid/bare.git", False),
    ],
)
def test_where_nobody_answers_somebody_may_later(
    origin: str, refuses: bool, fresh: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.git("remote", "add", "origin", origin)
    monkeypatch.chdir(fresh.path)
    with pytest.raises(StageError) as error:
        fetch_experiment("refs/exps/1/2/lower-rate")
    assert is_refusal(error.value) == refuses


REST = "fatal: Could not read from remote repository. Please make sure you have the correct access "
REST += "rights and the repository exists."


@pytest.mark.parametrize(
    "words",
    [  # of servers that no test has
        f"git@github.com: Permission denied (publickey). {REST}",
        f"Host key verification failed. {REST}",
        f"ERROR: Repository not found. {REST}",
        f"ERROR: Permission to somebody/project.git denied to another. {REST}",
        f"ERROR: The project you were looking for could not be found or you don't have {REST}",
        "error: insufficient permission for adding an object to repository database ./objects",
        "ERROR: unexpected error - [Errno 13] Permission denied: '/shared/files'",
        "ERROR: failed to push data to the cloud - Access Denied",
    ],
)
def test_a_refused_login_a_missing_repository_and_a_permission_are_refusals(words: str) -> None:
    assert is_refusal(StageError(words))
