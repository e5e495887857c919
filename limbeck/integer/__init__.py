"""Integer networks: formats, the golden model, lowering from a trained net."""
