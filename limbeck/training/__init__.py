"""Trainings: their settings, their data, the run itself, what it gives back."""
