"""What ``rlgd.envs.check`` tries on an environment: alone, in vectors, in a worker process."""
