"""Search: the encoded images of a collection on disk, candidates from one vector an image, the matcher for the rest."""
