"""Agents and environments as axes of a study."""

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import rlgd
from rlgd.agents import PPO, named
from rlgd.cli import main
from rlgd.cli.study import axes_of
from rlgd.errors import UsageError
from rlgd.studies import Arm, Question
from rlgd.studies.axes import single_axes
from rlgd.studies.plan import make_plan
from rlgd.studies.seed_statistics import point_results
from tests.support.small_study import A2C_SMALL, outcome

ENVS = ["CartPole-v1", "Acrobot-v1"]
AGENTS = ["ppo", "a2c"]


def shapes(*arms: Arm) -> list[tuple[str, tuple[str, ...], int]]:
    """The title, the axes and the number of points of each arm of a question."""
    return [(arm.title, arm.axes, len(arm)) for arm in Question(arms).arms]


def test_an_arm_of_environments_becomes_one_for_each() -> None:
    assert shapes(Arm("a", vary={"env": ENVS, "momentum": [0.0, 0.9]})) == [
        ("a in CartPole-v1", ("momentum",), 2),
        ("a in Acrobot-v1", ("momentum",), 2),
    ]
    assert shapes(Arm(vary={"env": ENVS})) == [("CartPole-v1", ("env",), 1), ("Acrobot-v1", ("env",), 1)]


def test_agents_are_compared_where_nothing_else_varies() -> None:
    assert shapes(Arm(vary={"agent": AGENTS})) == [("", ("agent",), 2)]
    assert shapes(Arm(vary={"agent": AGENTS, "env": ENVS})) == [
        ("CartPole-v1", ("agent",), 2),
        ("Acrobot-v1", ("agent",), 2),
    ]
    assert shapes(Arm(vary={"gamma": [0.9, 0.99], "agent": AGENTS})) == [("ppo", ("gamma",), 2), ("a2c", ("gamma",), 2)]


def test_a_question_that_was_split_is_read_again_as_it_is() -> None:
    question = Question((Arm("a", vary={"env": ENVS, "agent": AGENTS, "gamma": [0.9]}), Arm("b", vary={"env": ENVS})))
    assert len(question.arms) == 6
    assert Question.from_json(json.loads(json.dumps(question.to_json())), "study") == question


@pytest.mark.parametrize(
    ("arms", "vary", "expected"),
    [
        ((Arm("a", vary={"gamma": [0.9]}),), {"env": ENVS}, ["a in CartPole-v1", "a in Acrobot-v1"]),
        ((Arm("a", cases={"none": {}}),), {"agent": AGENTS}, ["a, ppo", "a, a2c"]),
        ((Arm("a", {"env": "Pendulum-v1"}, {"gamma": [0.9]}),), {"env": ENVS}, ["a in CartPole-v1", "a in Acrobot-v1"]),
        ((Arm(vary={"gamma": [0.9]}),), {"momentum": [0.0, 0.9]}, [""]),
    ],
)
def test_axes_are_added_to_each_arm(arms: tuple[Arm, ...], vary: dict[str, Any], expected: list[str]) -> None:
    question = Question(arms).varied(vary)
    assert [arm.title for arm in question.arms] == expected
    assert sum(map(len, question.arms)) == len(next(iter(vary.values())))


def test_nothing_varies_beside_cases() -> None:
    with pytest.raises(UsageError, match=r"arm 'a' has named cases, beside which gamma cannot vary\."):
        Question((Arm("a", cases={"none": {}}),)).varied({"gamma": [0.9]})


def test_a_case_has_no_environment_of_its_own() -> None:
    with pytest.raises(UsageError, match=r"has a case with an env"):
        Arm(cases={"one": {"env": "CartPole-v1"}})


def test_a_question_goes_to_another_environment() -> None:
    everywhere = Question(tuple(Arm("a", {"env": env_id}, {"gamma": [0.9]}) for env_id in ENVS))
    assert [arm.title for arm in everywhere.within("Acrobot-v1").arms] == ["a in Acrobot-v1"]
    assert [arm.title for arm in everywhere.within("Pendulum-v1").arms] == ["a in Pendulum-v1"]
    assert everywhere.within("Pendulum-v1").env_ids == {"Pendulum-v1"}
    (arm,) = Question((Arm(vary={"gamma": [0.9]}),)).within("Acrobot-v1").arms
    assert arm.title == ""  # none is named, so the whole question goes there


def test_axes_on_the_command_line() -> None:
    assert axes_of(["agent=ppo,a2c", "gamma=0.9,1", "normalize_obs=true"]) == {
        "agent": ["ppo", "a2c"],
        "gamma": [0.9, 1],
        "normalize_obs": [True],
    }
    assert axes_of(["hidden_sizes=[64,64],[32]"]) == {"hidden_sizes": [[64, 64], [32]]}
    for wrong in ("gamma", "gamma=", "=1"):
        with pytest.raises(UsageError, match=f"--vary {wrong}: expected NAME=VALUE"):
            axes_of([wrong])
    with pytest.raises(UsageError, match="each name once"):
        axes_of(["gamma=0.9", "gamma=1"])


def test_an_agent_is_given_the_fixed_settings_that_it_has() -> None:
    arm = Arm(vary={"agent": AGENTS})
    plan = make_plan(Question((arm,), settings={"num_epochs": 2, "num_envs": 4}, seeds=1))
    ppo, a2c = (config.agent for config in plan.members)
    assert (ppo.num_envs, a2c.num_envs) == (4, 4)
    assert getattr(ppo, "num_epochs", None) == 2
    assert not hasattr(a2c, "num_epochs")
    assert [group.label for group in plan.groups] == ["agent=ppo", "agent=a2c"]
    assert plan.left_out == ("a2c has no num_epochs: the study's value is left out",)
    with pytest.raises(UsageError, match="unknown hyper-parameter 'num_epoch'"):
        make_plan(Question((arm,), settings={"num_epoch": 2}))
    with pytest.raises(UsageError, match="unknown hyper-parameter 'num_epochs'"):
        make_plan(Question((Arm(vary={"agent": ["a2c"], "num_epochs": [1, 2]}),)))


@pytest.mark.slow
def test_a_dry_run_says_which_settings_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["study", "optimizer", "--seeds", "2", "--vary", "agent=ppo,reinforce", "--dry-run"]) == 0
    assert "reinforce has no num_epochs: the study's value is left out" in capsys.readouterr().out


def test_each_environment_has_programs_a_target_and_an_axis_of_its_own() -> None:
    plan = make_plan(Question((Arm("a", vary={"env": ENVS, "gamma": [0.9, 0.99]}),), agent="a2c", seeds=2))
    assert [(group.label, group.members) for group in plan.groups] == [
        ("env=CartPole-v1", (0, 1, 2, 3)),
        ("env=Acrobot-v1", (4, 5, 6, 7)),
    ]
    results = point_results(plan, {n: outcome(float(n), 100, ((50, 0.0),)) for n in range(8)})
    assert [rows[0].target for rows in results] == [475.0, -100.0]
    assert [[len(row.reached) for row in rows] for rows in results] == [[2, 2], [2, 2]]
    assert [axis.name for axis in single_axes(plan, results)] == ["gamma in CartPole-v1", "gamma in Acrobot-v1"]


def test_an_environment_on_the_host_trains_beside_one_on_the_device() -> None:
    gymnasium.register("rlgd-tests/Slow-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=50)
    vary = {"env": ["CartPole-v1", "rlgd-tests/Slow-v0"], "gamma": [0.9, 0.99]}
    try:
        result = rlgd.study(A2C_SMALL, "CartPole-v1", vary, seeds=1, total_timesteps=64, eval_episodes=2)
    finally:
        del gymnasium.registry["rlgd-tests/Slow-v0"]
    assert [group.on_device for group in result.plan.groups] == [True, False]
    assert len(result.speeds) == 1
    assert [config.env.env_id for config in result.plan.members[::2]] == vary["env"]
    assert [(outcome.steps, outcome.iterations) for outcome in result.outcomes.values()] == [(64, 2)] * 4
    assert all(outcome.training_seconds > 0 for outcome in result.outcomes.values())


def test_an_object_and_an_arm_must_not_share_an_id() -> None:
    env = rlgd.envs.make("CartPole-v1", max_episode_steps=20)
    with pytest.raises(UsageError, match="every arm names an environment"):
        rlgd.study(A2C_SMALL, env, {"env": ["CartPole-v1"], "gamma": [0.9]}, seeds=1, total_timesteps=64)
    arms = (Arm("a", {"env": "CartPole-v1"}, {"gamma": [0.9]}), Arm("b", vary={"gamma": [0.9]}))
    with pytest.raises(UsageError, match="an arm names CartPole-v1, which is also the id"):
        rlgd.study(A2C_SMALL, env, arms=arms, seeds=1, total_timesteps=64)


def test_each_environment_keeps_what_arms_have_there() -> None:
    question = Question(
        (Arm("a", vary={"momentum": [0.0]}, envs={env: {"effective_step": n} for n, env in enumerate(ENVS, 1)}),)
    )
    varied = question.varied({"env": [*reversed(ENVS), "Pendulum-v1"]})
    assert [(arm.env, arm.effective_step) for arm in varied.arms] == [(ENVS[1], 2), (ENVS[0], 1), ("Pendulum-v1", 1)]


def test_axes_take_the_place_of_those_that_are_named() -> None:
    assert [arm.title for arm in Question((Arm(vary={"env": ENVS}),)).within("Pendulum-v1").arms] == ["Pendulum-v1"]
    (arm,) = Question((Arm(vary={"agent": ["ppo"]}),)).varied({"agent": AGENTS}).arms
    assert (arm.axes, len(arm)) == (("agent",), 2)


@pytest.mark.parametrize("values", [{"agent": [1, 2]}, {"env": [1]}, {"agent": [A2C_SMALL]}])
def test_names_are_text(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected a name"):
        Arm(vary=values)


def test_agents_of_one_name_are_not_one() -> None:
    own = type("PPO", (PPO,), {"__module__": __name__})
    globals()["PPO_OF_THIS_FILE"] = own
    question = Question((Arm(vary={"agent": ["ppo", f"{__name__}:PPO_OF_THIS_FILE"]}),), seeds=1)
    named(f"{__name__}:PPO_OF_THIS_FILE")
    assert len(make_plan(question).members) == 2


def test_settings_of_an_environment_that_is_none_are_refused() -> None:
    arm = Arm(vary={"gamma": [0.9]})
    with pytest.raises(UsageError, match="'CartPole', which is no environment"):
        make_plan(Question((arm,), envs={"CartPole": {"num_envs": 3}}))
    with pytest.raises(UsageError, match="names an agent or an environment within"):
        Question((arm,), envs={"CartPole-v1": {"agent": "a2c"}})


def test_a_file_that_names_a_module_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_study_module.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    contents = {
        "whole": 'env = "evil_study_module:CartPole-v1"\n[[arms]]\nvary = { gamma = [0.9] }\n',
        "arm": '[[arms]]\nvary = { gamma = [0.9] }\nsettings = { env = "evil_study_module:CartPole-v1" }\n',
        "axis": '[[arms]]\nvary = { gamma = [0.9], env = ["evil_study_module:CartPole-v1"] }\n',
        "agent": '[[arms]]\nvary = { agent = ["ppo", "evil_study_module:Mine"] }\n',
        "own": '[[arms]]\nvary = { gamma = [0.9] }\n[arms.envs]\n"evil_study_module:CartPole-v1" = { num_envs = 2 }\n',
        "settings": '[envs."evil_study_module:X"]\nnum_envs = 2\n[[arms]]\nvary = { gamma = [0.9] }\n',
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.toml").write_text(content)
        assert main.main(["study", str(tmp_path / f"{name}.toml"), "--dry-run"]) == 2, name
    unused = 'env = "evil_study_module:CartPole-v1"\n[[arms]]\nvary = { gamma = [0.9], env = ["CartPole-v1"] }\n'
    (tmp_path / "unused.toml").write_text(unused)
    assert main.main(["study", str(tmp_path / "unused.toml"), "--dry-run"]) == 0  # no arm needs it: nobody makes it
    assert "evil_study_module" not in sys.modules
