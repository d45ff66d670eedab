"""A byte-level BPE tokenizer trained on the corpus, as a transformers tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"
MASKED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_tokenizer(texts: Sequence[str], vocab_size: int, *, masked: bool, length: int) -> Any:
    """Byte-level BPE: every text has tokens, and decoding them gives the text back.

    Args:
        texts: of the training part alone.
        vocab_size: with the 256 bytes and the special tokens.
        masked: with BERT's special tokens, put around a text when asked; otherwise with one that ends a text.
        length: the longest sequence that the model takes, in tokens.

    Returns:
        A transformers tokenizer; saved, it is read by AutoTokenizer.
    """
    special = list(MASKED) if masked else [END]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if masked:
        ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
        )
        names = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    else:
        names = dict(bos_token=END, eos_token=END, pad_token=END)
    wrap: Any = PreTrainedTokenizerFast
    return wrap(tokenizer_object=tokenizer, model_max_length=length, clean_up_tokenization_spaces=False, **names)


def stream(tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """All texts as one row of tokens, each ended by the token that ends texts: int64 (tokens,)."""
    end = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor([token for ids in encoded for token in [*ids, end]], dtype=torch.int64)


def token_bytes(tokenizer: Any) -> torch.Tensor:
    """Bytes of text that each token stands for, none for special ones: int64 (vocabulary,)."""
    special = set(tokenizer.all_special_ids)
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))  # one character a byte
    return torch.tensor([0 if index in special else len(piece) for index, piece in enumerate(pieces)])
