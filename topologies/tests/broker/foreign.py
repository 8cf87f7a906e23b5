"""A foreign client: confluent-kafka with its own Avro serializers, on the real registry.

foreign.py write FILE    writes the events of a JSON file: a list of {topic, type, key, value, headers};
                         a value of null deletes; numbers with a fraction are decimals
foreign.py read TOPIC COUNT   prints the committed events of a topic, one JSON object a line, when there are COUNT
                              manager assignments among them
Services are found in KSTREAMS_TEST_BOOTSTRAP and KSTREAMS_TEST_REGISTRY.
"""

import datetime
import decimal
import json
import os
import pathlib
import sys
import time
import uuid

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

BOOTSTRAP = os.environ["KSTREAMS_TEST_BOOTSTRAP"]
REGISTRY = SchemaRegistryClient({"url": os.environ["KSTREAMS_TEST_REGISTRY"]})
CONTRACTS = pathlib.Path(__file__).resolve().parents[3] / "avro"
DEADLINE_SECONDS = 60


def write(path):
    serializers = {}
    failures = []
    producer = Producer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "partitioner": "murmur2_random",
            "acks": "all",
            "enable.idempotence": True,
        }
    )
    for event in json.loads(pathlib.Path(path).read_text(), parse_float=decimal.Decimal):
        topic, value = event["topic"], event["value"]
        contract = CONTRACTS / topic / (event["type"] + ".avsc")
        if contract not in serializers:
            serializers[contract] = AvroSerializer(
                REGISTRY,
                contract.read_text(),
                conf={
                    "auto.register.schemas": False,
                    "normalize.schemas": True,
                    "subject.name.strategy": topic_record_subject_name_strategy,
                },
            )
        context = SerializationContext(topic, MessageField.VALUE)
        producer.produce(
            topic,
            key=event["key"],
            value=None if value is None else serializers[contract](value, context),
            timestamp=(value or {}).get("timestamp", 0),
            headers=list(event.get("headers", {}).items()),
            on_delivery=lambda error, _: failures.append(error) if error else None,
        )
    producer.flush()
    if failures:
        sys.exit(f"not delivered: {failures}")


def plain(value):
    if isinstance(value, datetime.datetime):
        return round(value.timestamp() * 1000)
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"cannot show {value!r}")


def read(topic, count):
    deserialize = AvroDeserializer(REGISTRY)
    consumer = Consumer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": str(uuid.uuid4()),
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    partitions = consumer.list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    deadline = time.monotonic() + DEADLINE_SECONDS
    found, message = 0, None
    # A second of silence at the end shows what comes too much.
    while found < count or message is not None:
        message = consumer.poll(1)
        if message is None:
            if time.monotonic() > deadline:
                sys.exit(f"found {found} assignments, wanted {count}")
            continue
        if message.error():
            if message.error().code() == KafkaError._PARTITION_EOF:
                continue
            sys.exit(str(message.error()))
        context = SerializationContext(topic, MessageField.VALUE)
        value = deserialize(message.value(), context)
        found += value["event_type"] == "workflow.manager_assigned"
        headers = {name: text.decode() for name, text in message.headers() or []}
        shown = {
            "key": message.key().decode(),
            "timestamp": message.timestamp()[1],
            "headers": headers,
            "value": value,
        }
        print(json.dumps(shown, default=plain))


if sys.argv[1] == "write":
    write(sys.argv[2])
else:
    read(sys.argv[2], int(sys.argv[3]))
