"""Runs test executables that cargo has built, in two lanes side by side, since most of their time is spent waiting for services.

usage: run-tests.py MESSAGES
MESSAGES holds the lines of `cargo test --no-run --message-format=json-render-diagnostics`. Within a lane the order is cargo's; what a program prints is
shown whole when it has ended. Exits with 1 where one failed, and names them.
"""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time

# The application's topics have fixed names on the one broker: its tests never run side by side.
ALONE = "aggregator"


def executables(messages):
    """Package, name and path of each test program, and the folder that cargo would run it in."""
    for line in pathlib.Path(messages).read_text().splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
            folder = pathlib.Path(message["manifest_path"]).parent
            manifest = (folder / "Cargo.toml").read_text()
            package = manifest.split("[package]", 1)[1].split('name = "', 1)[1].split('"', 1)[0]
            yield package, message["target"]["name"], message["executable"], folder


def run(lane, failed, shown):
    for package, name, path, folder in lane:
        start = time.monotonic()
        environment = os.environ | {"CARGO_MANIFEST_DIR": str(folder)}
        done = subprocess.run([path], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with shown:
            print(f"\n     Running {package}: {name} ({time.monotonic() - start:.0f} s)", flush=True)
            sys.stdout.buffer.write(done.stdout)
            sys.stdout.flush()
        if done.returncode != 0:
            failed.append(f"{package}: {name} (status {done.returncode})")


def main():
    programs = sorted(executables(sys.argv[1]))
    if not programs:
        sys.exit(f"error: found no test program in {sys.argv[1]}")
    first = [p for p in programs if p[0] == ALONE]
    second = [p for p in programs if p[0] != ALONE]
    failed, shown = [], threading.Lock()
    lanes = [threading.Thread(target=run, args=(lane, failed, shown)) for lane in (first, second)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    if failed:
        sys.exit("error: tests failed: " + ", ".join(sorted(failed)))


main()
