"""A small Fanfare client in Python: `publish` and `subscribe` over mutual TLS, and `drive` for the suite of what clients must do.

The package fanfare.v1 is generated from proto/ when the program is built.
"""

import argparse
import sys
from pathlib import Path

import grpc

from drive import drive
from publish import publish
from subscribe import subscribe


def main() -> int:
    if sys.argv[1:] == ["drive"]:
        return drive()
    options = parse_arguments()
    with connect(options) as channel:
        try:
            options.command(channel, options)
        except grpc.RpcError as error:
            print(f"fanfareclient: {error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    return 0


def parse_arguments() -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--address", required=True, metavar="HOST:PORT")
    common.add_argument("--ca", required=True, type=Path, help="PEM file of the CA of the broker's certificate")
    common.add_argument("--cert", required=True, type=Path, help="PEM file of the client's certificate")
    common.add_argument("--key", required=True, type=Path, help="PEM file of the client's private key")
    common.add_argument("--count", required=True, type=int, help="how many messages to publish or to wait for")

    parser = argparse.ArgumentParser(prog="fanfareclient")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("publish", parents=[common])
    command.set_defaults(command=publish)
    command.add_argument("--topic", required=True, metavar="projects/P/topics/T")
    command.add_argument("--prefix", required=True, help="payloads are PREFIX-0, PREFIX-1, ...")
    command.add_argument("--key-mod", type=int, default=0, help="with K > 0 message i has the ordering key k{i mod K}")
    command = commands.add_parser("subscribe", parents=[common])
    command.set_defaults(command=subscribe)
    command.add_argument("--subscription", required=True, metavar="projects/P/subscriptions/S")
    return parser.parse_args()


def connect(options: argparse.Namespace) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(
        root_certificates=options.ca.read_bytes(),
        private_key=options.key.read_bytes(),
        certificate_chain=options.cert.read_bytes(),
    )
    return grpc.secure_channel(options.address, credentials)


if __name__ == "__main__":
    sys.exit(main())
