"""A model by its name on the hub: out of the cache, from a server on this machine, or one line that says what to do."""

from __future__ import annotations

import http.server
import json
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from costmodel.errors import ModelError
from costmodel.families.load import load_model

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}
NAME = "Some-Org/some-model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens on the port of `discard`
    monkeypatch.chdir(tmp_path)
    return folder


def cached(folder: Path, commit: str = COMMIT, **changes: Any) -> None:
    repository = folder / f"models--{NAME.replace('/', '--')}"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)


def test_the_cache_comes_first(cache: Path) -> None:
    cached(cache)
    spec = load_model(NAME)
    assert (spec.name, spec.hidden_size) == ("some-model", 64)


def test_of_several_revisions_the_main_one_is_read(cache: Path) -> None:
    cached(cache, commit="a" * 40, hidden_size=32)
    cached(cache, commit="b" * 40, hidden_size=128)
    assert load_model(NAME).hidden_size == 128


def test_a_folder_of_that_name_wins(cache: Path, tmp_path: Path) -> None:
    cached(cache)
    (tmp_path / NAME).mkdir(parents=True)
    (tmp_path / NAME / "config.json").write_text(json.dumps({**CONFIG, "hidden_size": 32}))
    assert load_model(NAME).hidden_size == 32


def test_a_mistyped_path_is_not_looked_up_on_the_hub() -> None:
    with pytest.raises(ModelError, match="unknown model") as caught:
        load_model("mine/confg.json")
    assert "huggingface.co" not in str(caught.value)


def test_without_the_hubs_library_one_line_says_how_to_get_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"'\.\[hub\]' in .*, or save http.*/some-model/resolve/main/config.json"):
        load_model(NAME)


# A hub on this machine


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves config.json of one model, and refuses others as the hub does."""

    asked: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        code, body, more = 404, b"", {"X-Error-Code": "RepoNotFound"}
        if self.path.startswith("/gated/model"):
            code, more = 403, {"X-Error-Code": "GatedRepo"}
        elif self.path.startswith("/empty/model"):
            more = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
        elif self.path == f"/{NAME}/resolve/main/config.json":
            code, body = 200, json.dumps(CONFIG).encode()
            more = {"ETag": '"abc"', "X-Repo-Commit": COMMIT}
        self.send_response(code)
        for name, value in {**more, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    constants = pytest.importorskip("huggingface_hub.constants")
    Hub.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield Hub
    server.shutdown()
    server.server_close()
    thread.join()


def test_config_json_alone_is_fetched_and_cached(hub: type[Hub]) -> None:
    assert load_model(NAME).hidden_size == 64
    assert {path for path in hub.asked if path.endswith(".json")} == {f"/{NAME}/resolve/main/config.json"}
    seen = len(hub.asked)
    assert load_model(NAME).hidden_size == 64
    assert len(hub.asked) == seen


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("no/such-model", "the hub has no such model: got 'no/such-model'"),
        ("gated/model", "to those only who may see it.*accept its terms"),
        ("empty/model", "has no config.json"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(hub: type[Hub], name: str, pattern: str) -> None:
    with pytest.raises(ModelError, match=pattern) as caught:
        load_model(name)
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"the hub cannot be reached.*save http"):
        load_model(NAME)


def test_without_a_network_nothing_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("huggingface_hub")

    def unknown(*_: Any) -> list[Any]:
        raise socket.gaierror

    monkeypatch.setattr(library, "hf_hub_download", lambda *_, **__: pytest.fail("the hub was asked"))
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ModelError, match=r"the hub cannot be reached.*save http"):
        load_model(NAME)


def test_names_of_another_family_are_not_suggested() -> None:
    with pytest.raises(ModelError, match="did you mean qwen3-8b") as caught:
        load_model("qwen3-9b")
    assert "llama" not in str(caught.value).partition("did you mean")[2]
    with pytest.raises(ModelError) as caught:
        load_model("falcon-7b-typo")
    assert "did you mean" not in str(caught.value)
