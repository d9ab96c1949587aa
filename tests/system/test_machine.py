"""What the machine is."""

import os

import jax
import pytest

from rlgd.system import machine


def test_only_the_cores_of_this_process_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 7})
    assert machine.num_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.num_cores() == 1


def test_the_device_is_named() -> None:
    assert machine.device_name().startswith(jax.default_backend())
