"""An asyncio service whose handlers are instrumented: durations, failures, calls in flight, lag of the event loop.

    eval "$(trialstream env)"
    python examples/service.py

The service answers words with their length, over TCP. Each request is a task; the chronos of concurrent requests do not
mix. The script is its own client, and ends after 200 requests.
"""

from __future__ import annotations

import asyncio

import trialstream as ts

REQUESTS = 200


@ts.instrument(name="look_up")
async def look_up(word: str) -> int:
    """Stand for a slow request to a database."""
    await asyncio.sleep(0.005)
    if word == "":
        raise ValueError("an empty word has no length")
    return len(word)


@ts.instrument(name="handle")
async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request."""
    word = (await reader.readline()).decode().strip()
    try:
        answer = str(await look_up(word))
        ts.log({"length": float(answer)})
    except ValueError as error:
        answer = f"error: {error}"
    writer.write(f"{answer}\n".encode())
    await writer.drain()
    writer.close()


async def request(port: int, word: str) -> str:
    """Send a word to the service, and return its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{word}\n".encode())
    answer = await reader.readline()
    writer.close()
    return answer.decode().strip()


async def main() -> None:
    """Run the service and its client."""
    async with ts.track("word service", project="examples", capture=["event_loop"]) as t:
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            words = ["" if i % 50 == 0 else "x" * (i % 7 + 1) for i in range(REQUESTS)]
            answers = await asyncio.gather(*(request(port, word) for word in words))
        await t.commit("folded")
        [trial] = await t.protocol.fetch_trials(
            {"project_id": "examples", "name": "word service"}, sort="-created", limit=1
        )
    handled = trial.chronos["handle"]
    print(
        f"{len(answers)} answers, {handled.count + 1} handled, {trial.failed_chronos['look_up']} failed, "
        f"at most {trial.metrics['handle/in_flight'].max:.0f} at the same time"
    )


if __name__ == "__main__":
    asyncio.run(main())
