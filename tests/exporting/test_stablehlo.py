"""A policy as StableHLO: read in another process, with JAX alone to compute."""

import contextlib
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import rlgd
from rlgd.agents import PPO
from rlgd.errors import StorageFault, UsageError
from rlgd.exporting import load_stablehlo
from rlgd.exporting.interface import by_suffix
from tests.exporting.test_onnx import MIXED, OBSERVATIONS, Case, made, observations

CALL = """
import sys, zipfile
import jax, numpy as np
with zipfile.ZipFile(sys.argv[1]) as archive:
    exported = jax.export.deserialize(bytearray(archive.read("program")))
assert exported.platforms == ("cpu", "cuda", "tpu")
outputs = exported.call({"obs": np.load(sys.argv[2])})
np.savez(sys.argv[3], **{name: np.asarray(array) for name, array in outputs.items()})
assert not any(name.startswith(("rlgd", "flax")) for name in sys.modules)
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = made(Case(PPO(normalize_obs=True), action="box"))
    return rlgd.export(policy, tmp_path_factory.mktemp("stablehlo") / "policy.stablehlo")


def test_the_same_actions_in_a_process_without_rlgd(file: Path, tmp_path: Path) -> None:
    obs = observations(OBSERVATIONS["numbers"], 50)
    np.save(tmp_path / "obs.npy", obs)
    paths = [str(file), str(tmp_path / "obs.npy"), str(tmp_path / "outputs.npz")]
    subprocess.run([sys.executable, "-c", CALL, *paths], check=True, cwd="/")
    policy = made(Case(PPO(normalize_obs=True), action="box"))
    with np.load(tmp_path / "outputs.npz") as outputs:
        np.testing.assert_allclose(outputs["action"], policy(obs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["ppo_dict_masked", "lstm", "hybrid"])
def test_programs_are_called_by_names(name: str, tmp_path: Path) -> None:
    case = MIXED.get(name, Case(PPO(), "float64", "hybrid"))
    policy = made(case)
    program = load_stablehlo(rlgd.export(policy, tmp_path / "policy.stablehlo", action_mask=case.mask))
    obs = observations(OBSERVATIONS[case.obs], 7)
    ports = {port["name"]: port for port in program.about["inputs"]}
    ones = {"first", "action_mask"}
    given = {n: np.full((7, *port["shape"]), n in ones, port["dtype"]) for n, port in ports.items()}
    given |= {"obs" + suffix: leaf for suffix, leaf in by_suffix(obs).items()}
    outputs = program(given)
    for suffix, leaf in by_suffix(policy(obs)).items():
        assert outputs["action" + suffix].dtype == leaf.dtype
        np.testing.assert_allclose(outputs["action" + suffix], leaf, rtol=1e-5, atol=1e-5)


def test_wrong_inputs_are_named(file: Path) -> None:
    program = load_stablehlo(file)
    with pytest.raises(UsageError, match="the inputs are observation; expected obs"):
        program({"observation": np.zeros((1, 4))})
    with pytest.raises(UsageError, match=r"obs has shape \(4,\); expected \('N', 4\)"):
        program({"obs": np.zeros(4)})
    for wrong in (3, np.zeros((0, 4)), "text", [[1, 2], [3]]):
        with pytest.raises(UsageError, match="obs "):
            program({"obs": wrong})


def rewritten(file: Path, path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if content := members.get(name.partition(".")[0], old.read(name)):
                new.writestr(name, content)
    return path


def test_damaged_and_foreign_files_are_refused(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    for number, damaged in enumerate((b"", b"no archive", content[: len(content) // 2], content[:-30])):
        path = tmp_path / str(number)
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"is no policy that rlgd\.export wrote as StableHLO, or it is damaged"):
            load_stablehlo(path)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    (tmp_path / "flipped").write_bytes(flipped)
    with pytest.raises((UsageError, StorageFault), match="damaged"):
        load_stablehlo(tmp_path / "flipped")
    with pytest.raises(UsageError, match="cannot be read"):
        load_stablehlo(tmp_path / "nothing")
    with pytest.raises(UsageError, match="is no policy"):
        load_stablehlo(rewritten(file, tmp_path / "without", program=b""))
    with pytest.raises(StorageFault, match="SHA-256 differs"):
        load_stablehlo(rewritten(file, tmp_path / "other", program=b"another program"))
    with pytest.raises(StorageFault, match="is damaged"):
        load_stablehlo(rewritten(file, tmp_path / "about", about=b'{"inputs": 3}'))
    with zipfile.ZipFile(file) as archive:
        about = archive.read("about.json")
    for number, (old, new) in enumerate(((b'"obs"', b'"see"'), (b"float32", b"int8"), (b'"mean"', b'"means"'))):
        with pytest.raises(StorageFault, match="is damaged"):
            load_stablehlo(rewritten(file, tmp_path / f"about{number}", about=about.replace(old, new)))
    random = np.random.default_rng(0)
    for _ in range(300):  # whatever is damaged: one of two errors, or a policy that reads what it did
        broken = bytearray(content)
        broken[random.integers(len(content))] ^= 1 << random.integers(8)
        (tmp_path / "broken").write_bytes(broken)
        with contextlib.suppress(UsageError, StorageFault):
            load_stablehlo(tmp_path / "broken")


def test_a_compressed_archive_is_not_unpacked(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("about.json", json.dumps({}))
        archive.writestr("program", b"0" * 10_000_000)
    with pytest.raises(UsageError, match="is no policy"):
        load_stablehlo(path)


def test_a_program_of_jax_alone_is_refused_where_its_digest_is_right(file: Path, tmp_path: Path) -> None:
    """Bytes that are no program of JAX: whatever JAX raises is one message."""
    with zipfile.ZipFile(file) as archive:
        about = json.loads(archive.read("about.json"))
    garbage = bytes(range(256)) * 8
    about["sha256"] = hashlib.sha256(garbage).hexdigest()
    path = rewritten(file, tmp_path / "garbage", program=garbage, about=json.dumps(about).encode())
    with pytest.raises(StorageFault, match="is damaged, or another version of JAX wrote it"):
        load_stablehlo(path)
