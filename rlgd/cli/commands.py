"""The table of commands: the module and the function of each, which are imported when they are called."""

COMMANDS = {
    "train": ("rlgd.cli.train", "train"),
    "resume": ("rlgd.cli.resume", "resume"),
    "eval": ("rlgd.cli.episodes", "evaluate"),
    "play": ("rlgd.cli.episodes", "play"),
    "study": ("rlgd.cli.study", "study"),
    "tune": ("rlgd.cli.tune", "tune"),
    "reproduce": ("rlgd.cli.reproduce", "reproduce"),
    "verify-resume": ("rlgd.cli.verify_resume", "verify_resume"),
    "check-env": ("rlgd.cli.check_env", "check_env"),
    "list": ("rlgd.cli.catalog", "list_things"),
}
