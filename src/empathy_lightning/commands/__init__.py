"""The command line's commands, one file per group."""

TRAINER_COMMANDS = ("fit", "validate", "test")
