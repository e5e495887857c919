"""The page of `limbeck serve`: an image is shown, and every model classifies it."""
