#!/usr/bin/env python3
"""Divides every time of alert rules by a factor, a second at least: to try in a minute what takes an hour.

usage: scale.py FACTOR < alerts.yml > shortened.yml

Times are `for:`, ranges in brackets and offsets; limits, such as 30 s of lag, stay what they are. Scrape and evaluate every second then.
"""
import re
import sys

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
TIME = re.compile(r"(?P<before>\bfor: |\[|\boffset )(?P<number>\d+)(?P<unit>[smhd])\b")


def shortened(match, factor):
    seconds = int(match["number"]) * SECONDS[match["unit"]]
    return f"{match['before']}{max(1, round(seconds / factor))}s"


def main():
    if len(sys.argv) != 2 or not sys.argv[1].isdigit() or int(sys.argv[1]) < 1:
        sys.exit(__doc__)
    factor = int(sys.argv[1])
    sys.stdout.write(TIME.sub(lambda match: shortened(match, factor), sys.stdin.read()))


if __name__ == "__main__":
    main()
