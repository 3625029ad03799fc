"""Plugins of installed distributions: a broken one is named with its distribution and cause, and the others work."""

import sys
from pathlib import Path

import pytest

from lhd.errors import ConfigurationError
from lhd.sources.registry import Registry

GOOD = """
from lhd.plugin import Source, SourceConfig, hookimpl

class {name}Config(SourceConfig):
    size: int = 1

class {name}(Source[{name}Config]):
    kind = "{kind}"

    async def run(self, context):
        pass

@hookimpl
def lhd_sources():
    return [{name}]
"""


class Site:
    """A folder of distributions as an installer leaves them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, name: str, code: str, entry_point: str = "") -> None:
        """A distribution of one module; its entry point is the module unless given."""
        module = f"plugin_of_{name}"
        (self.folder / f"{module}.py").write_text(code)
        metadata = self.folder / f"{name}-1.5.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        (metadata / "entry_points.txt").write_text(f"[lhd]\n{name}-entry = {entry_point or module}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("plugin_of_")]:
        monkeypatch.delitem(sys.modules, name)
    return Site(tmp_path)


def good(kind: str, name: str = "Good") -> str:
    return GOOD.format(kind=kind, name=name)


BROKEN = [
    pytest.param("import no_such_module", "", "no_such_module", id="import error"),
    pytest.param("def broken(:", "", "SyntaxError", id="syntax error"),
    pytest.param("raise RuntimeError('out of order')", "", "out of order", id="error at import"),
    pytest.param("import sys; sys.exit('bye')", "", "bye", id="exit at import"),
    pytest.param("x = 1", "plugin_of_broken:missing", "missing", id="no such attribute"),
    pytest.param("x = 1", "no_such_package", "no_such_package", id="no such module"),
    pytest.param("x = 1", "", "lhd_sources", id="no hook at all"),
    pytest.param(good("good").replace('kind = "good"', 'kind = "good"\n    api = 2'), "", "API 2", id="another API"),
    pytest.param(good("good").replace("def lhd_sources", "def lhd_sourcez"), "", "lhd_sourcez", id="unknown hook"),
    pytest.param(good("good").replace("return [Good]", "raise KeyError('boom')"), "", "boom", id="error in the hook"),
    pytest.param(good("good").replace("return [Good]", "return [object]"), "", "TypeError|Attribute", id="no source"),
    pytest.param(good("good").replace("return [Good]", "return 5"), "", "TypeError", id="no list"),
    pytest.param(good("good").replace('kind = "good"', ""), "", "kind", id="no kind"),
    pytest.param(good("good").replace("Source[GoodConfig]", "Source"), "", "configuration", id="no configuration"),
]


@pytest.mark.parametrize(("code", "entry_point", "cause"), BROKEN)
def test_a_broken_plugin_is_named_with_its_distribution_and_cause_and_the_others_work(
    site: Site, code: str, entry_point: str, cause: str
) -> None:
    site.install("broken", code, entry_point)
    site.install("alpha", good("alpha"))
    site.install("zulu", good("zulu"))
    registry = Registry.load()
    assert {"alpha", "zulu", "webhook"} <= set(registry.kinds)
    (told,) = registry.broken
    assert "broken 1.5" in told
    assert "broken-entry" in told
    assert any(one in told for one in cause.split("|")), told


def test_a_kind_that_two_plugins_provide_is_refused_naming_both(site: Site) -> None:
    site.install("alpha", good("same"))
    site.install("zulu", good("same", "Other"))
    (told,) = Registry.load().broken
    assert "'same'" in told
    assert "alpha 1.5" in told
    assert "zulu 1.5" in told


def test_a_kind_that_comes_with_lhd_cannot_be_taken_over(site: Site) -> None:
    site.install("aaa", good("webhook"))
    registry = Registry.load()
    (told,) = registry.broken
    assert "'webhook'" in told
    assert "aaa 1.5" in told
    assert "lhd" in told.replace("aaa 1.5", "")


def test_a_kind_of_an_installed_plugin_can_be_configured(site: Site, tmp_path: Path) -> None:
    site.install("alpha", good("alpha"))
    config = tmp_path / "lhd.toml"
    config.write_text('[sources.one]\nkind = "alpha"\nsize = 3\n')
    _, (source,) = Registry.load().load_configuration(config)
    assert (source.name, source.config.kind) == ("one", "alpha")
    config.write_text('[sources.one]\nkind = "alpha"\nsise = 3\n')
    with pytest.raises(ConfigurationError, match=r"lhd\.toml:3: sources\.one\.sise: .*'size'"):
        Registry.load().load_configuration(config)


def test_an_unknown_kind_is_told_with_the_nearest_one_and_with_what_is_broken(site: Site, tmp_path: Path) -> None:
    site.install("broken", "import no_such_module")
    site.install("ticker", good("ticker"))
    config = tmp_path / "lhd.toml"
    config.write_text('[sources.one]\nkind = "tiker"\n')
    with pytest.raises(ConfigurationError) as refused:
        Registry.load().load_configuration(config)
    (told,) = refused.value.findings
    assert "'ticker'" in told
    assert "broken 1.5" in told


@pytest.mark.parametrize("place", ["prepare", "__init__"])
def test_a_plugin_that_fails_while_it_is_configured_is_a_finding_of_its_table(
    site: Site, tmp_path: Path, place: str
) -> None:
    method = {"prepare": "def prepare(self):", "__init__": "def __init__(self, config):"}[place]
    code = good("fails").replace(
        "    async def run", f"    {method}\n        raise ZeroDivisionError\n\n    async def run"
    )
    site.install("fails", code)
    config = tmp_path / "lhd.toml"
    config.write_text('\n[sources.one]\nkind = "fails"\n\n[sources.two]\nkind = "nothing"\n')
    with pytest.raises(ConfigurationError) as refused:
        Registry.load().load_configuration(config)
    first, second = refused.value.findings
    assert "lhd.toml:2: sources.one" in first
    assert "ZeroDivisionError" in first
    assert "sources.two.kind" in second
