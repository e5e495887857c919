"""A Program as one C99 file: its memory plan, its kernels, the text, and running it here."""
