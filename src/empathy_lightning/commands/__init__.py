"""The command line's commands: typed functions, one file per group; light, they import what they need when they run."""

TRAINER_COMMANDS = ("fit", "validate", "test")
"""Those that have the trainer's own parser."""
