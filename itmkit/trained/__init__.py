"""A trained matcher in use: new pictures and new captions, scored as training would have read them."""

from itmkit.trained.encoded import EncodedImages, EncodedTexts
from itmkit.trained.explain import Explanation
from itmkit.trained.matcher import Matcher, open_matcher

__all__ = ["EncodedImages", "EncodedTexts", "Explanation", "Matcher", "open_matcher"]
