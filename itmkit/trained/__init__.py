"""A trained matcher in use: new pictures and new captions, scored as training would have read them."""

from itmkit.trained.matcher import EncodedImages, EncodedTexts, Matcher, open_matcher

__all__ = ["EncodedImages", "EncodedTexts", "Matcher", "open_matcher"]
