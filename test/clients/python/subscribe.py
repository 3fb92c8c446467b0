"""Prints messages until there were `count` different ones, then acknowledges the last by a call that confirms it and
ends the stream. Odd messages are acknowledged by id, even ones by range, so that both ways are tried.
"""

import argparse
import queue
import re
import sys

import grpc
from fanfare.v1.message_pb2 import MessageRange
from fanfare.v1.subscriber_pb2 import AcknowledgeRequest, SubscribeRequest
from fanfare.v1.subscriber_pb2_grpc import SubscriberStub

# Small, so that the broker has to wait for acknowledgements.
CREDIT_MESSAGES = 64
# A call that takes longer has hung: it then ends with DEADLINE_EXCEEDED.
CALL_TIMEOUT_S = 60


def subscribe(channel: grpc.Channel, options: argparse.Namespace) -> None:
    subscriber = SubscriberStub(channel)
    # What gRPC's sending thread takes requests from; None ends our side of the stream. A request goes in only after a
    # response came, so credit bounds it.
    requests: queue.SimpleQueue[SubscribeRequest | None] = queue.SimpleQueue()
    opening = SubscribeRequest(
        subscription=options.subscription, client_id="python", max_outstanding_messages=CREDIT_MESSAGES
    )
    requests.put(opening)
    responses = subscriber.Subscribe(iter(requests.get, None), timeout=CALL_TIMEOUT_S)
    try:
        receive(subscriber, options, requests, responses)
    finally:
        requests.put(None)  # On an error too, or the sending thread would keep the process alive.
    # Read to the end, so that a stream that ends with an error is noticed.
    for _ in responses:
        pass


def receive(subscriber, options, requests, responses) -> None:
    seen: set[str] = set()
    received = 0
    while len(seen) < options.count:
        response = next(responses, None)
        if response is None:
            raise SystemExit(f"the stream ended after {len(seen)} messages")
        ack_ids: list[str] = []
        ack_ranges: list[MessageRange] = []
        for message in response.received_messages:
            if len(seen) == options.count:
                break  # Not asked for: it stays unsettled and goes to the next consumer.
            if message.message.message_id not in seen:
                seen.add(message.message.message_id)
                sys.stdout.buffer.write(message.message.data + b"\n")
            received += 1
            if received % 2 == 1:
                ack_ids.append(message.ack_id)
            else:
                ack_ranges.append(range_of(message.ack_id))
        sys.stdout.flush()
        if len(seen) < options.count:
            requests.put(SubscribeRequest(ack_ids=ack_ids, ack_ranges=ack_ranges))
        else:
            last = AcknowledgeRequest(subscription=options.subscription, ack_ids=ack_ids, ack_ranges=ack_ranges)
            subscriber.Acknowledge(last, timeout=CALL_TIMEOUT_S)


def range_of(ack_id: str) -> MessageRange:
    """Reads an ack id, "{log_epoch}.{partition}-{offset}" and on a redelivery "-{delivery_attempt}", as the range of
    that one message.
    """
    match = re.fullmatch(r"(\d+)\.(\d+)-(\d+)(-\d+)?", ack_id)
    if match is None:
        raise SystemExit(f"unexpected ack id {ack_id!r}")
    log_epoch, partition, offset = (int(number) for number in match.groups()[:3])
    return MessageRange(log_epoch=log_epoch, partition=partition, first_offset=offset, last_offset=offset)
