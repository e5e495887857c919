"""One file a verb: each composes the folders below and returns a value."""
