"""make plots: DVC's page, with its charts shown without a network."""

import pytest
import yaml

from stages.common.console import StageError
from tests.conftest import REPOSITORY, Clone
from tools.plots import PACKAGES, inline

SCRIPTS = {package: f"/* {package} */" for package in PACKAGES}


def test_the_page_loads_nothing_and_its_charts_follow_dvc_yaml(clone: Clone) -> None:
    clone.dvc("plots", "show")
    page = inline(clone.read("dvc_plots/index.html").decode(), SCRIPTS)
    assert '<script src="http' not in page
    assert all(page.count(script) == 1 for script in SCRIPTS.values())
    plots = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["plots"]
    titles = [chart["title"] for plot in plots if isinstance(plot, dict) for chart in plot.values()]
    places = [page.index(title) for title in titles]
    assert places == sorted(places)


def test_a_page_for_another_vega_is_refused() -> None:
    with pytest.raises(StageError, match=r"doesn't load vega@.*; see PACKAGES"):
        inline("<html></html>", SCRIPTS)


def test_without_a_network_it_says_so_and_leaves_the_page_of_dvc(clone: Clone) -> None:
    done = clone.run(
        *("python", "-m", "tools.plots"), check=False, npm_config_registry="http://127.0.0.1:9"
    )
    assert done.returncode == 1
    assert done.stdout.startswith("error: vega-5.20.2.tgz: not found at http://127.0.0.1:9")
    assert done.stdout.count("\n") == 1
    assert b"cdn.jsdelivr.net" in clone.read("dvc_plots/index.html")
