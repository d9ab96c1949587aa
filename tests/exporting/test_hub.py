"""One command uploads an export to a hub of models: here, to a server of the test's own."""

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import rlgd
from rlgd.agents import A2C
from rlgd.exporting import export_run


class Hub(ThreadingHTTPServer):
    """As much of a hub as an upload talks to; it keeps what it was given."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Visit)
        self.cards: list[str] = []
        self.files: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path.endswith("/repos/create"):
            return {"url": f"{self.address}/you/policy", "id": "you/policy"}
        if path.endswith("/validate-yaml"):
            self.cards.append(json.loads(body)["content"])
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            return {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        if "/commit/" in path:
            entries = [json.loads(line) for line in body.splitlines()]
            for entry in entries:
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return {"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.address}/you/policy/commit/{'0' * 40}"}
        return {"id": "you/policy", "sha": "0" * 40, "siblings": []}


class Visit(BaseHTTPRequestHandler):
    """One request."""

    server: Hub

    def do_POST(self) -> None:
        content = self.server.answer(self.path, self.rfile.read(int(self.headers.get("content-length") or 0)))
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_one_command_uploads_an_export(hub: Hub, tmp_path: Path) -> None:
    agent = A2C(num_envs=2, rollout_length=8, hidden_sizes=(8,), measure_every=0)
    rlgd.train(agent, "CartPole-v1", total_timesteps=16, run_dir=tmp_path / "run", eval_episodes=2)
    folder = export_run(tmp_path / "run", to=("onnx", "safetensors"))
    command = shutil.which("hf", path=str(Path(sys.executable).parent))
    assert command is not None
    settings = {"HF_ENDPOINT": hub.address, "HF_TOKEN": "hf_test", "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "*"}
    done = subprocess.run(
        [command, "upload", "you/policy", str(folder)], env=os.environ | settings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert hub.cards == [(folder / "README.md").read_text()]
