"""Images: where they come from, how they are viewed, in which order."""
