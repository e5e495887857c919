"""A trained classifier becomes a Program, a file for other runtimes, a Design; each beside what it was made from."""
