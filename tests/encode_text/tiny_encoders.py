"""Builds tiny language models with random weights and tokenisers of several families, as folders for transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.built import built_once

ENCODERS = ("bert", "roberta", "distilbert", "xlm-roberta")
LIMIT = 16  # tokens of a window, special ones counted
TEXTS = [
    "a man rides a bicycle", "two dogs are running on the beach", "the red ball isn't here", "children playing soccer",
    "a woman's t-shirt", "riding, running, playing, walking", "naïve café", "photographs of unbelievable things",
]  # fmt: skip


@built_once
def build_encoder(kind: str, folder: Path, *, seed: int = 0, layers: int = 2) -> Path:
    """Saves an encoder of one of `ENCODERS` for windows of `LIMIT` tokens."""
    import transformers as t

    torch.manual_seed(seed)
    tokenizer = tokenizer_of(kind)
    tokenizer.save_pretrained(folder)
    shape: dict[str, Any] = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if kind == "distilbert":
        config = t.DistilBertConfig(
            **shape, dim=16, n_layers=layers, n_heads=2, hidden_dim=32, max_position_embeddings=LIMIT
        )
        model: Any = t.DistilBertModel(config)
    else:
        shape |= {"hidden_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 32}
        if kind == "bert":
            model = t.BertModel(t.BertConfig(**shape, max_position_embeddings=LIMIT))
        else:  # positions begin after that of the padding
            room = LIMIT + tokenizer.pad_token_id + 1
            family = (t.RobertaConfig, t.RobertaModel) if kind == "roberta" else (t.XLMRobertaConfig, t.XLMRobertaModel)
            model = family[1](family[0](**shape, max_position_embeddings=room))
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, 0, 0.3)
        elif "LayerNorm.weight" in name:
            torch.nn.init.normal_(weight, 1, 0.1)
    model.eval().save_pretrained(folder)
    return folder


def tokenizer_of(kind: str) -> Any:
    """WordPiece (bert, distilbert), byte pairs (roberta) or a unigram model (xlm-roberta), for TEXTS."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if kind in ("bert", "distilbert"):
        names = {"pad": "[PAD]", "bos": "[CLS]", "eos": "[SEP]", "unk": "[UNK]"}
        # Written out: the trainer of word pieces breaks ties otherwise in each process.
        letters = sorted(set(normalizers.BertNormalizer().normalize_str("".join(TEXTS))) - {" "})
        parts = ["man", "dog", "the", "play", "un", "is", "##ing", "##ed", "##believ", "##able"]
        pieces = [*letters, *(f"##{letter}" for letter in letters), *parts]
        vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*names.values(), *pieces]))}
        made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer()
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = None
    elif kind == "roberta":
        names = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "unk": "<unk>"}
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=330, special_tokens=list(names.values()), show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
    else:
        names = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "unk": "<unk>"}
        made = Tokenizer(models.Unigram())
        made.normalizer = normalizers.NFKC()
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=list(names.values()), unk_token="<unk>", show_progress=False
        )
    if trainer is not None:
        made.train_from_iterator(TEXTS * 4, trainer)
    numbers = [(names[key], made.token_to_id(names[key])) for key in ("bos", "eos")]
    if kind == "roberta":
        made.post_processor = processors.RobertaProcessing(
            numbers[1], numbers[0], trim_offsets=True, add_prefix_space=False
        )
    else:
        template = f"{names['bos']} $A {names['eos']}"
        made.post_processor = processors.TemplateProcessing(single=template, special_tokens=numbers)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=names["pad"], bos_token=names["bos"], eos_token=names["eos"],
        unk_token=names["unk"], model_max_length=LIMIT,
    )  # fmt: skip
