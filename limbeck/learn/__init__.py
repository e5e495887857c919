"""Learning: losses, objectives, the one training loop, evaluation."""
