"""The training state on disk: it comes back bit by bit, into the arrays that are expected."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgd.agents import A2C
from rlgd.ascent import Ascent
from rlgd.envs import make
from rlgd.errors import StorageFault
from rlgd.pytrees import AgentState, LoopState, named_leaves
from rlgd.run.checkpoints import folder, manifest, state
from rlgd.training import initialize

AGENT = A2C(
    num_envs=2, rollout_length=4, hidden_sizes=(4,), ascent=Ascent("adam", outer_momentum=0.5), measure_every=1
).prepared()
ABOUT = {"versions": {"rlgd": "0.1.0"}}


@pytest.fixture(name="loop", scope="module")
def _loop() -> LoopState:
    return initialize(AGENT, make("CartPole-v1"), jax.random.key(3), 100)


def abstract(loop: LoopState) -> LoopState:
    shapes: LoopState = jax.eval_shape(lambda: loop)
    return shapes


def assert_same(one: Any, other: Any) -> None:
    a, b = named_leaves(one), named_leaves(other)
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert value.dtype == b[name].dtype
        np.testing.assert_array_equal(value, b[name], err_msg=name)


def test_a_state_comes_back(loop: LoopState, tmp_path: Path) -> None:
    state.save(tmp_path, 8, loop, ABOUT, {"rows": 1})
    back = state.restore(tmp_path, 8, abstract(loop))
    assert str(jax.tree.structure(back)) == str(jax.tree.structure(loop))
    assert_same(back, loop)
    assert_same(state.restore_agent(tmp_path, 8, abstract(loop).agent_state), loop.agent_state)
    assert manifest.verified(tmp_path, 8).counters == {"rows": 1}


def test_arrays_without_elements_come_back(loop: LoopState, tmp_path: Path) -> None:
    """Orbax refuses them; the contacts of a body that touches nothing are such arrays."""
    loop = dataclasses.replace(
        loop, env_state=(loop.env_state, {"contacts": jnp.zeros((2, 0, 3)), "which": jnp.zeros(0, int)})
    )
    state.save(tmp_path, 8, loop, ABOUT, {})
    assert_same(state.restore(tmp_path, 8, abstract(loop)), loop)
    other = dataclasses.replace(
        loop, env_state=(*loop.env_state[:1], {"contacts": jnp.zeros((2, 1, 3)), "which": jnp.zeros(0, int)})
    )
    with pytest.raises(StorageFault, match=r"contacts: checkpoint nothing, expected float32\[2, 1, 3\]"):
        state.restore(tmp_path, 8, abstract(other))


def test_a_checkpoint_of_the_same_step_is_replaced(loop: LoopState, tmp_path: Path) -> None:
    state.save(tmp_path, 8, loop, ABOUT, {})
    later = dataclasses.replace(loop, iteration=loop.iteration + 1)
    state.save(tmp_path, 8, later, ABOUT, {})
    assert_same(state.restore(tmp_path, 8, abstract(loop)), later)
    assert [path.name for path in tmp_path.iterdir()] == ["8"]


def test_names_of_earlier_versions_are_read(loop: LoopState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``opt_state`` was ``moments`` once, ``outer_opt_state`` was ``outer_moments``, and ``measured`` counted too."""

    def renamed(tree: Any) -> dict[str, Any]:
        earlier = {"opt_state": "moments", "outer_opt_state": "outer_moments", "measured": "measured.gradient"}
        counted = {"measured.wait": jnp.zeros((), jnp.int32)} if isinstance(tree, AgentState) else {}
        return counted | {
            ".".join([earlier.get(head, head), *rest]): leaf
            for name, leaf in named_leaves(tree).items()
            for head, *rest in [name.split(".")]
        }

    assert {name.split(".")[0] for name in named_leaves(loop.agent_state)} >= set(state.EARLIER_NAMES)
    monkeypatch.setattr(state, "named_leaves", renamed)
    state.save(tmp_path, 8, loop, ABOUT, {})
    monkeypatch.undo()
    assert_same(state.restore(tmp_path, 8, abstract(loop)), loop)


def test_other_arrays_are_refused_by_name(loop: LoopState, tmp_path: Path) -> None:
    state.save(tmp_path, 8, loop, ABOUT, {})
    wide: Any = jax.ShapeDtypeStruct((3,), jnp.float32)
    like = dataclasses.replace(abstract(loop), progress=wide)
    with pytest.raises(StorageFault, match=r"progress: checkpoint float32\[\], expected float32\[3\]"):
        state.restore(tmp_path, 8, like)


def test_what_cannot_be_written_leaves_the_one_before(loop: LoopState, tmp_path: Path) -> None:
    state.save(tmp_path / "saved", 8, loop, ABOUT, {})
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFault, match=r"the checkpoint of step 8 cannot be written to .*/file: .* bytes are free"):
        state.save(tmp_path / "file", 8, loop, ABOUT, {})
    with pytest.raises(StorageFault, match="the checkpoint of step 16 cannot be written"):
        state.save(tmp_path / "saved", 16, loop, {"not JSON": object()}, {})
    assert folder.all_steps(tmp_path / "saved") == [8]
    assert folder.incomplete(tmp_path / "saved") == []


def test_random_keys_are_stored_as_numbers(loop: LoopState) -> None:
    leaf = named_leaves(loop)["key"]
    np.testing.assert_array_equal(leaf, jax.random.key_data(loop.key))
    assert state.numbers() == {"dtype": "float32", "prng": str(jax.random.key_impl(loop.key))}


def test_every_leaf_has_a_name_of_its_own(loop: LoopState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where keys have dots; earlier versions did not mark them."""
    obs = {"a.b": jnp.ones(1), "a": {"b": jnp.zeros(2), "": jnp.zeros(3)}, "a.": jnp.zeros(4), "a%2Eb": jnp.zeros(5)}
    names = named_leaves(obs)
    assert len(names) == len(jax.tree.leaves(obs))
    assert names.keys() > {"a.b"}
    dotted = dataclasses.replace(loop, obs={"a.b%": jnp.ones(1)})
    with monkeypatch.context() as earlier:
        earlier.setattr(
            state,
            "named_leaves",
            lambda tree: {
                name.replace("%2E", ".").replace("%25", "%"): leaf for name, leaf in named_leaves(tree).items()
            },
        )
        state.save(tmp_path, 8, dotted, ABOUT, {})
    assert_same(state.restore(tmp_path, 8, abstract(dotted)), dotted)
