"""The accelerator: plan, emit, simulate, synthesise, drive. Numpy and the standard library only."""
