"""The server's endpoints, as gradio_client and curl see them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from ideogram_q8.png import read_metadata
from tests.ui.conftest import ROOT, Server

CAPTION = "a yellow star on a blue background"
WAIT = 300


@pytest.fixture(scope="module")
def client(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    client = Client(server.address, download_files=str(tmp_path_factory.mktemp("downloads")), verbose=False)
    yield client
    client.close()


def generate(client: Client, **changes: object) -> Any:
    arguments = {"variant": "int8", "caption": CAPTION, "preset": "turbo-12", "width": 64, "height": 64, "seed": 5}
    return client.submit(**(arguments | changes), api_name="/generate")


def status_of(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=WAIT) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_health(server: Server) -> None:
    with urllib.request.urlopen(server.address + "healthz", timeout=WAIT) as answer:
        assert json.load(answer)["status"] == "ok"


def test_the_endpoints_have_names(client: Client) -> None:
    names = set(client.view_api(return_format="dict", print_info=False)["named_endpoints"])
    assert names == {"/generate", "/cancel_generate", "/compare", "/cancel_compare", "/roll_seed", "/variants"}


def test_variants_are_listed(client: Client) -> None:
    listed = client.predict(api_name="/variants")
    assert [v["name"] for v in listed] == ["fp8", "int8", "q8_0", "q4_k"]
    assert listed[0]["built"] and all(v["size_bytes"] > 1_000_000 for v in listed)


def test_a_generated_file_carries_its_metadata(client: Client, server: Server) -> None:
    path, status, metadata = generate(client).result(WAIT)
    with Image.open(path) as image:
        assert image.format == "PNG" and image.size == (64, 64)
    assert read_metadata(Path(path)) == metadata
    assert metadata["variant"] == "int8" and metadata["seed"] == 5 and CAPTION in metadata["caption"]
    assert "Painted with INT8" in status
    assert read_metadata(server.outputs / Path(path).name) == metadata
    assert [path.name for path in server.cache.glob("*/*/*/int8/manifest.json")] == ["manifest.json"]


def test_a_variant_compared_with_itself_is_identical(client: Client) -> None:
    arguments = {"a": "int8", "b": "int8", "caption": CAPTION, "preset": "turbo-12", "width": 64, "height": 64, "seed": 6}
    pictures, *_, numbers = client.submit(**arguments, api_name="/compare").result(WAIT)
    assert all(Path(picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert numbers["identical"] and numbers["psnr_db"] is None and numbers["ssim"] == pytest.approx(1)
    assert not numbers["a"]["reused"] and numbers["b"]["reused"]
    assert numbers["a"]["seconds_per_step"] > 0 and numbers["a"]["peak_bytes"] > 1_000_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 100}, "use 96"),
        ({"caption": '{"broken": <b>'}, "caption is not valid JSON"),
        ({"caption": " "}, "caption"),
        ({"variant": "fp4"}, "fp4"),
        ({"seed": -1}, "-1|0"),
    ],
)
def test_bad_input_is_answered_with_a_message(client: Client, changes: dict[str, object], message: str) -> None:
    with pytest.raises(AppError, match=message) as caught:
        generate(client, **changes).result(WAIT)
    assert "<b>" not in str(caught.value)


def test_a_client_cancels_its_own_picture(client: Client, server: Server) -> None:
    before = set(server.outputs.iterdir())
    job = generate(client, preset="quality-48", width=256, height=256)
    for update in job:
        if "step 1 of 48" in str(update[1]):
            break
    client.predict(api_name="/cancel_generate")
    assert "Cancelled at step" in job.result(WAIT)[1]
    assert set(server.outputs.iterdir()) == before


def test_only_outputs_are_served(server: Server) -> None:
    (picture, *_) = server.outputs.glob("*.png")
    assert status_of(f"{server.address}gradio_api/file={picture}") == 200
    for path in ("/etc/passwd", ROOT / "app.py", ROOT / "ideogram_q8/pocket/weights/traits.json"):
        assert status_of(f"{server.address}gradio_api/file={path}") in (403, 404)
