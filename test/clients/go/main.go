// A small Fanfare client in Go: `publish` and `subscribe` over mutual TLS. Started by
// test/integration/foreign-clients.test.ts, which reads its standard output. The package gen is generated from proto/
// when the program is built.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"

	"fanfareclient/link"
)

// A run that takes longer has hung: every call then ends with DEADLINE_EXCEEDED.
const runTimeout = 60 * time.Second

type options struct {
	address, ca, cert, key string
	topic, subscription    string
	count, keyMod          int
	prefix                 string
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fanfareclient:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("say publish or subscribe")
	}
	var o options
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	flags.StringVar(&o.address, "address", "", "broker, `HOST:PORT`")
	flags.StringVar(&o.ca, "ca", "", "PEM `file` of the CA that signed the broker's certificate")
	flags.StringVar(&o.cert, "cert", "", "PEM `file` of the client's certificate")
	flags.StringVar(&o.key, "key", "", "PEM `file` of the client's private key")
	flags.IntVar(&o.count, "count", 0, "how many messages to publish or to wait for")
	var command func(context.Context, *grpc.ClientConn, options) error
	switch args[0] {
	case "publish":
		command = publish
		flags.StringVar(&o.topic, "topic", "", "projects/P/topics/T")
		flags.StringVar(&o.prefix, "prefix", "", "payloads are PREFIX-0, PREFIX-1, ...")
		flags.IntVar(&o.keyMod, "key-mod", 0, "with K > 0 message i has the ordering key k{i mod K}")
	case "subscribe":
		command = subscribe
		flags.StringVar(&o.subscription, "subscription", "", "projects/P/subscriptions/S")
	default:
		return fmt.Errorf("unknown command %q: say publish or subscribe", args[0])
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}

	connection, err := connect(o)
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	return command(ctx, connection, o)
}

func connect(o options) (*grpc.ClientConn, error) {
	secured, err := link.Credentials(o.ca, o.cert, o.key)
	if err != nil {
		return nil, err
	}
	return link.Open(o.address, secured)
}
