"""A factored checkpoint that is damaged, forged or of another model is refused, each in one line."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from checkpoints import (  # noqa: E402
    INDEX,
    MANIFEST,
    change_json,
    change_manifest,
    dense_folder,
    factored_folder,
    sign,
)
from safetensors.torch import load_file, save_file  # noqa: E402
from validating import LLAMA  # noqa: E402

from validate.hf import FactoredCheckpointError, check_factored, load_factored  # noqa: E402

ONE, TWO = "factored-00001-of-00002.safetensors", "factored-00002-of-00002.safetensors"
SITE = "model.layers.0.self_attn.q_proj.in.weight"
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two weight files: layer 0 as SVD, layer 1 dropped, layer 2 as Tucker in its MLP."""
    root = tmp_path_factory.mktemp("strict")
    dense = dense_folder(root / "dense", LLAMA)
    specs = ["layers=0 rank=7", "layers=2 tensors=mlp rank=9 form=tucker", "layers=1 form=drop"]
    factored_folder(dense, root / "out", specs, max_shard_bytes=100_000)
    assert sorted(path.name for path in (root / "out").glob("*.safetensors")) == [ONE, TWO]
    return root / "out"


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def refusal(folder: Path, **options: Any) -> str:
    """The one line that refuses a folder: of the loader, and of `from_pretrained` or of the check alone, the same."""
    with pytest.raises(FactoredCheckpointError) as caught:
        load_factored(folder, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{folder}: ")
    assert len(text) < 700
    if options:
        with pytest.raises(FactoredCheckpointError) as again:
            check_factored(folder, **options)
        assert str(again.value) == text
    else:
        refusal_of_transformers(folder, text)
    return text.removeprefix(f"{folder}: ")


def refusal_of_transformers(folder: Path, text: str) -> None:
    """`from_pretrained` gives the same line, unless transformers itself stumbles over config.json before it asks; of
    billions of labels it would make a name each, until the memory is full."""
    if "num_labels" in text:
        return
    with pytest.raises(Exception) as caught:
        transformers.AutoModelForCausalLM.from_pretrained(folder)
    if isinstance(caught.value, FactoredCheckpointError):
        assert str(caught.value) in (text, f"{folder}: the configuration given is not the folder's") or str(
            caught.value
        ).startswith("quantization_config of low_rank: ")
    else:
        assert "config.json" in text or "factored.json" in text


def test_the_whole_folder_is_accepted(folder: Path) -> None:
    assert len(check_factored(folder).tensors) == len(load_factored(folder).state_dict())
    sign(folder)  # changes nothing but the manifest's layout
    load_factored(folder)


def retensor(change: Callable[[dict[str, Any]], None], name: str = ONE) -> Change:
    """Write a weight file anew with other tensors; index, sizes and hashes follow."""

    def apply(folder: Path) -> None:
        tensors = load_file(folder / name)
        change(tensors)
        save_file(tensors, folder / name)
        weight_map = {key: each for each in (ONE, TWO) for key in load_file(folder / each)}
        index = json.loads((folder / INDEX).read_text())
        (folder / INDEX).write_text(json.dumps({**index, "weight_map": weight_map}))
        sign(folder)

    return apply


def header(change: Callable[[str], str]) -> Change:
    """Edit the text of a weight file's header."""

    def apply(folder: Path) -> None:
        content = (folder / ONE).read_bytes()
        length = struct.unpack("<Q", content[:8])[0]
        text = change(content[8 : 8 + length].decode().rstrip()).encode()
        text += b" " * (-len(text) % 8)
        (folder / ONE).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
        sign(folder)

    return apply


def raw(name: str, change: Callable[[bytes], bytes], *, signed: bool = True) -> Change:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))
        if signed:
            sign(folder)

    return apply


def manifest(change: Callable[[dict[str, Any]], object]) -> Change:
    return lambda folder: change_manifest(folder, change)  # type: ignore[arg-type]


def config(change: Callable[[dict[str, Any]], object]) -> Change:
    return lambda folder: change_json(folder, "config.json", change)  # type: ignore[arg-type]


def setting(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data.update(fields)


def site(index: int = 0, **fields: Any) -> Change:
    return manifest(lambda data: data["sites"][index].update(fields))


def flip(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


def twice(text: str) -> str:
    """One more entry for a tensor that the header has already, over the same bytes, which safetensors lets pass."""
    entry = json.dumps({SITE: json.loads(text)[SITE]})[1:-1]
    return f"{text[:-1]},{entry}}}"


TENSORS: dict[str, tuple[Change, str]] = {
    "missing tensor": (retensor(lambda held: held.pop(SITE)), f"missing tensor: got '{SITE}'"),
    "missing bias-like tensor": (retensor(lambda held: held.pop("model.norm.weight"), TWO), "missing tensor"),
    "extra tensor": (retensor(setting(more=torch.zeros(2))), f"{ONE}: extra tensor: got 'more'"),
    "dense beside its factors": (
        retensor(setting(**{"model.layers.0.self_attn.q_proj.weight": torch.zeros(64, 64)})),
        "extra tensor: got 'mod",
    ),
    "reshaped": (retensor(setting(**{SITE: torch.zeros(64, 7)})), f"shape of {SITE}: got [64, 7]; allowed: [7, 64]"),
    "rank one less": (retensor(setting(**{SITE: torch.zeros(6, 64)})), f"shape of {SITE}: got [6, 64]"),
    "other dtype": (
        retensor(setting(**{SITE: torch.zeros(7, 64).half()})),
        f"type of {SITE}: got 'F16'; allowed: F32",
    ),
    "tensor in two files": (
        lambda folder: (save_file({**load_file(folder / TWO), SITE: torch.zeros(7, 64)}, folder / TWO), sign(folder)),
        f"a tensor in both {ONE} and {TWO}: got '{SITE}'",
    ),
    "name twice in a header": (header(twice), f"{ONE}: not JSON (a key twice in one object)"),
    "header names no tensor": (header(lambda text: "[]"), f"{ONE}: not a JSON object"),
    "overlapping tensors": (
        header(lambda text: text.replace('"data_offsets":[', '"data_offsets":[0,', 1).replace(",,", ",")),
        "damaged",
    ),
    "header longer than the file": (raw(ONE, lambda content: struct.pack("<Q", 2**62) + content[8:]), "not JSON"),
    "not safetensors": (raw(ONE, lambda content: b"broken"), "not JSON"),
    "empty weight file": (raw(ONE, lambda content: b""), "not JSON"),
    "truncated and signed": (raw(ONE, lambda content: content[:-8]), "damaged; SafetensorError"),
    "bytes after the end, signed": (raw(ONE, lambda content: content + bytes(8)), "damaged; SafetensorError"),
}

FILES: dict[str, tuple[Change, str]] = {
    "truncated": (raw(TWO, lambda content: content[:-1], signed=False), f"{TWO}: size: got "),
    "one bit": (raw(TWO, flip, signed=False), f"{TWO}: SHA-256: got "),
    "edited": (raw("config.json", lambda content: content.replace(b"96", b"97"), signed=False), "config.json: SHA"),
    "hash of another file": (manifest(lambda data: data["files"][0].update(sha256="0" * 64)), "SHA-256: got "),
    "missing weight file": (lambda folder: (folder / ONE).unlink(), f"missing file: got '{ONE}'"),
    "missing config": (lambda folder: (folder / "config.json").unlink(), "missing file: got 'config.json'"),
    "missing manifest": (lambda folder: (folder / MANIFEST).unlink(), f"missing file: got '{MANIFEST}'"),
    "folder for a file": (
        lambda folder: ((folder / ONE).unlink(), (folder / ONE).mkdir()),
        f"missing file: got '{ONE}'",
    ),
    "pipe for a file": (
        lambda folder: ((folder / ONE).unlink(), os.mkfifo(folder / ONE)),
        f"missing file: got '{ONE}'",
    ),
    "stray weight file": (
        lambda folder: shutil.copy(folder / ONE, folder / "model.safetensors"),
        "files lacks a weight file of the folder: got 'model.safetensors'",
    ),
    "unlisted config": (
        manifest(lambda data: data.update(files=[each for each in data["files"] if each["name"] != "config.json"])),
        "files lacks config.json",
    ),
    "unlisted index": (
        manifest(lambda data: data.update(files=[each for each in data["files"] if each["name"] != INDEX])),
        f"files lacks {INDEX}",
    ),
    "no weight file": (manifest(setting(files=[])), "files lacks config.json"),
    "file twice": (manifest(lambda data: data["files"].append(data["files"][0])), "a file twice"),
    "index of other files": (
        lambda folder: change_json(folder, INDEX, lambda data: data["weight_map"].update({SITE: TWO})),
        "weight_map",
    ),
    "index lacks a tensor": (
        lambda folder: change_json(folder, INDEX, lambda data: data["weight_map"].pop(SITE)),
        "weight_map",
    ),
    "index leads outside": (
        lambda folder: change_json(folder, INDEX, lambda data: data["weight_map"].update({SITE: "../../etc/passwd"})),
        "weight_map",
    ),
    "index is no object": (raw(INDEX, lambda content: b"[1]"), f"{INDEX}: not a JSON object"),
    "index has a name twice": (
        raw(INDEX, lambda content: content.replace(b'"weight_map": {', f'"weight_map": {{"{SITE}": "x",'.encode())),
        "a key twice",
    ),
}

MANIFESTS: dict[str, tuple[Change, str]] = {
    "not JSON": (raw(MANIFEST, lambda content: content[:-3], signed=False), f"{MANIFEST}: not JSON"),
    "not UTF-8": (raw(MANIFEST, lambda content: b"\xff" + content, signed=False), f"{MANIFEST}: not JSON"),
    "not an object": (raw(MANIFEST, lambda content: b"[]", signed=False), f"{MANIFEST}: not a JSON object"),
    "nested deeply": (raw(MANIFEST, lambda content: b"[" * 10**6, signed=False), f"{MANIFEST}: not JSON"),
    "key twice": (
        raw(MANIFEST, lambda content: content.replace(b"{", b'{"schema": 1,', 1), signed=False),
        "a key twice",
    ),
    "NaN": (raw(MANIFEST, lambda content: content.replace(b'"schema": 2', b'"schema": NaN'), signed=False), "NaN"),
    "a number of many digits": (
        raw(MANIFEST, lambda content: content.replace(b'"schema": 2', b'"schema": ' + b"9" * 9999), signed=False),
        "not JSON",
    ),
    "later schema": (manifest(setting(schema=3)), f"{MANIFEST}: format and schema: got ['factored-checkpoint', 3]"),
    "earlier schema": (manifest(setting(schema=1)), "write an older folder anew"),
    "int8 without names": (manifest(setting(weight_dtype="int8")), "int8: got []; allowed: names of linears"),
    "int8 of no linear": (
        manifest(setting(weight_dtype="int8", int8=["mlp"])),
        f"{MANIFEST}: int8: got 'mlp'",
    ),
    "int8 of nothing stored so": (
        manifest(setting(weight_dtype="int8", int8=["mlp.up_proj"])),
        "missing tensor: got 'model.layers.0.mlp.up_proj.in.weight_scale'",
    ),
    "schema true": (manifest(setting(schema=True)), "format and schema"),
    "other format": (manifest(setting(format="pickle")), "format and schema"),
    "no schema": (manifest(lambda data: data.pop("schema")), "format and schema"),
    "unknown type": (manifest(setting(dtype="int8")), f"{MANIFEST}: dtype: got 'int8'; allowed: fp32, bf16, fp16"),
    "another type": (manifest(setting(dtype="bf16")), "got 'F32'; allowed: BF16"),
    **{
        f"{key} missing": (manifest(lambda data, key=key: data.pop(key)), f"{MANIFEST}: {key}: got None")
        for key in ("architecture", "layers", "dtype", "sites", "drop", "files")
    },
    **{
        f"{key} of another kind": (manifest(setting(**{key: 3})), f"{MANIFEST}: {key}: got 3; allowed: a JSON ")
        for key in ("architecture", "layers", "dtype", "sites", "drop", "files")
    },
    "unknown class": (manifest(setting(architecture="LlamaForNothing")), "architecture: got 'LlamaForNothing'"),
    "class of a model of models": (
        manifest(setting(architecture="LlavaForConditionalGeneration")),
        "architecture: got 'LlavaForConditionalGen",
    ),
    "other task": (
        manifest(setting(architecture="LlamaForTokenClassification")),
        "missing tensor: got 'score",
    ),
    "no model class": (manifest(setting(architecture="AutoTokenizer")), "architecture: got 'AutoTokenizer'"),
    "module of transformers": (manifest(setting(architecture="models")), "architecture: got 'models'"),
    "class of a like model": (
        manifest(setting(architecture="MistralForCausalLM")),
        "allowed: LlamaForCausalLM, Llama",
    ),
    "class of another model": (
        manifest(setting(architecture="GPT2LMHeadModel")),
        "architecture: got 'GPT2LMHead",
    ),
    "other head": (manifest(setting(architecture="LlamaForSequenceClassification")), "missing tensor: got 'score"),
    "no head": (manifest(setting(architecture="LlamaModel")), "config.json does not give a LlamaModel"),
    "no such list of layers": (manifest(setting(layers="model.stack")), "config.json does not give"),
    "a list of another thing": (manifest(setting(layers="model.norm")), "config.json does not give"),
    "file is no object": (manifest(lambda data: data["files"].append("x")), "files: name: got 'x'"),
    "size is a text": (manifest(lambda data: data["files"][0].update(bytes="1")), "files: bytes: got '1'"),
    "hash is a number": (manifest(lambda data: data["files"][0].update(sha256=1)), "files: sha256: got 1"),
    "site is no object": (manifest(lambda data: data["sites"].append(7)), "sites: layer: got 7"),
    "site without rank": (manifest(lambda data: data["sites"][0].pop("rank")), "sites: rank: got None"),
    "layer is true": (site(layer=True), "sites: layer: got True"),
    "layer out of range": (site(layer=3), "site: got 'model.layers.3.self_attn.q_proj'"),
    "negative layer": (site(layer=-1), "site: got 'model.layers.-1.self_attn.q_proj'"),
    "dropped layer": (site(layer=1), "site: got 'model.layers.1.self_attn.q_proj'"),
    "site twice": (manifest(lambda data: data["sites"].append(data["sites"][0])), "site: got 'model.layers.0"),
    "no such module": (site(module="self_attn.nothing"), "site: got 'model.layers.0.self_attn.nothing'"),
    "module without a weight": (site(module="self_attn"), "site: got 'model.layers.0.self_attn'"),
    "module is a norm": (site(module="input_layernorm"), "site: got 'model.layers.0.input_layernorm'"),
    "empty module": (site(module=""), "site: got 'model.layers.0.'"),
    "another linear": (site(module="self_attn.o_proj"), "site: got 'model.layers.0.self_attn.o_proj'"),
    "site left out": (manifest(lambda data: data["sites"].pop(0)), "missing tensor: got 'model.layers.0.self_attn.q"),
    "unknown form": (site(form="cp"), f"{MANIFEST}: site: got {{'layer': 0"),
    "svd as tucker": (site(form="tucker"), "missing tensor: got 'model.layers.0.self_attn.q_proj.core.weight'"),
    "rank 0": (site(rank=[0, 0]), "rank of model.layers.0.self_attn.q_proj: got [0, 0]; allowed: 1 to 64"),
    "negative rank": (site(rank=[-7, -7]), "rank of model.layers.0.self_attn.q_proj"),
    "rank above the weight's": (site(rank=[65, 65]), "rank of model.layers.0.self_attn.q_proj: got [65, 65]"),
    "huge rank": (site(rank=[10**12, 10**12]), "rank of model.layers.0.self_attn.q_proj"),
    "huge rank of tucker": (site(-1, rank=[9, 10**9]), "rank of model.layers.2.mlp.down_proj: got [9, 1000000000]"),
    "rank is a fraction": (site(rank=[7.0, 7.0]), "two whole numbers as rank"),
    "rank is true": (site(rank=[True, True]), "two whole numbers as rank"),
    "one rank": (site(rank=[7]), "two whole numbers as rank"),
    "two ranks of an svd": (site(rank=[7, 8]), "twice the same with svd"),
    "another rank": (site(rank=[8, 8]), "got [7, 64]; allowed: [8, 64]"),
    "drop out of range": (manifest(setting(drop=[3])), f"{MANIFEST}: drop: got [3]; allowed: different layers"),
    "negative drop": (manifest(setting(drop=[-1])), f"{MANIFEST}: drop: got [-1]"),
    "drop twice": (manifest(setting(drop=[1, 1])), f"{MANIFEST}: drop: got [1, 1]"),
    "drop a text": (manifest(setting(drop=["1"])), f"{MANIFEST}: drop: got ['1']"),
    "nothing dropped": (manifest(setting(drop=[])), "missing tensor: got 'model.layers.1."),
    "more dropped": (manifest(lambda data: data.update(drop=[1, 2], sites=data["sites"][:7])), "extra tensor"),
}

CONFIGS: dict[str, tuple[Change, str]] = {
    "more layers": (config(setting(num_hidden_layers=4)), "missing tensor: got 'model.layers.2"),
    "fewer layers": (config(setting(num_hidden_layers=2)), "site: got 'model.layers.2."),
    "a billion layers": (config(setting(num_hidden_layers=10**9)), "config.json: number of layers: got 1000000000"),
    "a billion layers by another name": (
        config(setting(model_type="gpt2", n_layer=10**9)),
        "number of layers: got 1000000000",
    ),
    "two billion labels": (config(setting(num_labels=2 * 10**9)), "config.json: num_labels: got 2000000000; allowed"),
    "labels a text": (config(setting(num_labels="2")), "config.json: num_labels: got '2'"),
    "a model that is no language model": (config(setting(model_type="timm_wrapper")), "model_type: got 'timm_wrapper'"),
    "a type that is no text": (config(setting(model_type=["llama"])), "model_type: got ['llama']"),
    "a model of models": (config(setting(model_type="llava")), "model_type: got 'llava'; allowed: a language model"),
    "layers missing": (config(lambda data: data.pop("num_hidden_layers")), "config.json: number of layers: got None"),
    "layers a text": (config(setting(num_hidden_layers="3")), "config.json: number of layers: got '3'"),
    "huge width": (config(setting(hidden_size=2**40)), f"shape of {SITE[:0]}"),
    "another width": (config(setting(hidden_size=128)), "shape of "),
    "another vocabulary": (config(setting(vocab_size=10**9)), "shape of model.embed_tokens.weight: got [128, 64]"),
    "another model": (config(setting(model_type="gpt2")), "got 'LlamaForCausalLM'; allowed: GPT2LMHeadModel"),
    "unknown model": (config(setting(model_type="nonesuch")), "config.json: model_type: got 'nonesuch'"),
    "no model type": (config(lambda data: data.pop("model_type")), "config.json: model_type: got None"),
    "biases": (config(setting(attention_bias=True)), "missing tensor: got 'model.layers.0.self_attn.q_proj.out.bias'"),
    "nonsense": (config(setting(num_attention_heads=0)), "config.json does not give a LlamaForCausalLM"),
    "not JSON": (raw("config.json", lambda content: b"{"), "config.json: not JSON"),
    "no entry of the quantizer": (
        config(lambda data: data.pop("quantization_config")),
        "config.json: quantization",
    ),
    "another rank in the entry": (
        config(lambda data: data["quantization_config"]["modules"]["0.self_attn.q_proj"].update(rank=[8, 8])),
        "config.json: quantization_config is not what factored.json says",
    ),
    "another method in the entry": (
        config(lambda data: data["quantization_config"].update(quant_method="gptq")),
        "config.json: quantization_config",
    ),
    "a key twice": (
        raw("config.json", lambda content: content.replace(b"{", b'{"hidden_size": 8,', 1)),
        "config.json: not JSON",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors(case: str, folder: Path) -> None:
    change, expected = TENSORS[case]
    change(folder)
    assert expected in refusal(folder)


@pytest.mark.parametrize("case", FILES)
def test_files(case: str, folder: Path) -> None:
    change, expected = FILES[case]
    change(folder)
    assert expected in refusal(folder)


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifests(case: str, folder: Path) -> None:
    change, expected = MANIFESTS[case]
    change(folder)
    assert expected in refusal(folder)


@pytest.mark.parametrize("case", CONFIGS)
def test_configurations(case: str, folder: Path) -> None:
    change, expected = CONFIGS[case]
    change(folder)
    assert expected in refusal(folder)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.safetensors",
        "/etc/passwd",
        "sub/file.safetensors",
        "..",
        ".",
        "",
        ".hidden",
        "a\0b",
        "a\\b",
        "a\nb",
        "x" * 300,
    ],
)
def test_names_of_files_that_lead_elsewhere(name: str, folder: Path) -> None:
    (folder.parent / "secret.safetensors").write_bytes((folder / ONE).read_bytes())
    change_manifest(folder, lambda data: data["files"][0].update(name=name))
    assert "a file outside the folder" in refusal(folder)


@pytest.mark.parametrize("name", [ONE, "config.json", MANIFEST, INDEX])
def test_links_that_lead_elsewhere(name: str, folder: Path) -> None:
    (folder / name).rename(folder.parent / "elsewhere")
    (folder / name).symlink_to("../elsewhere")
    assert f"a file outside the folder: got '{name}'" in refusal(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("nowhere")
    assert f"missing file: got '{name}'" in refusal(folder)
    (folder / name).unlink()
    (folder / name).symlink_to(name)  # to itself
    assert f"a file outside the folder: got '{name}'" in refusal(folder)


def test_a_linked_folder_and_links_inside_it_are_fine(folder: Path) -> None:
    (folder / ONE).rename(folder / "blob")
    (folder / ONE).symlink_to("blob")
    (folder.parent / "link").symlink_to(folder)
    load_factored(folder.parent / "link")


def test_settings_of_generation_are_checked_with_the_rest(folder: Path) -> None:
    """Before weights are read: `check_factored` refuses them too."""
    for settings, reason in (({"max_new_tokens": 0}, "ValueError: "), ({"watermarking_config": 3}, "Attribute")):
        change_json(folder, "generation_config.json", lambda data, new=settings: data.update(new))  # type: ignore[misc]
        assert f"generation_config.json: {reason}" in refusal(folder)
        change_json(folder, "generation_config.json", lambda data: data.clear())
    load_factored(folder)


def test_a_huge_rank_takes_no_memory(folder: Path) -> None:
    load_factored(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for rank in (10**8, 10**12, 2**62):
        change_manifest(folder, lambda data, rank=rank: data["sites"][0].update(rank=[rank, rank]))  # type: ignore[misc]
        assert "rank of" in refusal(folder)
    for key in ("num_labels", "num_hidden_layers"):
        before_change = (folder / "config.json").read_text()
        change_json(folder, "config.json", lambda data, key=key: data.update({key: 2**31}))  # type: ignore[misc]
        assert "config.json: num" in refusal(folder)
        (folder / "config.json").write_text(before_change)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_without_verifying_hashes_sizes_and_shapes_are_still_checked(folder: Path) -> None:
    raw(TWO, flip, signed=False)(folder)
    load_factored(folder, verify=False)
    assert "SHA-256" in refusal(folder)
    raw(TWO, lambda content: content[:-1], signed=False)(folder)
    assert "size" in refusal(folder, verify=False)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    assert f"missing file: got '{MANIFEST}'" in refusal(tmp_path)
    assert f"missing file: got '{MANIFEST}'" in refusal(tmp_path / "nowhere")


def test_nothing_of_the_folder_is_run(folder: Path) -> None:
    mark = folder.parent / "ran"
    (folder / "modeling_own.py").write_text(f"open({str(mark)!r}, 'w')\n")
    own = {"AutoModelForCausalLM": "modeling_own.Own", "AutoConfig": "modeling_own.Config"}
    change_json(folder, "config.json", setting(auto_map=own))
    load_factored(folder)
    transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert not mark.exists()
