"""The synthetic world of the demo: its corpus, voices, spoken replies, figures and report."""
