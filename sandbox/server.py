"""A server of the sandbox's: a child process that is up once it answers a question by HTTP."""

from __future__ import annotations

import aiohttp

from sandbox.processes import Process


class Server:
    """One server. `question` is a URL that it answers with 200 once all of it serves."""

    def __init__(self, process: Process, question: str) -> None:
        self.process = process
        self._question = question

    async def up(self) -> None:
        """Start it; returns once it answers.

        Raises:
            SandboxError: where it ends early or is not ready in time.
        """
        await self.process.start()
        await self.process.ready(self._serves)

    async def down(self) -> None:
        """Stop it."""
        await self.process.stop()

    async def _serves(self) -> bool:
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(self._question) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
