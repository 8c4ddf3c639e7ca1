"""The server's endpoints, as gradio_client and curl see them."""

from __future__ import annotations

import importlib.util
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import Status
from PIL import Image

from ideogram_q8.formats.png import read_metadata
from tests.ui.conftest import ROOT, Server, serving
from tests.ui.load import Client as Visitor
from tests.ui.load import alive, load

pytestmark = pytest.mark.slow

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
    assert names == {
        "/generate", "/cancel_generate", "/compare", "/cancel_compare", "/blind", "/cancel_blind", "/vote", "/votes", "/standings",
        "/roll_seed", "/variants", "/machine", "/clean", "/expand_caption", "/cancel_expand", "/lint_caption",
        "/history", "/favourite", "/delete_picture", "/undo_delete", "/restore",
    }  # fmt: skip


def test_expanding_says_what_it_lacks(client: Client) -> None:
    with pytest.raises(AppError, match="the checkpoint has no prompt_enhancer_head"):
        client.predict("a red star", 64, 64, 3, api_name="/expand_caption")


def test_a_caption_is_linted_and_mended(client: Client) -> None:
    found = client.predict(
        '{"compositional_deconstruction":{"elements":[{"desc":"x","bbox":[900,0,100,50]}]}}', api_name="/lint_caption"
    )
    assert found["mended"] and json.loads(found["caption"])["compositional_deconstruction"]["elements"][0]["bbox"] == [
        100,
        0,
        900,
        50,
    ]
    sound = client.predict("a red house", api_name="/lint_caption")
    assert sound["mended"] == [] and sound["issues"] == []
    with pytest.raises(AppError, match="caption"):
        client.predict('{"broken": ', api_name="/lint_caption")


def test_faults_that_are_left_are_plain_data(client: Client) -> None:
    """gradio_client takes an object with a key `path` for a file, and fetches it."""
    text = '{"compositional_deconstruction":{"background":"","elements":[{"type":"obj","bbox":[0,0,1024,512],"desc":"x"}]}}'
    found = client.predict(text, api_name="/lint_caption")
    (issue,) = found["issues"]
    assert issue["place"] == "compositional_deconstruction.elements[0].bbox" and issue["severity"] == "error"
    assert found["verdict"] == "refused" and json.loads(found["caption"]) == json.loads(text)
    mended = client.predict(text, "1024x2048", api_name="/lint_caption")
    assert "[0,0,500,500]" in mended["caption"] and mended["issues"] == [] and mended["verdict"] == "mended"
    assert client.predict(f"```json\n{mended['caption']}\n```", api_name="/lint_caption")["caption"] == mended["caption"]


def keys(value: object) -> set[str]:
    """Of all objects within a value."""
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list | tuple) else set()


def test_answers_hold_nothing_that_is_taken_for_a_file(client: Client) -> None:
    for name in ("/variants", "/machine", "/votes", "/standings", "/history"):
        assert "path" not in keys(client.predict(api_name=name)), name


def test_messages_are_plain_text(client: Client) -> None:
    with pytest.raises(AppError) as told:
        generate(client, variant="it's & that").result(WAIT)
    assert "it's & that" in str(told.value) and "&#x27;" not in str(told.value)


def test_a_session_has_its_history_and_no_other(client: Client, server: Server) -> None:
    own, other = (Client(server.address, verbose=False) for _ in range(2))
    picture, *_ = generate(own, preset="custom", steps=2, seed=77).result(WAIT)
    (entry,) = own.predict("red 77" if "red" in CAPTION else "77", False, -1, api_name="/history")
    assert (entry["seed"], entry["variant"], entry["favourite"]) == (77, "int8", False)
    assert other.predict(api_name="/history") == []
    for action in ("/favourite", "/delete_picture"):
        with pytest.raises(AppError, match="there is no picture"):
            other.predict(entry["id"], *([True] if action == "/favourite" else []), api_name=action)
    own.predict(entry["id"], True, api_name="/favourite")
    assert [each["id"] for each in own.predict(favourites=True, api_name="/history")] == [entry["id"]]
    assert own.predict(handle_file(picture), api_name="/restore")[4] == "77"
    own.predict(entry["id"], api_name="/delete_picture")
    assert own.predict(api_name="/history") == [] and not (server.outputs / entry["file"]).exists()
    assert own.predict(api_name="/undo_delete") == entry["id"]
    with pytest.raises(AppError, match="nothing of yours was deleted"):
        own.predict(api_name="/undo_delete")
    assert own.predict("pictures", api_name="/clean")["pictures"]["files"] == 0
    assert not (server.outputs / entry["file"]).exists()
    with pytest.raises(AppError, match="nothing is kept"):
        own.predict("../outputs", api_name="/clean")


def test_variants_are_listed(client: Client) -> None:
    listed = client.predict(api_name="/variants")
    assert [v["name"] for v in listed] == ["fp8", "int8", "q8_0", "q4_k_s"]
    assert listed[0]["built"] and all(v["size_bytes"] > 1_000_000 for v in listed)


def test_a_generated_file_carries_its_metadata(client: Client, server: Server) -> None:
    path, status, metadata, _ = generate(client).result(WAIT)
    with Image.open(path) as image:
        assert image.format == "PNG" and image.size == (64, 64)
    assert read_metadata(Path(path)) == metadata
    assert metadata["variant"] == "int8" and metadata["seed"] == 5 and CAPTION in metadata["caption"]
    assert "Painted with INT8" in status
    assert read_metadata(server.outputs / Path(path).name) == metadata
    assert [path.name for path in server.cache.glob("*/*/*/int8/manifest.json")] == ["manifest.json"]


def compare(client: Client, **changes: object) -> Any:
    arguments = {
        "variants": ["int8", "q8_0"],
        "caption": CAPTION,
        "preset": "custom",
        "width": 64,
        "height": 64,
        "seed": 6,
        "steps": 3,
    }
    return client.submit(**(arguments | changes), api_name="/compare").result(WAIT)


def test_variants_are_compared_on_several_seeds(client: Client) -> None:
    numbers = compare(client, seeds=2)[-1]
    assert numbers["reference"] == "int8" and list(numbers["variants"]) == ["int8", "q8_0"]
    first, second = (numbers["variants"][name]["pictures"] for name in ("int8", "q8_0"))
    assert [picture["seed"] for picture in first] == [picture["seed"] for picture in second] == [6, 7]
    assert all(picture["seconds_per_step"] > 0 and picture["peak_bytes"] > 1_000_000 for picture in [*first, *second])
    assert all("psnr_db" not in picture for picture in first)
    assert all(20 < picture["psnr_db"] < 100 and 0.5 < picture["ssim"] < 1 for picture in second)
    again = compare(client, seeds=2)[-1]["variants"]
    assert all(picture["reused"] for variant in again.values() for picture in variant["pictures"])


@pytest.mark.parametrize("seed", [2**31, 2**53 + 1, 2**63 - 1])
def test_the_largest_seeds_come_back_from_the_file_as_they_were(client: Client, seed: int) -> None:
    """As a number and as text: endpoints carry text, which no browser rounds."""
    path, status, metadata, _ = generate(client, preset="custom", steps=2, seed=seed).result(WAIT)
    assert read_metadata(Path(path))["seed"] == seed and f">{seed}<" in status and int(metadata["seed"]) == seed
    restored = client.predict(handle_file(path), api_name="/restore")[4]
    assert restored == str(seed)
    again, *_ = generate(client, preset="custom", steps=2, seed=restored).result(WAIT)
    assert read_metadata(Path(again))["seed"] == seed


def test_a_rolled_seed_can_be_painted(client: Client) -> None:
    assert 0 <= int(client.predict(api_name="/roll_seed")) < 2**63


def test_a_custom_preset_is_in_the_metadata(client: Client) -> None:
    *_, metadata, _ = generate(client, preset="custom", steps=4, guidance=2.5).result(WAIT)
    assert metadata["preset"] == "custom-4-g2.5"


def test_a_batch_has_consecutive_seeds(client: Client) -> None:
    *_, strip = generate(client, preset="custom", steps=2, count=3, seed=20).result(WAIT)
    assert [item["caption"] for item in strip] == ["seed 20", "seed 21", "seed 22"]


def test_a_blind_round_tells_nothing_before_the_vote_and_counts_once(client: Client) -> None:
    arguments = {
        "variants": ["int8", "q8_0"],
        "caption": CAPTION,
        "preset": "custom",
        "width": 64,
        "height": 64,
        "seed": 8,
        "steps": 3,
    }
    job = client.submit(**arguments, api_name="/blind")
    shown, status, token = job.result(WAIT)[:3]
    seen = json.dumps([job.outputs(), shown, status])
    assert not any(name in seen for name in ("int8", "q8_0", "INT8", "Q8_0"))
    sides = client.predict(token, "left", api_name="/vote")
    assert sorted(sides.values()) == ["int8", "q8_0"]
    with pytest.raises(AppError, match="over"):
        client.predict(token, "left", api_name="/vote")
    vote = client.predict(api_name="/votes")[-1]  # other tests vote on this server too
    assert (vote["left"], vote["right"], vote["choice"]) == (sides["left"], sides["right"], "left")
    assert client.predict(api_name="/standings")[0]["variant"] == sides["left"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 100}, "use 96"),
        ({"caption": '{"broken": <b>'}, "caption is not valid JSON"),
        ({"caption": " "}, "caption"),
        ({"variant": "fp4"}, "fp4"),
        ({"seed": -1}, "-1|0"),
        ({"preset": "custom", "steps": 1000}, "1000|200"),
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


def test_a_client_cancels_a_picture_that_waits(client: Client, server: Server) -> None:
    """Behind another client's, which goes on."""
    other = Client(server.address, verbose=False)
    first = generate(other, preset="quality-48", width=256, height=256)
    for update in first:
        if "step 1 of 48" in str(update[1]):
            break
    before = set(server.outputs.iterdir())
    job = generate(client, preset="turbo-12")
    while job.status().code is not Status.IN_QUEUE:
        time.sleep(0.05)
    client.predict(api_name="/cancel_generate")
    other.predict(api_name="/cancel_generate")
    assert "Cancelled before it started" in job.result(WAIT)[1]
    assert "Cancelled at step" in first.result(WAIT)[1]
    assert set(server.outputs.iterdir()) == before


def test_only_outputs_are_served(server: Server) -> None:
    (picture, *_) = server.outputs.glob("*.png")
    assert status_of(f"{server.address}gradio_api/file={picture}") == 200
    library = server.outputs.with_name("outputs.sqlite")
    assert library.is_file()
    around = (
        f"{server.outputs}/../outputs.sqlite",
        f"{server.outputs}/%2e%2e/outputs.sqlite",
        f"{server.outputs}/..%2foutputs.sqlite",
    )
    for path in ("/etc/passwd", ROOT / "app.py", ROOT / "ideogram_q8/pocket/weights/traits.json", library, *around):
        assert status_of(f"{server.address}gradio_api/file={path}") in (403, 404), path


def test_an_oversized_upload_is_refused(server: Server) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + bytes(65 * 2**20) + b"\r\n--b--\r\n"
    )
    request = urllib.request.Request(
        server.address + "gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=b"}
    )
    try:
        urllib.request.urlopen(request, timeout=WAIT)
        refused = 0
    except urllib.error.HTTPError as error:
        refused = error.code
    except (urllib.error.URLError, ConnectionError):
        refused = 413  # it hung up before it had read everything
    assert refused == 413


def test_html_and_very_long_captions_are_text(client: Client) -> None:
    hostile = "<img src=x onerror=alert(1)> &amp; </script>"
    _, status, metadata, _ = generate(client, caption=hostile, preset="custom", steps=2).result(WAIT)
    assert "<img" not in status and hostile in metadata["caption"]
    with pytest.raises(AppError, match="expected at most 32768: shorten it"):
        generate(client, caption="a red house and " * 6400, preset="custom", steps=2).result(WAIT)


def test_many_clients_with_cancels_and_dropped_connections(server: Server) -> None:
    found = load(server.address, 8, 6)
    assert found["lost"] == 0 and found["answers_afterwards"], found
    assert sum(found["ends"].values()) == 8 and found["ends"]["picture"] >= 1 and found["ends"]["dropped"] >= 1


def test_a_dropped_connection_stops_the_work(server: Server) -> None:
    before = set(server.outputs.iterdir())
    assert Visitor(server.address, 1).run("drops", 200) == "dropped"
    assert alive(server.address)  # the next one has its turn long before 200 steps are over
    assert len(set(server.outputs.iterdir()) - before) == 1


@pytest.mark.skipif(importlib.util.find_spec("mcp") is None, reason="needs pip install 'gradio[mcp]'")
def test_the_mcp_server_offers_the_endpoints_as_tools(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "--mcp") as server,
        urllib.request.urlopen(f"{server.address}gradio_api/mcp/schema", timeout=WAIT) as answer,
    ):
        tools = {tool["name"]: tool for tool in json.load(answer)}
    made = next(tool for name, tool in tools.items() if name.endswith("generate") and "cancel" not in name)
    assert "Paint pictures with consecutive seeds" in made["description"]
    assert {"variant", "caption", "preset", "width", "height", "seed"} <= set(made["inputSchema"]["properties"])
