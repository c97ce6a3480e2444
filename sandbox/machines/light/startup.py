"""google-startup-scripts.service: runs the metadata item ``startup-script`` at each boot, as the guest agent does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from sandbox.machines.light.processes import Processes


class StartupScript:
    """The unit that runs the startup script of one VM."""

    def __init__(
        self, root: Path, metadata: Mapping[str, str], processes: Processes, serial: Callable[[str], None]
    ) -> None:
        self._root = root
        self._metadata = metadata
        self._processes = processes
        self._serial = serial
        self.state = "inactive"
        """``activating`` while the script runs; afterwards a oneshot unit is ``inactive`` again, however it ended."""

    async def run(self) -> None:
        """Run the script to its end, with its output on the serial port."""
        script = self._metadata.get("startup-script", "")
        if not script.strip():
            self._say("No startup scripts to run.")
            return
        self.state = "activating"
        try:
            self._say("Starting startup scripts.")
            path = self._root / "tmp/metadata-scripts/startup-script"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(script)
            path.chmod(0o700)
            argv = [str(path)] if script.startswith("#!") else ["/bin/sh", str(path)]
            process = await self._processes.start(*argv)
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdin.close()
            await asyncio.gather(self._log(process.stdout), self._log(process.stderr))
            self._say(f"startup-script exit status {await process.wait()}")
        except OSError as error:
            self._say(f"startup-script failed to start: {error}")
        finally:
            self.state = "inactive"
        self._say("Finished running startup scripts.")

    async def _log(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self._say(f"startup-script: {line.decode(errors='replace').rstrip()}")

    def _say(self, line: str) -> None:
        self._serial(f"google_metadata_script_runner: {line}")
