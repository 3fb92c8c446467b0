"""Publishes the first half of the messages with Publish, the second with PublishStream.

Ordering keys keep their order over the seam because the stream begins only after the last Publish was answered.
"""

import argparse
import threading
from collections.abc import Iterator

import grpc
from fanfare.v1.message_pb2 import Message
from fanfare.v1.publisher_pb2 import PublishRequest, PublishStreamRequest
from fanfare.v1.publisher_pb2_grpc import PublisherStub

BATCH_MESSAGES = 50
# Batches that may be without an answer on the stream.
WINDOW_BATCHES = 8
# A call that takes longer has hung: it then ends with DEADLINE_EXCEEDED.
CALL_TIMEOUT_S = 60


def publish(channel: grpc.Channel, options: argparse.Namespace) -> None:
    publisher = PublisherStub(channel)
    half = options.count // 2
    ids = publish_unary(publisher, options, range(half))
    ids |= publish_stream(publisher, options, range(half, options.count))
    print("OK", options.count, len(ids))


def publish_unary(publisher: PublisherStub, options: argparse.Namespace, numbers: range) -> set[str]:
    ids: set[str] = set()
    for messages in batches(options, numbers):
        request = PublishRequest(topic=options.topic, messages=messages)
        response = publisher.Publish(request, timeout=CALL_TIMEOUT_S)
        if len(response.message_ids) != len(messages):
            raise SystemExit(f"{len(response.message_ids)} ids for {len(messages)} messages")
        ids.update(response.message_ids)
    return ids


def publish_stream(publisher: PublisherStub, options: argparse.Namespace, numbers: range) -> set[str]:
    window = threading.Semaphore(WINDOW_BATCHES)

    # gRPC runs this on a thread of its own.
    def requests() -> Iterator[PublishStreamRequest]:
        topic = options.topic
        for number, messages in enumerate(batches(options, numbers)):
            # Bounded, for a thread that waits for ever would keep the process alive after an error.
            window.acquire(timeout=CALL_TIMEOUT_S)
            yield PublishStreamRequest(topic=topic, messages=messages, request_id=number)
            topic = ""  # The same as before.

    ids: set[str] = set()
    missing = len(numbers)
    for response in publisher.PublishStream(requests(), timeout=CALL_TIMEOUT_S):
        if response.HasField("error"):
            error = response.error
            raise SystemExit(f"batch {response.request_id} refused with code {error.code}: {error.message}")
        for run in response.runs:
            offsets = range(run.first_offset, run.first_offset + run.count)
            ids.update(f"{response.log_epoch}.{run.partition}-{offset}" for offset in offsets)
            missing -= run.count
        window.release()
    if missing:
        raise SystemExit(f"the publish stream ended with {missing} messages unanswered")
    return ids


def batches(options: argparse.Namespace, numbers: range) -> Iterator[list[Message]]:
    for first in range(0, len(numbers), BATCH_MESSAGES):
        yield [
            Message(
                data=f"{options.prefix}-{i}".encode(),
                ordering_key=f"k{i % options.key_mod}" if options.key_mod > 0 else "",
            )
            for i in numbers[first : first + BATCH_MESSAGES]
        ]
