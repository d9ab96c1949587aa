"""The speed of bare stepping beside peers', and how much of it training keeps: prints one Markdown table.

It asserts nothing. As in ``speed.py`` the two of a row take turns, each in a process of its own.
"""

import json
import sys

from speed import HERE, Setting, main, run, trained

ONE_THREAD = {"PJRT_NPROC": "1"}


def stepped(python: str, what: str, num_envs: int, variables: dict[str, str]) -> float:
    """The steps per second that a worker reports."""
    command = [python, str(HERE / "stepping_worker.py"), what, str(num_envs)]
    return float(json.loads(run(command, variables).splitlines()[-1])["steps_per_second"])


def device(peers: str) -> list[Setting]:
    """Random steps in one compiled loop."""

    def setting(num_envs: int, peer: str, name: str) -> Setting:
        return Setting(
            f"CartPole on the device, {num_envs:,} environments",
            name,
            "steps/s",
            lambda: stepped(sys.executable, "rlgd", num_envs, ONE_THREAD),
            lambda: stepped(peers, peer, num_envs, ONE_THREAD),
        )

    names = {peer: peer for peer in ("gymnax", "phys2d")}
    names |= {f"{peer}-ahead": f"{peer}, keys and actions drawn ahead" for peer in names}
    return [setting(num_envs, peer, name) for num_envs in (64, 2048) for peer, name in names.items()]


def minatar(peers: str) -> list[Setting]:
    """The games of MinAtar that gymnax has too, both as rlgd steps them."""

    def setting(game: str, num_envs: int) -> Setting:
        return Setting(
            f"{game} of MinAtar, {num_envs:,} environments",
            "gymnax's",
            "steps/s",
            lambda: stepped(sys.executable, f"minatar:{game}-v1", num_envs, ONE_THREAD),
            lambda: stepped(sys.executable, f"gymnax:{game}-MinAtar", num_envs, ONE_THREAD),
        )

    games = ("Asterix", "Breakout", "Freeway", "SpaceInvaders")
    return [setting(game, num_envs) for game in games for num_envs in (64, 2048)]


def vector(peers: str) -> list[Setting]:
    """Gymnasium's vector API over environments on the device, as a user without settings of his own has them."""
    return [
        Setting(
            "`make_vec`, CartPole, 64 environments",
            "phys2d/CartPole-v1",
            "steps/s",
            lambda: stepped(sys.executable, "rlgd.envs:rlgd/CartPole-v1", 64, {}),
            lambda: stepped(peers, "phys2d/CartPole-v1", 64, {}),
        )
    ]


def host(peers: str) -> list[Setting]:
    """PPO beside its environments alone, which take the share of the time that no training can save."""

    def setting(env: str) -> Setting:
        return Setting(
            f"PPO, {env} on the host, 8 environments",
            "the environments alone",
            "steps/s",
            lambda: trained(sys.executable, "rlgd", env, 8, "--backend", "host"),
            lambda: stepped(sys.executable, env, 8, {}),
        )

    return [setting(env) for env in ("CartPole-v1", "HalfCheetah-v5")]


if __name__ == "__main__":
    main({"device": device, "minatar": minatar, "vector": vector, "host": host}, __doc__)
