"""From released checkpoints to our folders, key by key."""
