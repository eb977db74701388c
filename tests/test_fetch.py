"""``fetch`` brings the right bytes or none, whatever the network does."""

import hashlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stages.common.mnist_format import RAW_FILES, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES
from tests.conftest import Clone

# Small ones: what counts is that their digests are those in params.yaml.
RIGHT = {name: f"Fashion-{name:26}".encode() for name in RAW_FILES}
PLAIN_MNIST = b"plain MNIST"
HTML = b"<!DOCTYPE html><title>Sign in to this hotel's network</title>"


class Misbehaving(BaseHTTPRequestHandler):
    """Answers ``/FAULT/NAME`` with that fault, ``/good/NAME`` rightly."""

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.server.passwords.append(self.headers["Authorization"])
        asked = sum(path.startswith("/once/") for path in self.server.requests)
        _, fault, name = self.path.split("/")
        right = RIGHT[name]
        answers = {
            "good": lambda: self.answer(200, right),
            "missing": lambda: self.answer(404, HTML),
            "broken": lambda: self.answer(500, HTML),
            "moved": lambda: self.answer(302, b"", Location=f"/good/{name}"),
            "circle": lambda: self.answer(302, b"", Location=self.path),
            "stall": lambda: self.stall(right),
            "silent": lambda: self.server.over.wait(60),
            "truncated": lambda: self.answer(200, right[:-9], length=len(right)),
            "flipped": lambda: self.answer(200, bytes([right[0] ^ 1]) + right[1:]),
            "html": lambda: self.answer(200, HTML),
            "mnist": lambda: self.answer(200, PLAIN_MNIST),
            "garbled": lambda: self.wfile.write(b"\0\1\2\3\r\n\r\n"),
            "once": lambda: self.answer(200 if asked > 1 else 503, right),
            "first": lambda: self.answer(200 if name == TRAIN_IMAGES else 404, right),
            "others": lambda: self.answer(404 if name == TRAIN_IMAGES else 200, right),
        }
        answers[fault]()

    def answer(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def stall(self, body: bytes) -> None:
        self.answer(200, body[:9], length=len(body))
        self.server.over.wait(60)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Misbehaving)
        self.requests: list[str] = []
        self.passwords: list[str | None] = []
        self.over = threading.Event()

    def mirror(self, fault: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{fault}/"


@pytest.fixture
def fresh(fresh: Clone) -> Clone:
    """One that asks the server directly, whatever proxy the user has set."""
    return Clone(fresh.path, fresh.environment | {"no_proxy": "*"})


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port that refuses connections: bound, not listening."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def use_mirrors(clone: Clone, *mirrors: str, timeout: float = 0.5, retries: int = 0) -> None:
    files = {name: hashlib.sha256(content).hexdigest() for name, content in RIGHT.items()}
    clone.set_params(
        {
            "dataset.name": "small",
            "dataset.mirrors": [*mirrors],
            "dataset.files": [{"name": name, "sha256": digest} for name, digest in files.items()],
            "fetch.source": "mirrors",
            "fetch.timeout": timeout,
            "fetch.retries": retries,
        }
    )


def fetch(clone: Clone, *mirrors: str, retries: int = 0, **environment: str) -> tuple[int, str]:
    use_mirrors(clone, *mirrors, retries=retries)
    done = clone.stage("fetch", **environment)
    return done.returncode, done.stdout


def raw_files(clone: Clone) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (clone.path / "data/raw").glob("*")}


FAULTS = {
    "missing": "HTTP 404 Not Found",
    "broken": "HTTP 500 Internal Server Error",
    "circle": "TooManyRedirects('Exceeded 30 redirects.')",
    "stall": "not a byte for 0.5 seconds",
    "silent": "not a byte for 0.5 seconds",
    "truncated": "IncompleteRead(",
    "flipped": "another file, 34 bytes with SHA-256 ",
    "html": "another file, 61 bytes with SHA-256 ",
    "mnist": "another file, 11 bytes with SHA-256 ",
    "garbled": "BadStatusLine('\\x00\\x01\\x02\\x03",
}


def test_without_a_mirror_or_a_folder_it_says_where_to_name_one(fresh: Clone) -> None:
    code, log = fetch(fresh)
    assert code == 1
    assert log.splitlines() == [
        f"error: data/raw/{TRAIN_IMAGES}: dataset.mirrors in params.yaml lists no address, so set "
        "FASHION_MNIST_DIR to the folder that has the four files"
    ]


def test_when_no_mirror_serves_each_is_listed_with_its_reason(
    fresh: Clone, server: Server, unused_port: int
) -> None:
    reasons = {server.mirror(fault): reason for fault, reason in FAULTS.items()}
    reasons[f"http://127.0.0.1:{unused_port}/"] = "Connection refused"
    reasons["http://no-such-host.invalid/"] = ""  # each resolver has its own words
    code, log = fetch(fresh, *reasons)
    assert code == 1
    first, *listed, advice = log[log.index("error: ") :].splitlines()
    assert first == f"error: data/raw/{TRAIN_IMAGES}: no source has the right file:"
    for line, (mirror, reason) in zip(listed, reasons.items(), strict=True):
        assert line.startswith(f"  {mirror}: {reason}")
        assert len(line) < 150
    assert "FASHION_MNIST_DIR" in advice
    assert "make demo" in advice
    assert raw_files(fresh) == {}


def test_bad_mirrors_are_passed_over_with_a_line(fresh: Clone, server: Server) -> None:
    code, log = fetch(fresh, *map(server.mirror, [*FAULTS, "moved"]))
    assert code == 0
    for fault, reason in FAULTS.items():
        assert f"{TRAIN_IMAGES}: passed over {server.mirror(fault)}: {reason}" in log
    for name in RIGHT:  # the next file begins at the mirror that worked
        assert f"{name}: from {server.mirror('moved')}" in log
    assert log.count("\n") == len(FAULTS) + len(RIGHT), "no progress bar off a terminal"
    assert raw_files(fresh) == RIGHT

    server.requests.clear()
    code, log = fetch(fresh, server.mirror("good"))
    assert code == 0
    assert log.splitlines() == [f"{name}: already there" for name in RIGHT]
    assert server.requests == []


def test_trouble_that_may_pass_is_tried_again_and_a_404_is_not(
    fresh: Clone, server: Server
) -> None:
    code, log = fetch(fresh, server.mirror("missing"), server.mirror("once"), retries=1)
    assert code == 0
    assert f"{TRAIN_IMAGES}: trying {server.mirror('once')} again: HTTP 503" in log
    asked = [path for path in server.requests if path.endswith(TRAIN_IMAGES)]
    assert [path.split("/")[1] for path in asked] == ["missing", "once", "once"]


def test_a_file_that_only_an_earlier_mirror_has_is_found_there(
    fresh: Clone, server: Server
) -> None:
    silent, first, others = map(server.mirror, ("silent", "first", "others"))
    code, log = fetch(fresh, silent, others, first)
    assert code == 0
    sources = dict(line.split(": from ") for line in log.splitlines() if ": from " in line)
    assert sources == dict.fromkeys(RIGHT, others) | {TRAIN_IMAGES: first}
    # The second file asks, after the mirror of the first, the others in their order.
    assert sum(path.startswith("/silent/") for path in server.requests) == 2
    assert raw_files(fresh) == RIGHT


DEAD_PROXY = "http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("variable", "proxy", "reason"),
    [
        ("http_proxy", DEAD_PROXY, "Connection refused"),
        ("all_proxy", DEAD_PROXY, "Connection refused"),
        ("http_proxy", "http://[", "LocationParseError("),
        ("http_proxy", "http://", "InvalidProxyURL("),
        ("all_proxy", "socks5://127.0.0.1", "InvalidSchema('Missing dependencies for SOCKS"),
    ],
)
def test_a_proxy_that_does_not_work_is_named(
    variable: str, proxy: str, reason: str, fresh: Clone, server: Server, unused_port: int
) -> None:
    # An empty name in small letters takes the user's own away, in capitals too, but of no_proxy.
    none = dict.fromkeys(("http_proxy", "all_proxy", "no_proxy", "NO_PROXY"), "")
    environment = none | {variable: proxy.format(port=unused_port)}
    code, log = fetch(fresh, server.mirror("good"), **environment)
    assert code == 1
    assert f"the proxy set in the environment: {reason}" in log
    assert server.requests == []


def test_no_proxy_of_the_user_comes_between_these_tests_and_their_server(
    fresh: Clone, server: Server, unused_port: int
) -> None:
    names = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    proxies = dict.fromkeys(names, f"http://127.0.0.1:{unused_port}")
    assert fetch(fresh, server.mirror("good"), **proxies, NO_PROXY="")[0] == 0


@pytest.mark.parametrize(
    ("variable", "content", "reason"),
    [
        ("REQUESTS_CA_BUNDLE", None, "OSError('Could not find a suitable TLS CA certificate"),
        ("CURL_CA_BUNDLE", None, "OSError('Could not find a suitable TLS CA certificate"),
        ("REQUESTS_CA_BUNDLE", "no certificate", "[X509: NO_CERTIFICATE_OR_CRL_FOUND]"),
    ],
)
def test_a_bundle_of_certificates_that_cannot_be_used_is_named_and_the_next_mirror_tried(
    variable: str, content: str | None, reason: str, fresh: Clone, server: Server, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content:
        bundle.write_text(content)
    secure = server.mirror("good").replace("http:", "https:")
    environment = {"REQUESTS_CA_BUNDLE": "", variable: str(bundle)}
    code, log = fetch(fresh, secure, server.mirror("good"), **environment)
    assert code == 0
    assert f"passed over {secure}: {variable}={bundle}: {reason}" in log
    assert raw_files(fresh) == RIGHT


@pytest.mark.parametrize("netrc", [b"default login me password secret\n", b"\xff\xfe"])
def test_no_password_of_the_user_is_sent_to_a_mirror(
    netrc: bytes, fresh: Clone, server: Server, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_bytes(netrc)
    (tmp_path / ".netrc").chmod(0o600)
    assert fetch(fresh, server.mirror("good"), HOME=str(tmp_path))[0] == 0
    assert server.passwords == [None] * len(RIGHT)


def test_a_local_folder_wins_and_its_wrong_files_are_passed_over(
    fresh: Clone, server: Server, tmp_path: Path
) -> None:
    for name, content in RIGHT.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / TEST_LABELS).write_bytes(PLAIN_MNIST)
    (tmp_path / TEST_IMAGES).unlink()
    code, log = fetch(fresh, server.mirror("good"), FASHION_MNIST_DIR=str(tmp_path))
    assert code == 0
    assert f"{TRAIN_IMAGES}: from {tmp_path}/" in log
    assert f"{TEST_LABELS}: passed over {tmp_path}/: another file" in log
    assert f"{TEST_IMAGES}: passed over {tmp_path}/: No such file or directory" in log
    assert sorted(server.requests) == [f"/good/{TEST_IMAGES}", f"/good/{TEST_LABELS}"]
    assert raw_files(fresh) == RIGHT


@pytest.mark.parametrize(
    ("folder", "passed_over"),
    [
        ("", None),
        ("params.yaml", "params.yaml/: Not a directory"),
        ("no/such", "no/such/: No such file or directory"),
        ("~no-such-user/x", "~no-such-user/x/: No such file or directory"),
    ],
)
def test_a_local_folder_that_is_none_is_passed_over(
    folder: str, passed_over: str | None, fresh: Clone, server: Server
) -> None:
    code, log = fetch(fresh, server.mirror("good"), FASHION_MNIST_DIR=folder)
    assert code == 0
    for name in RIGHT:
        assert (f"{name}: passed over {passed_over}" in log) == bool(passed_over)
    assert raw_files(fresh) == RIGHT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_in_the_middle_of_a_download_leaves_no_file(
    number: signal.Signals, fresh: Clone, server: Server
) -> None:
    fetching = start_to_download(fresh, server, "python", "-m", "stages.fetch")
    os.killpg(fetching.pid, number)
    log = fetching.communicate()[0]
    left = [path.suffix for path in fresh.path.glob("data/raw/*")]
    assert fetching.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert left == ([".part"] if number == signal.SIGKILL else [])
    assert log == ("interrupted\n" if number == signal.SIGINT else "")

    assert fetch(fresh, server.mirror("good"))[0] == 0
    assert raw_files(fresh) == RIGHT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stage_ends_with_the_dvc_that_runs_it(
    number: signal.Signals, fresh: Clone, server: Server
) -> None:
    dvc = start_to_download(fresh, server, "dvc", "repro", "fetch")
    dvc.send_signal(number)  # to dvc alone, not to its group
    dvc.communicate()  # returns when the stage, which shares the pipe, is gone too
    assert raw_files(fresh) == {}

    use_mirrors(fresh, server.mirror("good"))
    fresh.dvc("repro", "fetch")
    assert raw_files(fresh) == RIGHT


def start_to_download(clone: Clone, server: Server, *command: str) -> subprocess.Popen[str]:
    """Start a command and return once its download, from a mirror that stalls, has begun."""
    use_mirrors(clone, server.mirror("stall"), timeout=60)
    process = clone.start(*command)
    while not list(clone.path.glob("data/raw/.*.part")):
        assert process.poll() is None
        time.sleep(0.01)
    return process
