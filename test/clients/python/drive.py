"""A driver for test/client-conformance: reads requests from standard input, writes answers and events to standard output.

It shows how little a client needs to pass the basic scenarios: a Publish call for each message, a thread that reads a
Subscribe stream, and a queue of what is to be said on it.
"""

import itertools
import json
import os
import queue
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc
from fanfare.v1.message_pb2 import Message, MessageRange
from fanfare.v1.publisher_pb2 import PublishRequest
from fanfare.v1.publisher_pb2_grpc import PublisherStub
from fanfare.v1.subscriber_pb2 import SubscribeRequest
from fanfare.v1.subscriber_pb2_grpc import SubscriberStub

SHOWN_CHARS = 1000
output_lock = threading.Lock()
deliveries = itertools.count(1)


def drive() -> NoReturn:
    driver = Driver()
    for line in sys.stdin:
        request = json.loads(line)
        driver.begin(request.pop("id"), request.pop("op"), request)
    # Not sys.exit: threads may still wait for a broker.
    os._exit(0)


class Driver:
    """What was connected and made, by the names that the suite has given it."""

    def __init__(self) -> None:
        self.channels: dict[str, tuple[grpc.Channel, str]] = {}
        self.publishers: dict[str, Publisher] = {}
        self.consumers: dict[str, Consumer] = {}

    def begin(self, id: int, op: str, request: dict) -> None:
        """Answers at once, or later from another thread."""
        try:
            getattr(self, re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), op))(Answer(id), **request)
        except Exception as error:  # Whatever it is, the suite is to hear of it.
            Answer(id).failed(error)

    def hello(self, answer: "Answer") -> None:
        answer.ok(protocol=1, client="Python", features=[])

    def connect(self, answer, client, address, tls=None, project="default", **_) -> None:
        credentials = grpc.ssl_channel_credentials(*(open(tls[part], "rb").read() for part in ("ca", "key", "cert")))
        self.channels[client] = (grpc.secure_channel(address, credentials), project)
        answer.ok()

    def publisher(self, answer, publisher, client, topic, **_) -> None:
        channel, project = self.channels[client]
        self.publishers[publisher] = Publisher(channel, f"projects/{project}/topics/{topic}")
        answer.ok()

    def publish(self, answer, publisher, messages) -> None:
        self.publishers[publisher].publish(answer, messages)

    def consume(self, answer, consumer, client, **request) -> None:
        channel, project = self.channels[client]
        self.consumers[consumer] = Consumer(channel, project, consumer, **request)
        answer.ok()

    def settle(self, answer, consumer, delivery, how) -> None:
        self.consumers[consumer].settle(delivery, how)
        answer.ok()

    def close_consumer(self, answer, consumer) -> None:
        self.consumers[consumer].close(answer)


class Publisher:
    """Publishes one message after the other, in the order of the requests."""

    def __init__(self, channel: grpc.Channel, topic: str) -> None:
        self.stub = PublisherStub(channel)
        self.topic = topic
        self.thread = ThreadPoolExecutor(max_workers=1)

    def publish(self, answer: "Answer", messages: list[dict]) -> None:
        self.thread.submit(lambda: answer.ok(outcomes=[self.outcome(message) for message in messages]))

    def outcome(self, message: dict) -> dict:
        data = b"x" * message["bytes"] if "bytes" in message else message.get("data", "").encode()
        outgoing = Message(data=data, ordering_key=message.get("key", ""), attributes=message.get("attributes", {}))
        try:
            response = self.stub.Publish(PublishRequest(topic=self.topic, messages=[outgoing]))
            return {"id": response.message_ids[0]}
        except grpc.RpcError as error:
            return failure(error)


class Consumer:
    """A thread that reads the stream and does with each message what the rules say."""

    def __init__(self, channel, project, name, subscription, mode, rules=(), clientId="", **limits) -> None:
        if mode != "loop":
            raise ValueError("there is only the loop")
        self.name = name
        self.rules = [dict(rule) for rule in rules]
        self.held: dict[int, MessageRange] = {}
        self.closing = False
        self.ended = threading.Event()
        # What gRPC's sending thread takes requests from; None ends our side of the stream.
        self.requests: queue.SimpleQueue[SubscribeRequest | None] = queue.SimpleQueue()
        self.requests.put(
            SubscribeRequest(
                subscription=f"projects/{project}/subscriptions/{subscription}",
                client_id=clientId,
                stream_ack_deadline_seconds=limits.get("ackDeadlineSeconds", 0),
                max_outstanding_messages=limits.get("maxOutstandingMessages", 0),
                max_outstanding_bytes=limits.get("maxOutstandingBytes", 0),
            )
        )
        responses = SubscriberStub(channel).Subscribe(iter(self.requests.get, None))
        threading.Thread(target=self.run, args=[responses], daemon=True).start()

    def run(self, responses) -> None:
        error = None
        try:
            for response in responses:
                for received in response.received_messages:
                    # After the close what was on its way is the next consumer's.
                    if not self.closing:
                        self.take(received)
        except grpc.RpcError as rpc_error:
            error = failure(rpc_error)
        self.requests.put(None)
        emit({"event": "ended", "consumer": self.name} | ({"error": error} if error else {}))
        self.ended.set()

    def take(self, received) -> None:
        delivery = next(deliveries)
        text = received.message.data.decode(errors="replace")
        emit(
            {
                "event": "message",
                "consumer": self.name,
                "delivery": delivery,
                "messageId": received.message.message_id,
                "data": text[:SHOWN_CHARS],
                "bytes": len(received.message.data),
                "key": received.message.ordering_key,
                "attributes": dict(received.message.attributes),
                "attempt": max(1, received.delivery_attempt),
            }
        )
        rule = self.rule_for(text)
        time.sleep(rule.get("waitMs", 0) / 1000)
        self.held[delivery] = range_of(received)
        if rule["action"] != "hold":
            self.settle(delivery, rule["action"])

    def rule_for(self, text: str) -> dict:
        for rule in self.rules:
            if rule.get("times", 1) > 0 and rule.get("data", text) == text:
                if "times" in rule:
                    rule["times"] -= 1
                return rule
        return {"action": "ack"}

    def settle(self, delivery: int, how: str) -> None:
        place = self.held.pop(delivery)
        emit({"event": "settled", "consumer": self.name, "delivery": delivery, "how": how})
        ranges = {"ack_ranges": [place]} if how == "ack" else {"nack_ranges": [place]}
        self.requests.put(SubscribeRequest(**ranges))

    def close(self, answer: "Answer") -> None:
        """Answers when the broker has ended the stream, and so has heard everything."""
        self.closing = True
        self.requests.put(None)
        threading.Thread(target=lambda: self.ended.wait() and answer.ok(), daemon=True).start()


class Answer:
    def __init__(self, id: int) -> None:
        self.id = id

    def ok(self, **answer) -> None:
        emit({"id": self.id, "ok": answer})

    def failed(self, error: Exception) -> None:
        emit({"id": self.id, "error": failure(error)})


def emit(value: dict) -> None:
    with output_lock:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


def failure(error: Exception) -> dict:
    if isinstance(error, grpc.RpcError):
        return {"code": error.code().name, "message": error.details() or ""}
    return {"code": "UNKNOWN", "message": repr(error)}


def range_of(received) -> MessageRange:
    """Reads an ack id, "{log_epoch}.{partition}-{offset}" and on a redelivery "-{delivery_attempt}"."""
    log_epoch, partition, offset = map(int, re.match(r"(\d+)\.(\d+)-(\d+)", received.ack_id).groups())
    attempt = max(1, received.delivery_attempt)
    return MessageRange(
        log_epoch=log_epoch,
        partition=partition,
        first_offset=offset,
        last_offset=offset,
        delivery_attempt=attempt,
    )
