"""`python -m tests.fuzz --seconds 60 --seed 1`: decodes damaged streams and counts what comes out.

Streams are made of the golden files and of hostile ones, which hold symbols that no picture gives.
A stream depends on those, on the seed and on its number alone. One whose only fault is its checksum
is decoded again with the right one, since a hostile writer can compute it. Streams that end in
anything but a picture or a plain refusal are findings: they are saved under --out with a note of
what happened, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from stfcodec.entropy import rans
from tests.fuzz.mutate import mutated
from tests.fuzz.worker import Verdict, serve, with_checksum

GOLDEN = Path(__file__).parents[1] / "golden"
HOSTILE = 24
WALL_SECONDS = 60
"""Of one stream: more than the CPU seconds that a worker has, for one that sleeps."""


class Worker:
    """A process that decodes, started anew after each death."""

    def __init__(self, golden: list[bytes], hostile_seed: str) -> None:
        self.golden = golden
        self.seeds = 2 * golden + self.start(hostile_seed, HOSTILE)

    def start(self, hostile_seed: str = "", hostile: int = 0) -> list[bytes]:
        """Returns so many hostile streams. Exits where a golden file does not decode."""
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        arguments = other, self.golden, hostile_seed, hostile
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        other.close()
        for verdict in self.connection.recv():
            if verdict.outcome != "picture" or verdict.finding:
                sys.exit(f"a golden file does not decode: {verdict}")
        return self.connection.recv()

    def decode(self, data: bytes, coder: str) -> Verdict:
        self.connection.send((data, coder))
        try:
            if self.connection.poll(WALL_SECONDS):
                verdict = self.connection.recv()
                if verdict.finding == "memory":  # the peak stays where it is
                    self.restart()
                return verdict
        except (EOFError, ConnectionError):
            pass
        return Verdict("death", self.restart(), 0, "died or hung")

    def restart(self) -> str:
        """Says how the process ended: by SIGXCPU where it was too slow."""
        self.process.join(1)
        code = self.process.exitcode
        self.process.kill()
        self.process.join()
        self.start()
        if code is None:
            return f"no answer in {WALL_SECONDS} s"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def stop(self) -> None:
        self.connection.send(None)
        self.process.join()


class Run:
    """One run of the fuzzer."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        golden = [path.read_bytes() for path in sorted(GOLDEN.glob("*.stf"))]
        self.worker = Worker(golden, f"{options.seed}/hostile")
        self.outcomes: Counter[str] = Counter()
        self.findings = 0
        self.compared = self.unlike = 0

    def numbers(self) -> Iterator[int]:
        end = time.monotonic() + self.options.seconds
        number = self.options.first
        while time.monotonic() < end and number - self.options.first < self.options.count:
            yield number
            number += 1

    def run(self) -> None:
        for number in self.numbers():
            rng = random.Random(f"{self.options.seed}/{number}")
            data = mutated(self.worker.seeds, rng)
            verdicts = [self.judge(data, coder, number) for coder in self.coders()]
            if self.options.compare:
                self.compare(verdicts, data, number)
        self.worker.stop()

    def coders(self) -> tuple[str, ...]:
        one = self.options.coder
        return ("python", "compiled") if one == "both" else (one,)

    def judge(self, data: bytes, coder: str, number: int) -> Verdict:
        """Decodes a stream, and once more where its checksum alone is wrong."""
        verdict = self.worker.decode(data, coder)
        self.note(verdict, data, f"{number}-{coder}")
        if "stream's checksum" in verdict.message:
            mended = with_checksum(data, verdict.symbols)
            again = self.worker.decode(mended, coder)
            self.note(again, mended, f"{number}-{coder}-mended")
        return verdict

    def note(self, verdict: Verdict, data: bytes, name: str) -> None:
        self.outcomes[verdict.outcome] += 1
        if self.options.messages:
            self.outcomes[f"  {verdict.message}"] += 1
        if verdict.finding:
            self.save(f"{verdict.finding}: {verdict.message}", data, name)

    def compare(self, verdicts: list[Verdict], data: bytes, number: int) -> None:
        """The coders agree where both refuse, or both find the same symbols."""
        self.compared += 1
        found = {verdict.symbols if verdict.outcome == "picture" else None for verdict in verdicts}
        if len(found) > 1:
            self.unlike += 1
            self.save(f"coders differ: {verdicts}", data, f"{number}-unlike")

    def save(self, text: str, data: bytes, name: str) -> None:
        self.findings += 1
        print(f"finding {self.options.seed}-{name}: {text}", flush=True)
        if self.options.out is not None:
            self.options.out.mkdir(parents=True, exist_ok=True)
            path = self.options.out / f"{self.options.seed}-{name}.stf"
            path.write_bytes(data)
            path.with_suffix(".json").write_text(json.dumps({"finding": text}), "utf-8")

    def report(self, seconds: float) -> str:
        streams = sum(self.outcomes.values())
        lines = [f"{streams} decodings in {seconds:.0f} s ({streams / seconds:.0f}/s)"]
        lines += [f"{count:8} {outcome}" for outcome, count in sorted(self.outcomes.items())]
        if self.compared:
            lines.append(f"coders differ on {self.unlike} of {self.compared}")
        return "\n".join([*lines, f"{self.findings} findings"])


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="time to stop after")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other streams")
    parser.add_argument("--count", type=int, default=1 << 62, help="streams to stop after")
    parser.add_argument("--first", type=int, default=0, help="number of the first stream")
    parser.add_argument("--out", type=Path, help="folder for findings")
    parser.add_argument("--coder", choices=("python", "compiled", "both"), default="both")
    parser.add_argument("--compare", action="store_true", help="a difference is a finding")
    parser.add_argument("--messages", action="store_true", help="count messages too")
    found = parser.parse_args()
    if rans.BACKEND == "python" and found.coder != "python":
        found.coder = "python"
        print("the compiled coder is not installed: the Python one runs alone")
    if found.compare and found.coder != "both":
        parser.error("--compare needs both coders")
    return found


def main() -> int:
    run, started = Run(options()), time.monotonic()
    run.run()
    print(run.report(time.monotonic() - started))
    return 1 if run.findings else 0


if __name__ == "__main__":
    sys.exit(main())
