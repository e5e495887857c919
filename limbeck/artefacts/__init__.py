"""What lies at a path, and how each kind of it is read, measured and described."""
