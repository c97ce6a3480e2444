"""``python -m tests.screenshots``: make the pictures of the docs anew, with Chromium, of a sandbox with jobs in it.

``docs/temporal-cli.md`` and ``docs/cli.md`` show them. Nothing else here needs a browser.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import itertools
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

READY_SECONDS = 30.0


class Tab:
    """A tab of a browser, steered by the DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and return its result."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await asyncio.wait_for(self._socket.receive_json(), READY_SECONDS)
            if answer.get("id") == number:
                return dict(answer.get("result") or {})

    async def run(self, script: str) -> Any:
        """Run JavaScript in the page and return its value."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return result.get("result", {}).get("value")

    async def open(self, url: str, text: str, frames: int) -> None:
        """Open a page, and wait until it shows a text and has so many frames.

        Raises:
            TimeoutError: it does not.
        """
        await self.call("Page.navigate", url=url)
        ready = f"document.body.innerText.includes({text!r}) && document.querySelectorAll('iframe').length >= {frames}"
        for _ in range(int(READY_SECONDS / 0.2)):
            if await self.run(ready):
                await asyncio.sleep(1.5)  # fonts, and what is in the frames
                return
            await asyncio.sleep(0.2)
        raise TimeoutError(f"{url} does not show {text!r} and {frames} frames")

    async def shoot(self, file: Path, left: int, top: int, width: int, height: int) -> None:
        """Take a picture of a part of the window."""
        shot = await self.call(
            "Page.captureScreenshot",
            format="png",
            clip={
                "x": left,
                "y": top,
                "width": width,
                "height": height,
                "scale": 1,
            },
        )
        await asyncio.to_thread(file.write_bytes, base64.b64decode(shot["data"]))


@contextlib.asynccontextmanager
async def browser(width: int, height: int, *, dark: bool = False) -> AsyncIterator[Tab]:
    """Start Chromium with one tab."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("there is no Chromium on the path: apt install chromium")
    with tempfile.TemporaryDirectory() as profile:
        process = await asyncio.create_subprocess_exec(
            program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0",
            f"--user-data-dir={profile}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            port = await asyncio.wait_for(_port(process), READY_SECONDS)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    tabs = [each for each in await answer.json() if each["type"] == "page"]
                async with session.ws_connect(tabs[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    tab = Tab(socket)
                    await tab.call("Page.enable")
                    await tab.call(
                        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                        mobile=False,
                    )  # fmt: skip
                    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
                    await tab.call("Emulation.setEmulatedMedia", features=[scheme])
                    yield tab
        finally:
            process.terminate()
            await process.wait()


async def _port(process: asyncio.subprocess.Process) -> int:
    assert process.stderr is not None
    async for line in process.stderr:
        if found := re.search(rb"DevTools listening on ws://127\.0\.0\.1:(\d+)/", line):
            return int(found[1])
    raise RuntimeError("the browser ended")


async def shoot(arguments: argparse.Namespace) -> None:
    """Take one picture."""
    left, top = arguments.corner
    async with browser(arguments.width, arguments.height, dark=arguments.dark) as tab:
        await tab.open(arguments.url, arguments.text, arguments.frames)
        await tab.shoot(arguments.file, left, top, arguments.width - left, arguments.height - top)


def main() -> None:
    """Take a picture as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("file", type=Path)
    parser.add_argument("--text", default="", help="wait until the page shows this")
    parser.add_argument("--frames", type=int, default=0, help="and has so many frames: two if a card is shown")
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--corner", type=int, nargs=2, default=(0, 0), help="leave out what is left of it and above")
    parser.add_argument("--dark", action="store_true")
    asyncio.run(shoot(parser.parse_args()))


if __name__ == "__main__":
    main()
