"""The files that users copy from: the example configuration, the README and the operating page."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
import typer
from google.protobuf import descriptor_pb2
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from lhd.cli import app
from lhd.config import Configuration
from lhd.sources.registry import Registry
from lhd.toml_document import Location, dotted, key_lines
from tests.e2e.certificates import Authority

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "config.example.toml"
TEXT = EXAMPLE.read_text()
DATA = tomllib.loads(TEXT)
ONE_OF = {"key", "wf_run", "credential", "file", "env", "jwks_url", "jwks_file", "body", "token"}
"""Keys of which exactly one is needed, so that the file must write one where the model has no default."""


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a key's value may have."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return models_in(get_args(annotation)[0])
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def fitting(models: list[type[BaseModel]], table: dict[str, Any]) -> type[BaseModel]:
    """Of several models the one whose ``scheme`` the table names."""
    if len(models) == 1:
        return models[0]
    (model,) = [one for one in models if get_args(one.model_fields["scheme"].annotation) == (table["scheme"],)]
    return model


def written(model: type[BaseModel], table: dict[str, Any], place: Location = ()) -> Iterator[tuple[Any, str, Location]]:
    """Every key that the file writes: the model it belongs to, its name and its place."""
    for key, value in table.items():
        yield model, key, (*place, key)
        models = models_in(model.model_fields[key].annotation)
        for index, inner in enumerate(value if isinstance(value, list) else [value]):
            if models and isinstance(inner, dict):
                here = (*place, key, index) if isinstance(value, list) else (*place, key)
                yield from written(fitting(models, inner), inner, here)


def everything() -> list[tuple[type[BaseModel], str, Location]]:
    kinds = Registry.load().kinds
    found = list(written(Configuration, {key: value for key, value in DATA.items() if key != "sources"}))
    found.append((Configuration, "sources", ("sources",)))
    for name, table in DATA["sources"].items():
        found += written(kinds[table["kind"]].config_class(), table, ("sources", name))
    return found


def all_models() -> set[type[BaseModel]]:
    reached: set[type[BaseModel]] = set()
    waiting: list[type[BaseModel]] = [Configuration, *(kind.config_class() for kind in Registry.load().kinds.values())]
    while waiting:
        model = waiting.pop()
        if model not in reached:
            reached.add(model)
            waiting += [one for info in model.model_fields.values() for one in models_in(info.annotation)]
    return reached


def value_at(place: Location) -> Any:
    value: Any = DATA
    for part in place:
        value = value[part]
    return value


def environment() -> dict[str, str]:
    """A secret for each variable that the file names; one that every scheme takes."""
    return dict.fromkeys(re.findall(r'env = "(\w+)"', TEXT), "whsec_" + "QUJD" * 8)


@pytest.fixture
def usable(tmp_path: Path) -> Path:
    """The example with certificates that exist."""
    authority = Authority()
    pair = authority.issue("lhd")
    files = {"cert": pair.certificate, "key": pair.key, "clients": authority.certificate}
    for name, content in files.items():
        (tmp_path / f"{name}.pem").write_bytes(content)
    entry = descriptor_pb2.FileDescriptorProto(name="audit.proto", package="audit")
    entry.message_type.add(name="Entry")
    (tmp_path / "audit.desc").write_bytes(descriptor_pb2.FileDescriptorSet(file=[entry]).SerializeToString())
    example = tmp_path / "example.toml"
    example.write_text(TEXT.replace("/etc/lhd/tls", str(tmp_path)))
    return example


def test_the_example_can_be_loaded(monkeypatch: pytest.MonkeyPatch, usable: Path) -> None:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    registry = Registry.load()
    _, sources = registry.load_configuration(usable)
    assert registry.broken == []
    assert {source.name for source in sources} == set(DATA["sources"])


def name_of(model: type[BaseModel]) -> str:
    return model.__name__


MODELS = sorted(all_models(), key=name_of)


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_the_example_holds_every_key_of_every_table(model: type[BaseModel]) -> None:
    keys = {key for owner, key, _ in everything() if owner is model}
    keys |= {key for key in ONE_OF if f"{{ {key} = " in TEXT}
    assert set(model.model_fields) - keys == set()


def test_the_example_shows_every_kind_that_comes_with_lhd() -> None:
    assert {table["kind"] for table in DATA["sources"].values()} == set(Registry.load().kinds)


def test_every_value_is_the_default_unless_the_file_says_example() -> None:
    lines, differing = TEXT.splitlines(), []
    numbers = key_lines(TEXT)
    for model, key, place in everything():
        default = model.model_fields[key].get_default(call_default_factory=True)
        value = value_at(place)
        if (
            default is PydanticUndefined
            or key in ONE_OF
            or isinstance(value, dict)
            or models_in(model.model_fields[key].annotation)
        ):
            continue
        known = place
        while known not in numbers:
            known = known[:-1]
        comment = lines[numbers[known] - 1].partition("#")[2]
        if lines[numbers[known]].startswith(" "):
            comment += lines[numbers[known]]
        same = list(default) == value if isinstance(default, tuple) else default == value
        if not same and not re.search("example|default:", comment):
            differing.append(f"line {numbers[known]}: {dotted(place)} = {value!r}, default {default!r}")
    assert differing == []


def test_every_default_that_is_written_says_so_by_not_saying_example() -> None:
    assert "default" in TEXT.splitlines()[0]


def lhd(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "lhd", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "", **environment},
    )


def test_the_readmes_configuration_passes_lhd_check(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        config = tmp_path / f"{number}.toml"
        config.write_text(block)
        result = lhd("check", "-c", str(config), GITHUB_WEBHOOK_SECRET="s3cret")
        assert result.returncode == 0, result.stderr


def test_the_example_passes_lhd_check(usable: Path) -> None:
    result = lhd("check", "-c", str(usable), **environment())
    assert result.returncode == 0, result.stderr


PAGES = ["README.md", "docs/operating.md", "docs/kafka.md", "docs/filedrop.md", "config.example.toml"]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_mentions_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    code = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL) + re.findall(r"`(lhd [^`\n]*)`", text))
    mentioned = set(re.findall(r"(?:^|/|&& |`)lhd ([a-z][a-z-]*)", code, re.MULTILINE))
    known = set(typer.main.get_group(app).commands)
    assert mentioned - known == set()


def test_the_readme_mentions_commands() -> None:
    assert "lhd check" in (ROOT / "README.md").read_text()
