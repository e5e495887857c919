"""Adaptation to unlabelled images: its data, its candidates, what it gives back."""
