"""The tokenizer of a folder, as transformers finds it, and the files that it is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from costmodel.errors import InputError, ModelError
from validate.errors import reason_of

_COMMON = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
"""Files of most tokenizers; the others are known by their classes."""
_TEMPLATES = "additional_chat_templates"
"""The folder of chat templates beside the one that chat_template.jinja is."""


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer that transformers finds in a folder, whatever its files are called; None where there is none.

    Without files transformers makes one of special tokens alone, which reads no text: that is none.

    Raises:
        ModelError: when its files cannot be read.
    """
    import transformers

    load: Any = transformers.AutoTokenizer.from_pretrained
    try:
        tokenizer = load(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        if not any((folder / name).exists() for name in _COMMON):
            return None
        raise ModelError("cannot read tokenizer", value=str(folder), hint=reason_of(error)) from error
    words = set(tokenizer.get_vocab()) - set(tokenizer.get_added_vocab()) - set(tokenizer.all_special_tokens)
    return tokenizer if words else None


def require_tokenizer(tokenizer: Any, folder: str | Path) -> Any:
    """The tokenizer that was found in a folder.

    Raises:
        InputError: when there was none.
    """
    if tokenizer is None:
        raise InputError(
            "checkpoint without a tokenizer, and a text is read with one",
            value=str(folder),
            allowed="tokenizer.json or what else transformers reads",
            hint="AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER) puts that of another model there",
        )
    return tokenizer


def tokenizer_files(folder: Path) -> list[Path]:
    """Files of a folder that its tokenizer is made of; where it cannot be read, those of the names that most have."""
    try:
        tokenizer = read_tokenizer(folder)
    except ModelError:
        tokenizer = None
    own = [] if tokenizer is None else [str(name) for name in (tokenizer.vocab_files_names or {}).values()]
    files = [folder / name for name in dict.fromkeys([*_COMMON, *own]) if (folder / name).is_file()]
    return [*files, *sorted((folder / _TEMPLATES).glob("*.jinja"))]
