"""Writes fastavro.json: one value of every contract, written by a foreign Avro library in several variants.

full      every field set
minimal   nullable fields null, lists empty
stripped  by an older producer: its schema lacks every field that has a default
evolved   by a newer producer: another nullable field in the middle, and another symbol, which is used, in every enum

Run from the repository's root, with fastavro 1.13: python topologies/tests/golden/foreign_writer.py
"""

import copy
import datetime
import decimal
import io
import json
import pathlib
import uuid

import fastavro

ROOT = pathlib.Path("avro")
NOW = datetime.datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=datetime.timezone.utc)


def sample(node, full, named, evolved):
    if isinstance(node, list):
        return sample(node[1], full, named, evolved) if full else None
    if isinstance(node, str) and node in named:
        node = named[node]
    kind = node if isinstance(node, str) else node["type"]
    logical = None if isinstance(node, str) else node.get("logicalType")
    if logical == "uuid":
        return uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
    if logical == "timestamp-millis":
        return NOW
    if logical == "decimal":
        return decimal.Decimal("-1234567.89" if full else "1.28")
    if kind == "enum":
        named[node["name"]] = node
        return node["symbols"][-1]
    if kind == "record":
        return {f["name"]: sample(f["type"], full, named, evolved) for f in node["fields"]}
    if kind == "array":
        return [sample(node["items"], full, named, evolved)] * 3 if full else []
    if kind == "map":
        return {"ключ": sample(node["values"], full, named, evolved)} if full else {}
    return {"string": "Москва", "long": 2**40, "int": 7, "double": 2.5, "boolean": True}[kind]


def strip(schema):
    schema["fields"] = [f for f in schema["fields"] if "default" not in f]


def evolve(schema):
    for field in schema["fields"]:
        kind = field["type"]
        if isinstance(kind, dict) and kind["type"] == "enum":
            kind["symbols"].append("brand_new")
        if isinstance(kind, dict) and kind["type"] == "record":
            evolve(kind)
    schema["fields"].insert(1, {"name": "brand_new", "type": ["null", "string"], "default": None})


entries = []
for path in sorted(ROOT.glob("*/*.avsc")):
    original = json.loads(path.read_text())
    for variant in ("full", "minimal", "stripped", "evolved"):
        schema = copy.deepcopy(original)
        if variant == "stripped":
            strip(schema)
        if variant == "evolved":
            evolve(schema)
        value = sample(schema, variant != "minimal", {}, variant == "evolved")
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(copy.deepcopy(schema)), value)
        entries.append(
            {
                "topic": path.parent.name,
                "type": path.name.removesuffix(".avsc"),
                "variant": variant,
                "schema": json.dumps(schema, ensure_ascii=False),
                "hex": out.getvalue().hex(),
            }
        )

lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
(pathlib.Path(__file__).parent / "fastavro.json").write_text(f"[\n{lines}\n]\n")
