#!/usr/bin/env python3
"""A bidder that uses the decisions of Aimpoint.

  bidder.py lookup USER          ask `aimpoint serve` for a user's decision
  bidder.py enrich <request.json  have a bid request enriched by `aimpoint serve`
  bidder.py follow USER          keep all decisions in memory, from the topic, and say what changes for a user

USER is the key of a record: the id of a person, or device:ID, app:ID. The environment says where everything is:
SERVE (http://127.0.0.1:9470), SERVE_TOKEN, TIMEOUT_MS (10), KAFKA (localhost:9092), TOPIC (decisions).

`follow` needs confluent-kafka (requirements.txt); the others need nothing but Python. If there is no answer in time, the
bidder goes on without a decision: it never waits for one.
"""
import http.client
import json
import os
import sys
import time
import urllib.parse

TIMEOUT_S = int(os.environ.get("TIMEOUT_MS", "10")) / 1000


class Serve:
    """`aimpoint serve`, over one connection that stays open. A bidder has one for each of its threads."""

    def __init__(self):
        address = urllib.parse.urlsplit(os.environ.get("SERVE", "http://127.0.0.1:9470"))
        # With https, SSL_CERT_FILE names the authorities to trust if the system's are not those.
        secure = address.scheme == "https"
        connection = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self.connection = connection(address.hostname, address.port, timeout=TIMEOUT_S)
        token = os.environ.get("SERVE_TOKEN")
        self.headers = {"authorization": f"Bearer {token}"} if token else {}

    def ask(self, method, path, body=None):
        """Status, headers and body; None if there is no answer in time."""
        try:
            self.connection.request(method, path, body, self.headers)
            response = self.connection.getresponse()
            return response.status, response.headers, response.read()
        except (OSError, http.client.HTTPException):
            # The next request opens a new connection, so that a late answer is not taken for its own.
            self.connection.close()
            return None


def in_words(user, decision):
    """What a bidder needs of a decision."""
    if decision is None:
        return f"{user}: nothing is known"
    # Integers of 64 bits are strings in the JSON of Protobuf. Times are in microseconds since 1970.
    if int(decision.get("expires_at", 0)) <= time.time_ns() // 1000:
        return f"{user}: expired"
    segments = ", ".join(segment["id"] for segment in decision.get("segments", [])) or "no segment"
    bid = "no bid"
    # Best first. Prices are in millionths, per thousand impressions.
    for offer in decision.get("campaigns", [])[:1]:
        micros = int(offer.get("shaded_micros", 0)) or int(offer.get("bid_micros", 0))
        bid = f"bid {micros / 1e6:.2f} {offer['currency']} for {offer['id']}"
    return f"{user}: in {segments}; {bid}"


def lookup(user):
    """Asks for a user."""
    answer = Serve().ask("GET", "/v1/decisions/" + urllib.parse.quote(user, safe=""))
    status, body = (answer[0], answer[2]) if answer else (None, b"")
    if status == 200:
        print(in_words(user, json.loads(body)))
    elif status == 410:
        print(f"{user}: expired")
    elif status == 404:
        print(in_words(user, None))
    else:
        # Overloaded (429), not permitted (401), or nobody is there.
        sys.exit(f"{user}: no answer ({status})")


def enrich(request):
    """Has a bid request enriched. Without an answer, the bidder bids on it as it is."""
    answer = Serve().ask("POST", "/openrtb2/enrich", request)
    if answer and answer[0] == 200:
        print("outcome:", answer[1]["aimpoint-outcome"], file=sys.stderr)
        request = answer[2]
    else:
        print("outcome: no answer", file=sys.stderr)
    sys.stdout.buffer.write(request)


def follow(user):
    """Reads the whole topic, then follows it."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

    topic = os.environ.get("TOPIC", "decisions")
    consumer = Consumer({
        "bootstrap.servers": os.environ.get("KAFKA", "localhost:9092"),
        # Every process needs all decisions. So it takes the partitions itself, and does not join this group.
        "group.id": "bidder",
        "enable.auto.commit": False,
        # Only what was committed: each event has one decision.
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
    })
    behind = set(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in behind])
    latest = {}
    while True:
        message = consumer.poll(1.0)
        if message is None:
            continue
        is_news = message.error() is None and message.key() == user.encode()
        if message.error() is None:
            if message.value() is None:
                # The user was erased.
                latest.pop(message.key(), None)
            else:
                try:
                    latest[message.key()] = json.loads(message.value())
                except ValueError:
                    is_news = False
                    place = f"{topic}/{message.partition()} offset {message.offset()}"
                    print(f"{place}: no JSON; this example needs decision.format = json", file=sys.stderr)
        elif message.error().code() != KafkaError._PARTITION_EOF:
            # The client tries again by itself.
            print(f"read {topic}: {message.error()}", file=sys.stderr)
        elif behind:
            behind.discard(message.partition())
            is_news = not behind
        # While it is behind, a later decision may follow.
        if is_news and not behind:
            print(in_words(user, latest.get(user.encode())), flush=True)


def main(arguments):
    """Runs a command."""
    match arguments:
        case ["lookup", user]:
            lookup(user)
        case ["enrich"]:
            enrich(sys.stdin.buffer.read())
        case ["follow", user]:
            follow(user)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
