"""BERT as a part of a matcher, as in published code that trained it with the rest."""

from __future__ import annotations

from torch import Tensor, nn

from itmkit.errors import ItmkitError
from itmkit.inputs.batch import Sizes

HEAD = 64  # numbers of a head, in every BERT that Google published
POSITIONS = 512
MOST_LAYERS = 48


class Bert(nn.Module):
    """Word pieces of `sizes.bert_width` numbers: the last layer of a BERT of this shape, which begins at random."""

    def __init__(self, sizes: Sizes) -> None:
        """Raises ItmkitError where `sizes` are those of caches alone, as in training, or of no BERT."""
        super().__init__()
        if not sizes.bert_layers:
            raise ItmkitError(
                "--words own-bert: its BERT comes with published weights, of which `itmkit import-checkpoint` makes a"
                " run; to train here, run `itmkit encode-text` and take --words bert"
            )
        width, layers = sizes.bert_width, sizes.bert_layers
        if width < HEAD or width % HEAD or layers > MOST_LAYERS or not sizes.bert_hidden:
            raise ItmkitError(
                f"a BERT of {layers} layers of {width} and {sizes.bert_hidden} numbers cannot be built: at most"
                f" {MOST_LAYERS} layers of a multiple of {HEAD} are needed"
            )
        from transformers import BertConfig, BertModel  # slow to load, and no other method needs it

        shape = BertConfig(
            vocab_size=sizes.vocabulary,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=width // HEAD,
            intermediate_size=sizes.bert_hidden,
            max_position_embeddings=POSITIONS,
        )
        self.model = BertModel(shape, add_pooling_layer=False)

    def forward(self, pieces: Tensor, mask: Tensor) -> Tensor:
        """pieces (Bt, L) int64, mask (Bt, L) bool, L at most `POSITIONS` -> (Bt, L, V)"""
        return self.model(input_ids=pieces, attention_mask=mask.long()).last_hidden_state  # type: ignore[no-any-return]
