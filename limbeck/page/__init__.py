"""Reports: what was found, as pictures and pages."""
