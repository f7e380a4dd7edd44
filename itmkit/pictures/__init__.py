"""Picture files: facts, decoding, pixels read ahead, and which had to be left out."""
