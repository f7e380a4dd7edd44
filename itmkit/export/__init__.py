"""A trained run as a folder of its own, to be kept, copied or published, with a card that describes it."""
