"""Networks as plain modules: torch and transformers are all they need."""
